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
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"stile/platform/dirs"
)

// idFile holds {"id":"…"} in the state folder.
const idFile = "device-id.json"

const (
	maxID   = 255     // the longest identifier a portal takes, in bytes (spec portal.md 1.2)
	maxFile = 4 << 10 // bytes of its file
)

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
	const advice = "name another folder with --state-dir, or an identifier with --id"
	path := filepath.Join(state, idFile)
	text, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("read the device id: %w; run as root, or %s", err, advice)
	case err != nil:
		return "", fmt.Errorf("read the device id: %w; %s", err, advice)
	default:
		id, err := parseID(text)
		if err == nil {
			return id, nil
		}
		aside := path + ".bad"
		if err := os.Rename(path, aside); err != nil {
			return "", fmt.Errorf("put the unreadable device id aside: %w; delete it, or %s", err, advice)
		}
		log.Warn("the stored device id is unreadable and was put aside", "file", path, "aside", aside, "error", err)
	}
	if id := systemID(); id != "" {
		return derive(id), nil
	}
	random := make([]byte, sha256.Size)
	rand.Read(random)
	id := hex.EncodeToString(random)
	text, _ = json.Marshal(map[string]string{"id": id})
	if err := dirs.WriteFile(path, append(text, '\n'), 0o640); err != nil {
		return "", fmt.Errorf("store the device id: %w; %s", err, advice)
	}
	return id, nil
}

// readFile reads the file of the device id. What is no file, such as a folder,
// reads as an empty one.
func readFile(path string) ([]byte, error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

func parseID(text []byte) (string, error) {
	var stored struct{ ID string }
	if err := json.Unmarshal(text, &stored); err != nil {
		return "", err
	}
	if !usable(stored.ID) {
		return "", fmt.Errorf("%.40q is no identifier", stored.ID)
	}
	return stored.ID, nil
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

// Vitals is what the system says of its age, load and memory, for people; nil if
// it says nothing.
func Vitals() []byte { return vitals() }
