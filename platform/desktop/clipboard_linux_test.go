package desktop

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTextIsCopiedByWhatIsThere(t *testing.T) {
	const text = "text of -several\nlines & 'signs'"
	for name, display := range map[string]string{"wl-copy": "WAYLAND_DISPLAY", "xclip": "DISPLAY", "xsel": "DISPLAY"} {
		told := filepath.Join(t.TempDir(), "told")
		pretend(t, map[string]string{name: "/bin/cat > " + told + "; echo \"$@\" > " + told + ".args"})
		t.Setenv("DISPLAY", "")
		t.Setenv(display, "there")
		if err := Copy(t.Context(), text); err != nil {
			t.Error(name, err)
		}
		if b, _ := os.ReadFile(told); string(b) != text {
			t.Errorf("%s was told %q", name, b)
		}
		if b, _ := os.ReadFile(told + ".args"); strings.Contains(string(b), "several") {
			t.Errorf("%s got the text as an argument", name)
		}
	}
}

func TestWithoutClipboardTheUserIsToldWhatToInstall(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	pretend(t, nil)
	if err := Copy(t.Context(), "x"); !errors.Is(err, ErrNoClipboard) {
		t.Error(err)
	}
	pretend(t, map[string]string{"xclip": "exit 1"})
	if err := Copy(t.Context(), "x"); err == nil || errors.Is(err, ErrNoClipboard) {
		t.Error(err)
	}
}

func TestLanguage(t *testing.T) {
	for _, row := range [][5]string{ // LC_ALL, LC_MESSAGES, LANG, LANGUAGE, result
		{"", "", "", "de", ""},
		{"", "", "de_DE.UTF-8", "", "de_DE.UTF-8"},
		{"", "fr", "de_DE.UTF-8", "", "fr"},
		{"C", "fr", "de_DE.UTF-8", "de", "C"},
		{"", "", "en_GB.UTF-8", "de:en", "de:en"},
	} {
		for i, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"} {
			t.Setenv(name, row[i])
		}
		if got := Language(); got != row[4] {
			t.Errorf("%q: %q", row, got)
		}
	}
}
