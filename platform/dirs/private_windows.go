package dirs

import (
	"io/fs"
	"os"
	"path/filepath"
)

// private trusts the user's profile: the system lets only the user, SYSTEM and
// administrators into it.
func private(string, fs.FileInfo) error { return nil }

// Session is the folder of what lives as long as the user is logged in: locks
// and names of pipes.
func Session() string { return filepath.Join(os.Getenv("LocalAppData"), "stile", "data") }
