//go:build !linux

package forward

import (
	"errors"
	"log/slog"
)

func enable(string, *slog.Logger) error { return errors.ErrUnsupported }
func restore(*slog.Logger) error        { return nil }
