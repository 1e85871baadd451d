//go:build amd64 || arm64

// Package prefetch asks the processor for memory before it is needed.
package prefetch

import "unsafe"

// Line asks for the line of the cache that p points into, and does not wait for
// it. Nothing that the program can see changes, wherever p points.
//
//go:noescape
func Line(p unsafe.Pointer)

// Lines asks for the lines of the cache that all of p point into, and does not
// wait for them: for as many at once as the processor can.
//
//go:noescape
func Lines(p []unsafe.Pointer)
