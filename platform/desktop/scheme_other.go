//go:build !linux && !windows

package desktop

import "errors"

func register(string) error                     { return errors.ErrUnsupported }
func unregister() error                         { return errors.ErrUnsupported }
func startsAtLogin([]string) (Autostart, error) { return Absent, errors.ErrUnsupported }
func startAtLogin(bool, []string) error         { return errors.ErrUnsupported }
