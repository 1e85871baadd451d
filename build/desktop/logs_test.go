package desktop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stile/build/need"
	"stile/platform/tray/traytest"
	"stile/tunnel/ipc"
)

// stile runs a command of the user's to its end and returns what it prints.
func (d *desk) stile(args ...string) string {
	d.t.Helper()
	c := exec.Command(filepath.Join(programs, "stile"), args...)
	c.Env = d.env
	out, err := c.CombinedOutput()
	if err != nil {
		d.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// logged waits until the app has logged words, and does again meanwhile.
func (d *desk) logged(words string, again func()) (files []string) {
	d.t.Helper()
	for limit := time.Now().Add(traytest.Patience); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		again()
		files, _ = filepath.Glob(filepath.Join(d.dir, "cache/stile/logs/*.log"))
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), words) {
				return files
			}
		}
	}
	d.t.Fatalf("the app does not log %q", words)
	return nil
}

// What the service logs, the app does, at once and for as long; what is deleted
// is begun anew; and all of it can be read as the README says.
func TestTheLogOfTheApp(t *testing.T) {
	need.Tools(t, "jq", "jq")
	d := open(t)
	d.service.up()
	d.run()
	d.panel.Until("signed out", func(m traytest.Menu) bool { return m.Has("Sign In") })
	const secret = "stile://handle_client_sign_in_callback/?fragment=secret"
	early := func() { d.stile("open-deep-link", secret) } // an answer that nobody waits for
	early()
	begun := time.Now()
	d.service.set(func(s *ipc.State) { s.Logs.Filter = "debug" }) // stile logs level debug --for 10m
	before := d.logged("none was begun", early)
	if took := time.Since(begun); took > soon {
		t.Errorf("it logs more only after %v", took)
	}
	d.panel.Until("still signed out", func(m traytest.Menu) bool { return m.Has("Sign In") && !m.Has("Cancel Sign-In") })
	if notes := d.notes.All(); len(notes) > 0 {
		t.Errorf("the user was bothered: %+v", notes)
	}

	if out := d.stile("logs", "clear"); !strings.Contains(out, filepath.Join(d.dir, "cache/stile/logs")) {
		t.Error(out)
	}
	if c := await(t, "a command", d.service.commands); c != (ipc.ClearLogs{}) {
		t.Errorf("%+v", c)
	}
	if _, err := os.Stat(before[0]); err == nil {
		t.Error("the file is still there")
	}
	d.logged("none was begun", early)

	jq := exec.Command("sh", "-c", `cat *.log | jq -r '"\(.time) \(.severity) \(.message)"'`)
	jq.Dir = filepath.Join(d.dir, "cache/stile/logs")
	out, err := jq.CombinedOutput()
	first, _, _ := strings.Cut(string(out), "\n")
	if err != nil || !strings.HasSuffix(first, " INFO started log") || strings.Contains(string(out), "null") || strings.Contains(string(out), "secret") {
		t.Errorf("%v: %s", err, out)
	}
}
