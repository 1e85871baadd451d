//go:build !linux

package forward

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Forwarding is not available on this system.
type Forwarding struct{ cfg Config }

// Enable returns [errors.ErrUnsupported].
func (f *Forwarding) Enable() error { return errors.ErrUnsupported }

// Run waits until ctx ends.
func (f *Forwarding) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Check finds nothing.
func (f *Forwarding) Check() []Problem { return nil }

// Hold does nothing.
func (f *Forwarding) Hold(time.Duration) error { return nil }

// Close does nothing.
func (f *Forwarding) Close() error { return nil }

// Restore finds nothing to undo.
func Restore(*slog.Logger) error { return nil }

// Recover finds nothing to undo.
func Recover(*slog.Logger) error { return nil }

// Conntrack returns [errors.ErrUnsupported].
func Conntrack() (Tracked, error) { return Tracked{}, errors.ErrUnsupported }
