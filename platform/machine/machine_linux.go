package machine

import (
	"bufio"
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
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch {
		case value == "":
		case name == "NAME":
			o.Name = strings.ReplaceAll(value, "/", " ") // a slash ends the name
		case name == "VERSION_ID":
			o.Version = value
		}
	}
	return o
}
