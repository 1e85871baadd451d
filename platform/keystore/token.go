// Package keystore keeps secrets at rest: token files that only root may read,
// and the user's own store of secrets where the desktop has one.
package keystore

import (
	"errors"
	"fmt"
	"io"
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
	if len(value) > maxToken || !sendable(value) {
		return "", fmt.Errorf("%s holds no token: set it to the token as it was printed", strings.Join(names, " or "))
	}
	return value, nil
}

// FromFile reads a token file. It must belong to root, or to the user we run
// as, and be readable by nobody else. The result is ErrNoToken if the file does
// not exist or is empty.
func FromFile(path string) (string, error) {
	f, err := open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %s does not exist", ErrNoToken, path)
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("read the token: %w; run as root", err)
	case err != nil:
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer f.Close()
	if err := private(f); err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := clean(string(text))
	if token == "" {
		return "", fmt.Errorf("%w: %s is empty", ErrNoToken, path)
	}
	if len(text) > maxToken || !sendable(token) {
		return "", fmt.Errorf("%s %w", path, errNoTokenFile)
	}
	return token, nil
}

var errNoTokenFile = errors.New("is not a token file: put the token into it as it was printed, and nothing else")

// open opens a file. To open a pipe may take for ever.
func open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s %w", path, errNoTokenFile)
	}
	return os.Open(path)
}

// sendable reports whether a header can carry token.
func sendable(token string) bool {
	return !strings.ContainsFunc(token, func(r rune) bool { return r < '!' || r > '~' })
}

// Store writes a token file that only we may read, atomically.
func Store(path, token string) error { return dirs.WriteSecret(path, []byte(clean(token)+"\n")) }

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
