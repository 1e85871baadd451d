//go:build !windows

package ipcsock

import (
	"os"
	"path/filepath"
)

// Installed returns where a program of ours is installed: beside this one, or
// where packages put it.
func Installed(name string) []string {
	paths := []string{"/usr/bin/" + name, "/usr/local/bin/" + name}
	if self, err := os.Executable(); err == nil {
		paths = append([]string{filepath.Join(filepath.Dir(self), name)}, paths...)
	}
	return paths
}
