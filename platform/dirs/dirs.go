// Package dirs says where Stile's files live on this system, and writes them
// so that a crash leaves the old or the new content, never half of it.
package dirs

import (
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile replaces path by data atomically: temporary file in the same
// folder, fsync, rename. The folder is created with mode 0700 if it is missing.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return replace(path, data, mode, os.CreateTemp)
}

// replace is the rest of WriteFile, once there is a folder; create makes the
// temporary file.
func replace(path string, data []byte, mode os.FileMode, create func(dir, pattern string) (*os.File, error)) error {
	dir := filepath.Dir(path)
	f, err := create(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // fails, as it should, after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if d, err := os.Open(dir); err == nil { // the rename itself must survive a power cut
		d.Sync()
		d.Close()
	}
	return nil
}
