package dirs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Private makes the folder at path, and those above it, unless it exists, and
// makes sure that it is one in which nobody but this user can make or read a
// file.
func Private(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make a private folder: %w", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make a private folder: %w", err)
	}
	info, err := os.Lstat(path) // a link may lead anywhere, tomorrow
	if err != nil {
		return fmt.Errorf("make a private folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder: remove it, and start again", path)
	}
	return private(path, info)
}
