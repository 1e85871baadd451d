package machine

import (
	"bufio"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func systemID() string {
	text, err := os.ReadFile("/etc/machine-id")
	if id := strings.TrimSpace(string(text)); err == nil && len(id) == 32 {
		return id
	}
	return "" // missing, or "uninitialized" in an image that was never booted
}

func describe() OS {
	o := OS{Name: "Linux", Version: "unknown", Arch: "unknown"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		o.Arch, o.Kernel = unix.ByteSliceToString(u.Machine[:]), unix.ByteSliceToString(u.Release[:])
	}
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return o
	}
	defer f.Close()
	o.read(f)
	return o
}

// maxWord bounds what os-release adds to a header, in bytes.
const maxWord = 100

// read takes name and version from an os-release(5) file, as far as they can
// stand in a User-Agent (spec portal.md 1.4): a name of which nothing would be
// left there is not taken.
func (o *OS) read(release io.Reader) {
	for lines := bufio.NewScanner(release); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.TrimSpace(strings.Map(printable, strings.Trim(value, `"'`)))
		value = value[:min(len(value), maxWord)]
		switch {
		case value == "":
		case name == "NAME":
			o.Name = strings.ReplaceAll(value, "/", " ") // a slash ends the name
		case name == "VERSION_ID":
			o.Version = value
		}
	}
}

// printable drops what cannot stand in a header.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}
