//go:build !linux

package route

import "errors"

func set(string, Config) error { return errors.ErrUnsupported }
func refresh() error           { return errors.ErrUnsupported }
func restore() error           { return nil }
