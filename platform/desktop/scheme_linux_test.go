package desktop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stile/build/need"
)

// home makes a user with an empty home, on a desktop that no tool knows, and
// returns it.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CURRENT_DESKTOP", "DESKTOP_SESSION", "KDE_FULL_SESSION", "GNOME_DESKTOP_SESSION_ID", "BROWSER", "DBUS_SESSION_BUS_ADDRESS"} {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", dir)
	t.Setenv("DISPLAY", ":7")
	return dir
}

// recorder makes a program that writes down how it was called.
func recorder(t *testing.T, name string) (program, told string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	told = filepath.Join(t.TempDir(), "told")
	program = filepath.Join(dir, "stile")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" > "+told+".new && mv "+told+".new "+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, told
}

// await reads a file that another process is about to write.
func await(t *testing.T, path string) string {
	t.Helper()
	for range 100 {
		if b, err := os.ReadFile(path); err == nil {
			return string(b)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("nobody wrote ", path)
	return ""
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %q: %v %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

const answerURL = "://handle_client_sign_in_callback/?actor_name=Zo%C3%AB+D&fragment=.x-_=&state=$(id)`id`;'1'"

func TestTheDesktopOpensOurAddressesWithUs(t *testing.T) {
	need.Tools(t, "xdg-utils, desktop-file-utils and libglib2.0-bin", "xdg-open", "xdg-mime", "gio", "update-desktop-database", "desktop-file-validate")
	dir := home(t)
	program, told := recorder(t, "bin")
	for range 2 { // the second time there is nothing to do
		if err := Register(program); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range Schemes {
		if got := output(t, "xdg-mime", "query", "default", "x-scheme-handler/"+s); got != schemeEntry {
			t.Errorf("%s is opened with %q", s, got)
		}
		if s == "stile" {
			output(t, "xdg-open", s+answerURL)
		} else { // where there is no desktop to ask, xdg-open 1.1 takes a scheme with digits for a file
			output(t, "gio", "open", s+answerURL)
		}
		if got, want := await(t, told), "open-deep-link\n"+s+answerURL+"\n"; got != want {
			t.Errorf("called with %q, want %q", got, want)
		}
		os.Remove(told)
	}
	entry := filepath.Join(dir, ".local/share/applications", schemeEntry)
	if got := output(t, "desktop-file-validate", entry); got != "" {
		t.Error(got)
	}
	if !isDefault() {
		t.Error("registering again would start everything again")
	}

	another, _ := recorder(t, "elsewhere")
	if err := Register(another); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(entry); !strings.Contains(string(text), another) || strings.Contains(string(text), program) {
		t.Errorf("%s", text)
	}

	// What others have set up stays.
	list := filepath.Join(dir, ".config/mimeapps.list")
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(list, []byte(string(text)+"text/plain=vim.desktop\n[Added Associations]\nx-scheme-handler/stile="+schemeEntry+";other.desktop;\n"), 0o600)
	for range 2 {
		if err := Unregister(); err != nil {
			t.Fatal(err)
		}
	}
	if got := output(t, "xdg-mime", "query", "default", "x-scheme-handler/stile"); got == schemeEntry {
		t.Error("still registered")
	}
	if got, _ := os.ReadFile(list); strings.TrimSpace(string(got)) != "[Default Applications]\ntext/plain=vim.desktop\n[Added Associations]\nx-scheme-handler/stile=other.desktop;" {
		t.Errorf("%s", got)
	}
	if _, err := os.Stat(entry); err == nil {
		t.Error("the entry is still there")
	}
}

// Desktops read the entry by the letter of its specification. A per cent sign
// is left out: GLib looks for the program without reading that escape.
func TestProgramsInOddPlaces(t *testing.T) {
	need.Tools(t, "xdg-utils, desktop-file-utils and libglib2.0-bin", "gio", "desktop-file-validate")
	dir := home(t)
	for _, name := range []string{"plain", "with space", `q"uo'te`, "do$llar`tick", `back\slash`, "a;b&c", "größe"} {
		program, told := recorder(t, name)
		Register(program) // xdg-mime may be missing
		entry := filepath.Join(dir, ".local/share/applications", schemeEntry)
		output(t, "gio", "launch", entry, "stile"+answerURL)
		if got, want := await(t, told), "open-deep-link\nstile"+answerURL+"\n"; got != want {
			t.Errorf("%s: called with %q, want %q", name, got, want)
		}
		if got := output(t, "desktop-file-validate", entry); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, program := range []string{"", "stile", "./stile", "/no/such/program", "/bin/sh\nExec=evil"} {
		if err := Register(program); err == nil {
			t.Errorf("%q was registered", program)
		}
		if err := StartAtLogin(true, program); err == nil {
			t.Errorf("%q starts at login", program)
		}
	}
}

func TestToolsThatAreMissing(t *testing.T) {
	dir := home(t)
	program, _ := recorder(t, "bin")
	t.Setenv("PATH", dir)
	if err := Register(program); err == nil || !strings.Contains(err.Error(), "xdg-mime") {
		t.Error(err) // the entry alone is enough for some desktops
	}
	if _, err := os.Stat(filepath.Join(dir, ".local/share/applications", schemeEntry)); err != nil {
		t.Error(err)
	}
	if err := Unregister(); err != nil {
		t.Error(err)
	}
	if err := Unregister(); err != nil {
		t.Error("twice:", err)
	}
	t.Setenv("HOME", "")
	if err := Register(program); err == nil {
		t.Error("registered for nobody")
	}
	if err := StartAtLogin(true, program); err == nil {
		t.Error("for nobody")
	}
}

func TestStartAtLogin(t *testing.T) {
	dir := home(t)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "conf"))
	program, told := recorder(t, "with space")
	path := filepath.Join(dir, "conf/autostart", loginEntry)
	want := func(state Autostart, command ...string) {
		t.Helper()
		if got, err := StartsAtLogin(command...); got != state || err != nil {
			t.Errorf("%v, %v, want %v", got, err, state)
		}
	}
	set := func(on bool) {
		t.Helper()
		if err := StartAtLogin(on, program, "--quiet start"); err != nil {
			t.Fatal(err)
		}
	}
	want(Absent, program)
	set(false)
	set(true)
	want(On, program, "--quiet start")
	before, _ := os.Stat(path)
	set(true)
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("written again without need")
	}
	want(Outdated, program)
	if _, err := exec.LookPath("gio"); err == nil {
		output(t, "gio", "launch", path)
		if got := await(t, told); got != "--quiet start\n" {
			t.Errorf("started with %q", got)
		}
	}
	text, _ := os.ReadFile(path)
	for _, off := range []string{string(text) + "Hidden=true\n", strings.Replace(string(text), "enabled=true", "enabled=false", 1)} {
		os.WriteFile(path, []byte(off), 0o600)
		want(Off, program, "--quiet start")
	}
	set(true)
	want(On, program, "--quiet start")
	set(false)
	set(false)
	want(Absent, program, "--quiet start")
	if _, err := StartsAtLogin(); err == nil {
		t.Error("nothing starts")
	}
}

func FuzzDefaults(f *testing.F) {
	f.Add("[Default Applications]\nx-scheme-handler/stile=stile-url.desktop\na=b;stile-url.desktop;c\n")
	f.Add("stile-url.desktop")
	f.Add("a=stile-url.desktop;\r\n=\n\n[x]")
	f.Fuzz(func(t *testing.T, text string) {
		once := without([]byte(text), schemeEntry)
		if again := without(once, schemeEntry); string(again) != string(once) {
			t.Fatalf("%q → %q → %q", text, once, again)
		}
		if !strings.Contains(text, schemeEntry) && string(once) != text {
			t.Fatalf("%q → %q", text, once)
		}
	})
}
