//go:build linux

package trial

import (
	"os"
	"strings"
	"testing"

	"stile/build/lab/host"
)

// stile is the program of users.
const stile = host.BinDir + "/stile"

// TestWhoMayControlTheService tries users and programs against the real service:
// nobody, in and out of the group, with the installed program and a copy of it.
func TestWhoMayControlTheService(t *testing.T) {
	m := newMachine(t)
	const copied = "/run/copy/stile"
	m.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
	must(t, m.Do(func() error {
		text, err := os.ReadFile(stile)
		if err == nil {
			err = os.MkdirAll("/run/copy", 0o755)
		}
		if err == nil {
			err = os.WriteFile(copied, text, 0o755)
		}
		return err
	}))
	group := func(members string) { m.write("/etc/group", "root:x:0:\nstile:x:990:"+members+"\n", 0o644) }
	status := func(path string) program { return program{args: []string{path, "status"}} }
	wants := func(p program, code int, words string) {
		t.Helper()
		if got := m.run(p); got.status != code || !strings.Contains(got.out+got.err, words) {
			t.Errorf("%v: status %d: %s%s; want %d: %s", p.args, got.status, got.out, got.err, code, words)
		}
	}
	group("")
	service := m.start(typed("stiled --api-url wss://portal.test"))
	service.says("nobody is signed in")
	wants(status(stile), 0, "Signed out.")
	wants(status(copied), 0, "Signed out.") // root may use any program
	wants(status(stile).asUser(), 1, "sudo usermod -aG stile nobody")
	group("nobody")
	wants(status(stile).asUser(), 0, "Signed out.") // without logging in again
	wants(status(copied).asUser(), 1, "This program may not control Stile")
	must(t, m.Do(func() error { return os.Chown(copied, nobody, nobody) }))
	wants(status(copied).asUser(), 1, "This program may not control Stile")
	service.says("a program was refused")
	if got := service.stop(os.Interrupt); got.status != 0 {
		t.Errorf("status %d", got.status)
	}

	service = m.start(typed("stiled --api-url wss://portal.test --programs any"))
	service.says("nobody is signed in")
	wants(status(copied).asUser(), 0, "Signed out.")
	group("")
	wants(status(copied).asUser(), 1, "sudo usermod")
}
