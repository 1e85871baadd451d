//go:build !linux

package dnsctl

import (
	"errors"
	"log/slog"
)

var files []string

var errReadOnly = errors.New("read-only file system")

func newControl(Mode, *slog.Logger) (Control, error) { return nil, errors.ErrUnsupported }

// Restore undoes what any earlier run has left behind: nothing, here.
func Restore(*slog.Logger) error { return nil }
