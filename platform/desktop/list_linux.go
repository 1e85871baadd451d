package desktop

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"stile/platform/dirs"
)

const (
	listEntry = "stile.desktop" // also a package's
	ownEntry  = "X-Stile-Own=true"
)

// listed are the files of List: the entry and the picture.
func listed() (entry, picture string, err error) {
	data, err := userDir("XDG_DATA_HOME", ".local/share")
	return filepath.Join(data, "applications", listEntry), filepath.Join(data, "icons/hicolor/scalable/apps/stile.svg"), err
}

func list(program, picture string) error {
	entry, icon, err := listed()
	if err != nil {
		return err
	}
	if packaged() {
		return unlist()
	}
	run := "Exec=" + commandLine([]string{program}) + "\n"
	have, err := read(entry)
	is := string(have)
	if err == nil && (!strings.Contains(is, ownEntry) || strings.Contains(is, run)) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // the user's, or as it has to be
	}
	return errors.Join(
		dirs.WriteFile(icon, []byte(picture), 0o644),
		dirs.WriteFile(entry, []byte("[Desktop Entry]\nType=Application\nName=Stile\nComment=Reach private resources by name\n"+
			"Categories=Network;\nTerminal=false\nStartupNotify=false\nIcon="+icon+"\n"+
			"TryExec="+strings.ReplaceAll(program, `\`, `\\`)+"\n"+run+ownEntry+"\n"), 0o644)) // TryExec: not shown once it is removed
}

// packaged reports whether the system has an entry for all its users.
func packaged() bool {
	for _, dir := range filepath.SplitList(cmp.Or(os.Getenv("XDG_DATA_DIRS"), "/usr/local/share:/usr/share")) {
		if _, err := os.Stat(filepath.Join(dir, "applications", listEntry)); err == nil {
			return true
		}
	}
	return false
}

func unlist() error {
	entry, icon, err := listed()
	if err != nil {
		return err
	}
	if text, err := read(entry); err != nil || !strings.Contains(string(text), ownEntry) {
		return nil // nothing, or the user's
	}
	err = os.Remove(icon)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(entry))
}
