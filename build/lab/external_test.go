//go:build linux

package main

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A shell command may leave programs behind that its own end does not end.
func TestAllOfAForeignProgramEnds(t *testing.T) {
	for _, row := range []struct {
		line   string
		killed bool
	}{
		{`sleep 0.05 & echo up`, false},
		{`(trap "" TERM; echo up; while :; do sleep 1; done) &`, true},
	} {
		c := exec.Command("sh", "-c", row.line)
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		err := endGroup(c.Process.Pid, 200*time.Millisecond)
		if killed := err != nil && strings.Contains(err.Error(), "had to be killed"); killed != row.killed {
			t.Errorf("%s: %v", row.line, err)
		}
		if err := endGroup(c.Process.Pid, 5*time.Second); err != nil {
			t.Errorf("%s: it goes on after SIGKILL: %v", row.line, err)
		}
	}
}
