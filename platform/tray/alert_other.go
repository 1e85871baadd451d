//go:build !linux && !windows

package tray

import "context"

// Alert shows nothing on this system.
func Alert(context.Context, Config, Note) {}
