package machine

import (
	"strings"
	"testing"
)

func TestVitals(t *testing.T) {
	for _, want := range []string{"/proc/version:\nLinux version", "/proc/uptime:\n", "/proc/loadavg:\n", "MemAvailable:"} {
		if got := string(Vitals()); !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}
