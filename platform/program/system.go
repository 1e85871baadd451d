package program

import (
	"bufio"
	"os"
	"runtime"
	"strings"
)

// A System is what the program was built for, and how programs are installed
// there.
type System struct {
	OS, Arch string // as Go names them: "linux", "amd64"
	Package  string // "deb" or "rpm"; "" where it is neither
}

// Here is the system that the program runs on.
func Here() System {
	s := System{OS: runtime.GOOS, Arch: runtime.GOARCH}
	if s.OS == "linux" {
		text, _ := os.ReadFile("/etc/os-release") // without it, most likely
		s.Package = packaging(string(text))
	}
	return s
}

// packaging tells the kind of packages from the text of an os-release(5) file.
func packaging(release string) string {
	for lines := bufio.NewScanner(strings.NewReader(release)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for name := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
			switch {
			case name == "fedora", name == "rhel", name == "centos", name == "suse", strings.HasPrefix(name, "opensuse"):
				return "rpm"
			}
		}
	}
	return "deb"
}
