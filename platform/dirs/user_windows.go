package dirs

import (
	"os"
	"path/filepath"
)

// UserConfig, UserData and UserLogs are where the programs of a user keep
// settings, what must survive, and logs (spec desktop-client.md 18.2). They may
// not exist yet.
func UserConfig() (string, error) { return userDir("config") }
func UserData() (string, error)   { return userDir("data") }
func UserLogs() (string, error)   { return userDir(filepath.Join("data", "logs")) }

func userDir(name string) (string, error) {
	base, err := os.UserCacheDir() // %LOCALAPPDATA%
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "stile", name), nil
}
