//go:build !windows

package dirs

import (
	"errors"
	"os"
	"path/filepath"
)

// UserConfig, UserData and UserLogs are where the programs of a user keep
// settings, what must survive, and logs (spec desktop-client.md 18.1). They may
// not exist yet.
func UserConfig() (string, error) { return userDir("XDG_CONFIG_HOME", ".config", "config") }
func UserData() (string, error)   { return userDir("XDG_DATA_HOME", ".local/share", "data") }
func UserLogs() (string, error)   { return userDir("XDG_CACHE_HOME", ".cache", "logs") }

// userDir is a folder of ours below the base folder that variable names, or
// below standard in the user's home (XDG Base Directory Specification).
func userDir(variable, standard, name string) (string, error) {
	if base := os.Getenv(variable); filepath.IsAbs(base) {
		return filepath.Join(base, "stile", name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", errors.New("nobody knows where your home is: set HOME")
	}
	return filepath.Join(home, standard, "stile", name), nil
}
