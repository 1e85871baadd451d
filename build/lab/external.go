//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// external names programs that take the place of ours, each as a shell command
// line. Kong and JSON both see the fields through whatever embeds it.
type external struct {
	ClientCmd  string `placeholder:"COMMAND" help:"Shell command that is the client, run on the laptop with FIREZONE_ variables."`
	GatewayCmd string `placeholder:"COMMAND" help:"Shell command that is the gateway; forwarding and masquerading are set for it."`
	RelayCmd   string `placeholder:"COMMAND" help:"Shell command that is the relay."`
}

// plainURL is where programs find the portal that do not trust our authority.
const plainURL = "ws://" + portalName + ":8081"

// A part is a program that connects to the portal: ours, or somebody else's.
type part struct {
	host    *host.Host
	name    string
	token   string
	shared  []string // variables by which both are told the same
	foreign string   // shell command line; "": ours
	own     []string // our program and its arguments
	ownEnv  []string
	theirs  []string // variables for the foreign one only
}

// begin starts the part.
func (s *stage) begin(p part) (*role, error) {
	if p.foreign == "" {
		return s.start(p.host, p.name, slices.Concat(p.shared, p.ownEnv, []string{"STILE_API_URL=" + portalURL}), p.own[0], p.own[1:]...)
	}
	return s.launchLine(p.host, p.name, p.foreign, slices.Concat(p.shared, p.theirs, []string{
		"FIREZONE_TOKEN=" + p.token, "FIREZONE_API_URL=" + plainURL, "FIREZONE_NAME=" + p.host.Name,
		"FIREZONE_ID=" + foreignID(p.host.Name), "RUST_LOG=info", "FIREZONE_NO_TELEMETRY=true",
	}))
}

// foreignID is what a foreign program calls its device: the same after each start.
func foreignID(name string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte("stile lab device "+name)))
}

// launchLine starts a shell command line. What it starts in turn is stopped
// with it: all of its process group.
func (s *stage) launchLine(h *host.Host, name, line string, env []string) (*role, error) {
	shell, err := findProgram("sh")
	if err != nil {
		return nil, fmt.Errorf("a shell for %q: %w", line, err)
	}
	return s.launchAs(h, name, true, func(ctx context.Context) *exec.Cmd {
		c := h.Command(ctx, shell, "-c", line)
		c.Env = append(c.Env, env...)
		c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGTERM) }
		return c
	})
}

// endGroup waits until all processes of a group have ended, and kills those
// that have not within grace.
func endGroup(pgid int, grace time.Duration) error {
	for end := time.Now().Add(grace); len(group(pgid)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			left := group(pgid)
			unix.Kill(-pgid, unix.SIGKILL)
			return fmt.Errorf("processes %v had to be killed", left)
		}
	}
	return nil
}

// group lists the processes of a group, but for the dead whom nobody waits for.
func group(pgid int) (pids []string) {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		text, _ := os.ReadFile(path) // it may have ended meanwhile
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 2 && f[2] == fmt.Sprint(pgid) && f[0] != "Z" {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// ours fails where a scenario needs what only our own client has.
func (e external) ours() error {
	if e.ClientCmd != "" {
		return errors.New("this needs our own client, not one given by --client-cmd")
	}
	return nil
}
