//go:build linux

package trial

import (
	"os"
	"path/filepath"
)

// init makes a configuration with a certificate of its own, for
// https://portal.test:8443.
func (m *machine) init() { m.initAt("https://portal.test:8443") }

func (m *machine) initAt(url string) {
	m.t.Helper()
	got := m.run(typed("stile-server portal init --self-signed --email alice@example.com --url " + url).reading("long enough"))
	if got.status != 0 {
		m.t.Fatalf("init: status %d: %s", got.status, got.err)
	}
}

// portal makes a configuration and runs a portal on it.
func (m *machine) portal() *process {
	m.t.Helper()
	m.init()
	p := m.start(typed("stile-server portal run"))
	p.says("listening")
	return p
}

// giveAwayPortal makes the portal's files an ordinary user's.
func (m *machine) giveAwayPortal() {
	m.t.Helper()
	for _, dir := range []string{"/etc/stile", "/var/lib/stile"} {
		must(m.t, m.Do(func() error {
			return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Chown(path, nobody, nobody)
			})
		}))
	}
	must(m.t, m.Do(func() error { return os.MkdirAll("/run/stile", 0o755) }))
	must(m.t, m.Do(func() error { return os.Chown("/run/stile", nobody, nobody) }))
}
