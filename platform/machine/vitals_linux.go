package machine

import (
	"bytes"
	"os"
)

// vitals are files of the kernel, as it writes them.
func vitals() []byte {
	var b []byte
	for _, path := range []string{"/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		b = append(append(b, path...), ":\n"...)
		for _, l := range lines[:min(len(lines), 5)] {
			b = append(b, l...)
		}
	}
	return b
}
