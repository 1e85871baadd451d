package machine

import (
	"strings"
	"testing"
)

func TestRelease(t *testing.T) {
	for _, row := range []struct{ text, name, version string }{
		{"NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n", "Debian GNU Linux", "12"},
		{"NAME='Alpine Linux'\nVERSION_ID=3.20.3", "Alpine Linux", "3.20.3"},
		{"VERSION_ID=\nNAME=\n", "Linux", "unknown"},
		{"NAME=\"\u7edf\u4fe1\"\n", "Linux", "unknown"}, // nothing of it can stand in a header
		{"NAME = x\n#NAME=y\nNAME", "Linux", "unknown"},
		{"NAME=a\r\n", "a", "unknown"},
		{"NAME=" + strings.Repeat("x", 200), strings.Repeat("x", maxWord), "unknown"},
		{"NAME=" + strings.Repeat("x", 1<<20) + "\nVERSION_ID=1\n", "Linux", "unknown"}, // no such line exists
	} {
		o := OS{Name: "Linux", Version: "unknown"}
		if o.read(strings.NewReader(row.text)); o.Name != row.name || o.Version != row.version {
			t.Errorf("%.60q: %q %q, want %q %q", row.text, o.Name, o.Version, row.name, row.version)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n")
	f.Add("NAME='a\tb'\nVERSION_ID=\x00\xff\n=\n")
	f.Fuzz(func(t *testing.T, text string) {
		o := OS{Name: "Linux", Version: "unknown"}
		o.read(strings.NewReader(text))
		for _, s := range []string{o.Name, o.Version} {
			if s == "" || len(s) > maxWord || strings.ContainsFunc(s, func(r rune) bool { return printable(r) < 0 }) {
				t.Fatalf("%+v", o)
			}
		}
		if strings.Contains(o.Name, "/") {
			t.Fatalf("%+v", o)
		}
	})
}
