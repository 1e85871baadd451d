// Package keystore keeps secrets at rest: token files that only root may read.
package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"stile/platform/dirs"
)

// ErrNoToken means that neither environment nor file holds a token: the user
// has to sign in, or an administrator has to make one.
var ErrNoToken = errors.New("no token")

// maxToken is the longest token we take; an HTTP header must hold it.
const maxToken = 8 << 10

// FromEnvironment returns the token of the first of the named variables that
// is set, and removes all of them, so that no child and no later reader of
// /proc sees it. A value that is an absolute path names a file instead, as
// container secrets do. The result is ErrNoToken if none is set.
func FromEnvironment(names ...string) (string, error) {
	value := ""
	for _, name := range names {
		if v, set := os.LookupEnv(name); set {
			os.Unsetenv(name)
			if value == "" {
				value = v
			}
		}
	}
	if value = clean(value); value == "" {
		return "", ErrNoToken
	}
	if strings.HasPrefix(value, "/") {
		return FromFile(value)
	}
	return value, nil
}

// FromFile reads a token file. It must belong to root, or to the user we run
// as, and be readable by nobody else. The result is ErrNoToken if the file does
// not exist or is empty.
func FromFile(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s does not exist", ErrNoToken, path)
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxToken {
		return "", fmt.Errorf("%s is not a token file", path)
	}
	if err := private(info); err != nil {
		return "", fmt.Errorf("%s %w; run: chown root:root %s && chmod 0600 %s", path, err, path, path)
	}
	text := make([]byte, info.Size())
	if _, err := f.ReadAt(text, 0); err != nil && len(text) > 0 {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := clean(string(text))
	if token == "" {
		return "", fmt.Errorf("%w: %s is empty", ErrNoToken, path)
	}
	return token, nil
}

// Store writes a token file that only we may read, atomically.
func Store(path, token string) error { return dirs.WriteFile(path, []byte(clean(token)+"\n"), 0o600) }

// Delete removes a token file; it is no error if there is none.
func Delete(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete the token: %w", err)
	}
	return nil
}

// clean removes all white space: tokens are pasted (spec portal.md 7).
func clean(token string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, token)
}
