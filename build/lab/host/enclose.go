//go:build linux

// Package host makes hosts out of one Linux machine: each has its own network,
// files below /etc, /run, /var/lib and /sys, and its own name, and nothing it
// does reaches the machine.
//
// A program uses it in two lives. The first life calls [Enclose], which runs
// the same program again as process 1 of new namespaces. The second life calls
// [Settle] and then [New] for each host. When the first life or process 1 ends,
// however it ends, the kernel ends everything in the enclosure with it.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leashFD is the file descriptor of the pipe that ties the second life to the
// first: it reads end of file once the first life is gone.
const leashFD = 3

// FirstExtra is the file descriptor at which [exec.Cmd.ExtraFiles] of an
// enclosed command begin.
const FirstExtra = leashFD + 1

// Enclosed prepares the second life of this program with the given arguments.
// When ctx ends, it gets SIGTERM, and SIGKILL if it is still there after grace.
func Enclosed(ctx context.Context, grace time.Duration, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	c.WaitDelay = grace
	return c
}

// Enclose runs a command prepared by [Enclosed] in new network, mount, PID, IPC
// and UTS namespaces, and in a new user namespace unless we are root. It
// returns when the command, and with it all that it started, has ended.
func Enclose(c *exec.Cmd) error {
	end, leash, err := os.Pipe()
	if err != nil {
		return err
	}
	defer leash.Close()
	defer end.Close()
	c.ExtraFiles = append([]*os.File{end}, c.ExtraFiles...)
	c.SysProcAttr = enclosure()

	runtime.LockOSThread() // Pdeathsig follows the thread that started the process
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		return refused("start a process in new namespaces", err)
	}
	pids, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.Process.Pid))
	if err != nil {
		pids = ""
	}
	if err = c.Wait(); c.ProcessState.Success() {
		err = nil // and not that ctx ended, which only told it to end
	}
	if left := living(pids); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("processes outlived the lab: %v", left))
	}
	return err
}

func enclosure() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
		Setpgid:    true, // Ctrl-C reaches the first life only, which ends the second in order
	}
	if os.Getuid() != 0 {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// living lists the processes in a PID namespace, given as the target of a link
// in /proc/PID/ns.
func living(pids string) []string {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	var left []string
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == pids {
			left = append(left, filepath.Base(filepath.Dir(filepath.Dir(l))))
		}
	}
	return left
}

// refused explains an error of the system calls that make namespaces. Whether
// a system lets an ordinary user make them is found by trying: sysctls,
// AppArmor, seccomp and containers each have a say.
func refused(what string, err error) error {
	if Privileged() {
		return fmt.Errorf("%s: %w (the lab needs the rights of root: CAP_SYS_ADMIN and CAP_NET_ADMIN; a container withholds them unless it is privileged)", what, err)
	}
	return fmt.Errorf("%s: %w (this system does not let an ordinary user do that, even in a user namespace; run the lab as root, for example with sudo)", what, err)
}

// Privileged tells whether we are the machine's root, and not merely user 0 of a
// user namespace.
func Privileged() bool {
	if os.Getuid() != 0 {
		return false
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	var inside, outside, size uint64
	_, err = fmt.Sscan(string(b), &inside, &outside, &size)
	return err != nil || outside == 0 && size == 1<<32-1
}
