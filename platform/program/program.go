// Package program is the running program itself: where its file is, and how it
// starts anew.
package program

import (
	"fmt"
	"os"
	"strings"
)

// Path is where the program's file is, also after an update replaced it.
func Path() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's file: %w", err)
	}
	return strings.TrimSuffix(path, " (deleted)"), nil // as Linux says of a file that was replaced
}

// Restart starts the version that is installed, with args and without the
// program's name, in place of this process. It returns only if that fails, or
// where the new one runs beside: then the caller ends.
func Restart(args ...string) error {
	path, err := Path()
	if err == nil {
		err = restart(path, args)
	}
	if err != nil {
		return fmt.Errorf("start the program anew: %w", err)
	}
	return nil
}
