package desktop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"stile/platform/dirs"
)

const (
	schemeEntry = "stile-url.desktop" // our file, and its ID
	loginEntry  = "stile.desktop"
	toolTime    = 10 * time.Second // for xdg-mime, a shell script, on a busy machine
	maxEntry    = 64 << 10         // bytes of a file of the desktop's that we read
)

// register writes a desktop entry and makes it the default for its schemes.
func register(program string) error {
	apps, err := userDir("XDG_DATA_HOME", ".local/share")
	if err != nil {
		return err
	}
	apps = filepath.Join(apps, "applications")
	var mime strings.Builder
	for _, s := range Schemes {
		mime.WriteString("x-scheme-handler/" + s + ";")
	}
	entry := "[Desktop Entry]\nType=Application\nName=Stile\nComment=Takes you back from the sign-in page\nNoDisplay=true\nTerminal=false\nStartupNotify=false\n" +
		"MimeType=" + mime.String() + "\nExec=" + commandLine([]string{program, openCommand}) + " %u\n"
	path := filepath.Join(apps, schemeEntry)
	have, _ := read(path)
	if string(have) == entry && isDefault() {
		return nil // without starting four programs
	}
	if err := dirs.WriteFile(path, []byte(entry), 0o644); err != nil {
		return err
	}
	run("update-desktop-database", apps) // a cache, which some desktops do without
	types := []string{"default", schemeEntry}
	for _, s := range Schemes {
		types = append(types, "x-scheme-handler/"+s)
	}
	return run("xdg-mime", types...)
}

// isDefault reports whether the user's file of defaults names our entry for all
// schemes.
func isDefault() bool {
	path, err := mimeapps()
	if err != nil {
		return false
	}
	text, _ := read(path)
	section, found := "", 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		key, value, _ := strings.Cut(line, "=")
		if scheme, is := strings.CutPrefix(key, "x-scheme-handler/"); is && section == "[Default Applications]" && isOurs(scheme) && strings.TrimSuffix(value, ";") == schemeEntry {
			found++
		}
	}
	return found == len(Schemes)
}

func isOurs(scheme string) bool {
	for _, s := range Schemes {
		if s == scheme {
			return true
		}
	}
	return false
}

// unregister removes our entry, and its name from the file of defaults: there is
// no tool for that.
func unregister() error {
	apps, err := userDir("XDG_DATA_HOME", ".local/share")
	if err != nil {
		return err
	}
	apps = filepath.Join(apps, "applications")
	if err := os.Remove(filepath.Join(apps, schemeEntry)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	run("update-desktop-database", apps)
	path, err := mimeapps()
	if err != nil {
		return err
	}
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if rest := without(text, schemeEntry); !bytes.Equal(rest, text) {
		return dirs.WriteFile(path, rest, 0o644)
	}
	return nil
}

// without takes an entry out of a file of defaults, and the lines that are empty
// without it.
func without(text []byte, entry string) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		key, value, isPair := strings.Cut(strings.TrimRight(string(line), "\r\n"), "=")
		if !isPair || !strings.Contains(value, entry) {
			out.Write(line)
			continue
		}
		var rest []string
		for _, id := range strings.Split(value, ";") {
			if id != "" && id != entry {
				rest = append(rest, id)
			}
		}
		if len(rest) > 0 {
			fmt.Fprintf(&out, "%s=%s;\n", key, strings.Join(rest, ";"))
		}
	}
	return out.Bytes()
}

// mimeapps is the file of what the user opens with what.
func mimeapps() (string, error) {
	dir, err := userDir("XDG_CONFIG_HOME", ".config")
	return filepath.Join(dir, "mimeapps.list"), err
}

func loginFile() (string, error) {
	dir, err := userDir("XDG_CONFIG_HOME", ".config")
	return filepath.Join(dir, "autostart", loginEntry), err
}

func startsAtLogin(command []string) (Autostart, error) {
	path, err := loginFile()
	if err != nil {
		return Absent, err
	}
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Absent, nil
	}
	if err != nil {
		return Absent, err
	}
	state := Outdated
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case key == "Hidden" && value == "true", key == "X-GNOME-Autostart-enabled" && value == "false":
			return Off, nil
		case key == "Exec" && value == commandLine(command):
			state = On
		}
	}
	return state, nil
}

// startAtLogin writes a file of our own rather than a link to a package's: it
// works without a package, and outlives one that moves.
func startAtLogin(on bool, command []string) error {
	path, err := loginFile()
	if err != nil {
		return err
	}
	if !on {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if now, err := startsAtLogin(command); now == On && err == nil {
		return nil
	}
	return dirs.WriteFile(path, []byte("[Desktop Entry]\nType=Application\nName=Stile\nComment=Shows the tunnel to private resources\n"+
		"Terminal=false\nStartupNotify=false\nX-GNOME-Autostart-enabled=true\nExec="+commandLine(command)+"\n"), 0o644)
}

// userDir is one of the XDG base directories.
func userDir(variable, below string) (string, error) {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err == nil && !filepath.IsAbs(home) {
		err = fmt.Errorf("$HOME is %q, which is no folder", home)
	}
	return filepath.Join(home, below), err
}

// commandLine writes words as the Exec key of a desktop entry has them. Words
// that need no quotes get none: xdg-open, where it has no desktop to ask, does
// not understand them.
func commandLine(words []string) string {
	var quoted []string
	for _, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\><~|&;$*?#()`") {
			w = `"` + strings.NewReplacer(`"`, `\"`, "`", "\\`", `$`, `\$`, `\`, `\\`).Replace(w) + `"`
		}
		// The second round of escapes is that of all strings in such a file.
		w = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`).Replace(w)
		quoted = append(quoted, strings.ReplaceAll(w, "%", "%%"))
	}
	return strings.Join(quoted, " ")
}

// run starts a tool of the desktop's and waits for it.
func run(tool string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	if out, err := exec.CommandContext(ctx, tool, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w %.200s", tool, err, bytes.TrimSpace(out))
	}
	return nil
}

// read reads a small file.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxEntry {
		return nil, fmt.Errorf("%s is not a file of the kind that belongs there", path)
	}
	return os.ReadFile(path)
}
