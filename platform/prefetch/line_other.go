//go:build !amd64 && !arm64

// Package prefetch asks the processor for memory before it is needed.
package prefetch

import "unsafe"

// Line does nothing on this processor: memory is waited for when it is needed.
func Line(unsafe.Pointer) {}

// Lines does nothing on this processor.
func Lines([]unsafe.Pointer) {}
