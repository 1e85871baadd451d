package desktop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stile/build/need"
)

const aPicture = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"/>`

// Who copied the program somewhere finds it in the list of programs.
func TestTheListOfPrograms(t *testing.T) {
	need.Tools(t, "desktop-file-utils and libglib2.0-bin", "gio", "desktop-file-validate")
	dir := home(t)
	t.Setenv("XDG_DATA_DIRS", t.TempDir())
	entry := filepath.Join(dir, ".local/share/applications", listEntry)
	text := func() string {
		t.Helper()
		b, err := os.ReadFile(entry)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	become := func(program string) {
		t.Helper()
		if err := List(program, aPicture); err != nil {
			t.Fatal(err)
		}
	}
	program, told := recorder(t, "with space")
	become(program)
	if got := output(t, "desktop-file-validate", entry); got != "" {
		t.Error(got)
	}
	output(t, "gio", "launch", entry)
	if got := await(t, told); got != "\n" {
		t.Errorf("started with %q", got)
	}
	if !strings.Contains(text(), "\nTryExec="+program+"\n") {
		t.Errorf("it would be shown after it was removed: %s", text())
	}
	_, icon, _ := strings.Cut(text(), "Icon=")
	icon, _, _ = strings.Cut(icon, "\n")
	if got, err := os.ReadFile(icon); err != nil || string(got) != aPicture {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{`q"uo'te`, `back\slash`, "größe"} {
		odd, told := recorder(t, name)
		become(odd)
		output(t, "gio", "launch", entry)
		await(t, told)
		if got := output(t, "desktop-file-validate", entry); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	become(program)
	hidden := text() + "NoDisplay=true\n" // by the user
	if err := os.WriteFile(entry, []byte(hidden), 0o644); err != nil {
		t.Fatal(err)
	}
	if become(program); text() != hidden {
		t.Errorf("it is back: %s", text())
	}
	another, _ := recorder(t, "elsewhere")
	if become(another); !strings.Contains(text(), another) || strings.Contains(text(), program) {
		t.Error(text())
	}
	system := filepath.Join(os.Getenv("XDG_DATA_DIRS"), "applications")
	if err := os.MkdirAll(system, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(system, listEntry), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	become(another) // which a package has installed
	for _, file := range []string{entry, icon} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is there beside the package's", file)
		}
	}
	t.Setenv("XDG_DATA_DIRS", t.TempDir())
	become(another)
	if err := os.Remove(icon); err != nil { // by the user
		t.Fatal(err)
	}
	for range 2 {
		if err := Unlist(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(entry); err == nil {
		t.Error("the entry is left")
	}
	const own = "[Desktop Entry]\nType=Application\nName=Mine\nExec=stile\n"
	if err := os.WriteFile(entry, []byte(own), 0o644); err != nil {
		t.Fatal(err)
	}
	if become(another); text() != own {
		t.Error(text())
	}
	if err := Unlist(); err != nil || text() != own {
		t.Error(err)
	}
	if err := List("stile", aPicture); err == nil {
		t.Error("a program that no desktop finds")
	}
}
