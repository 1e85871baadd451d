//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

type shellCmd struct {
	Host    string   `arg:"" help:"The host, for example laptop."`
	Command []string `arg:"" optional:"" passthrough:"" help:"What to run there instead of a shell."`
}

func (s *shellCmd) Run(c *cli) error {
	r, err := newest(c.logs())
	if err != nil {
		return err
	}
	thread, ok := r.Hosts[s.Host]
	if !ok {
		return fmt.Errorf("there is no host %q: the lab has %s", s.Host, strings.Join(slices.Sorted(maps.Keys(r.Hosts)), ", "))
	}
	nsenter, err := findProgram("nsenter")
	if err != nil {
		return errors.New("nsenter is missing: install util-linux")
	}
	args := []string{"nsenter", "--target", fmt.Sprint(thread), "--mount", "--net", "--uts", "--ipc", "--pid"}
	if apart, err := otherUsers(thread); err != nil {
		return fmt.Errorf("enter %s: %w (the lab belongs to another user?)", s.Host, err)
	} else if apart {
		args = append(args, "--user", "--preserve-credentials")
	}
	env := append(host.Environment(), `PS1=[lab] \h:\w# `)
	if term := os.Getenv("TERM"); term != "" {
		env = append(env, "TERM="+term)
	}
	command := s.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		command = []string{"sh"}
		if _, err := findProgram("bash"); err == nil {
			command = []string{"bash", "--norc"}
		}
	}
	return unix.Exec(nsenter, append(append(args, "--"), command...), env)
}

// newest finds the lab that was started last and still runs.
func newest(logs string) (r record, err error) {
	paths, err := filepath.Glob(filepath.Join(logs, "*", recordName))
	if err != nil {
		return r, err
	}
	slices.Sort(paths) // folders are named after the time
	slices.Reverse(paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !locked(path) || json.Unmarshal(text, &r) != nil {
			continue
		}
		return r, nil
	}
	return r, fmt.Errorf("no lab runs here (looked in %s): start one with lab demo or lab run NAME --keep", logs)
}

// locked tells whether the lab that wrote a record still lives.
func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// otherUsers tells whether a thread lives in a user namespace other than ours.
func otherUsers(thread int) (bool, error) {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", thread))
	if err != nil {
		return false, err
	}
	ours, err := os.Readlink("/proc/self/ns/user")
	return theirs != ours, err
}

// findProgram finds a program of the machine, in the folders that hosts search.
func findProgram(name string) (string, error) {
	for _, v := range host.Environment() {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			for _, dir := range filepath.SplitList(path) {
				if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
					return found, nil
				}
			}
		}
	}
	return "", exec.ErrNotFound
}
