package ipcsock

import (
	"os"
	"path/filepath"
)

// Installed returns where a program of ours is installed: beside this one.
func Installed(name string) []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{filepath.Join(filepath.Dir(self), name+".exe")}
}
