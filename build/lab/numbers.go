//go:build linux

package main

import (
	"cmp"
	"io"
	"os"
	"slices"
	"strings"
)

// median returns the middle of the values, the lower one of two.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// tail returns the last lines of a log, each on a line of its own, to end an
// error message with. It leaves the place where the log is written to.
func tail(log *os.File, lines int) string {
	if log == nil {
		return ""
	}
	info, err := log.Stat()
	if err != nil {
		return ""
	}
	const enough = 16 << 10
	text, err := io.ReadAll(io.NewSectionReader(log, max(0, info.Size()-enough), enough))
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "\n" + log.Name() + " ends with:\n  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}
