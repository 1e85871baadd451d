// Package machine tells who this machine is: its name, its system, and an
// identifier that stays the same over restarts and reinstallation.
package machine

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"stile/platform/dirs"
)

// idFile holds {"id":"…"} in the state folder.
const idFile = "device-id.json"

// maxID is the longest identifier a portal takes (spec portal.md 1.2).
const maxID = 255

// An OS is what a User-Agent says about the system (spec portal.md 1.4).
type OS struct {
	Name, Version string // "Debian GNU/Linux", "12.0.0"
	Arch          string // "x86_64", "aarch64"
	Kernel        string // "6.8.0-45-generic"; "" where it says nothing
}

// Describe returns what the system says of itself. What it does not say is
// "unknown" or empty, never an error.
func Describe() OS { return describe() }

// Hostname is the machine's name, or "unknown".
func Hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "unknown"
}

// DeviceID returns this machine's identifier, in this order: the one stored in
// folder state, one derived from the system's own machine id (not stored, so
// that copies of the folder do not share it), a new random one, which is
// stored (spec desktop-client.md 19).
func DeviceID(state string, log *slog.Logger) (string, error) {
	path := filepath.Join(state, idFile)
	text, err := os.ReadFile(path)
	if err == nil {
		var stored struct{ ID string }
		if err := json.Unmarshal(text, &stored); err == nil && usable(stored.ID) {
			return stored.ID, nil
		}
		aside := path + ".bad"
		log.Warn("the stored device id is unreadable and was put aside", "file", path, "aside", aside)
		if err := os.Rename(path, aside); err != nil {
			return "", fmt.Errorf("put the unreadable device id aside: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the device id: %w", err)
	}
	if id := systemID(); id != "" {
		return derive(id), nil
	}
	random := make([]byte, sha256.Size)
	rand.Read(random)
	id := hex.EncodeToString(random)
	text, _ = json.Marshal(map[string]string{"id": id})
	if err := dirs.WriteFile(path, append(text, '\n'), 0o640); err != nil {
		return "", fmt.Errorf("store the device id: %w", err)
	}
	return id, nil
}

// derive keeps the system's machine id, which is meant to be confidential,
// from leaving the machine.
func derive(machineID string) string {
	mac := hmac.New(sha256.New, []byte("stile device id"))
	mac.Write([]byte(machineID))
	return hex.EncodeToString(mac.Sum(nil))
}

func usable(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
}
