//go:build !linux && !windows

package tray

import "context"

// A Tray cannot be had on this system.
type Tray struct{}

func New(Config) (*Tray, error)         { return nil, ErrNoDesktop }
func (*Tray) Run(context.Context) error { return ErrNoDesktop }
func (*Tray) Show(Look)                 {}
func (*Tray) Notify(Note)               {}
