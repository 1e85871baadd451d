// Package need lets a test say which programs of the system it cannot do
// without. A machine that lacks them is told so and goes on; the build that
// decides what lands has to have them all.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Tools skips a test, aloud, that lacks one of the programs, unless CI=true is
// in the environment: then it fails. packages names what to install, in
// Debian's words.
func Tools(t testing.TB, packages string, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			Otherwise(t, "%s is missing; install %s", tool, packages)
		}
	}
}

// Otherwise skips or fails a test for another reason.
func Otherwise(t testing.TB, why string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(why, args...)
	}
	t.Skipf("NOT TESTED: "+why, args...)
}
