//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ownCore gives one role a core of its own, as on a machine of its own, and the
// rest of the machine to everything else in the lab. It is for good: what starts
// afterwards belongs to the rest. own is false on a machine with a single core,
// where nothing changes.
func (s *stage) ownCore(r *role) (own bool, err error) {
	var rest, last unix.CPUSet
	if err := unix.SchedGetaffinity(0, &rest); err != nil {
		return false, fmt.Errorf("ask which cores there are: %w", os.NewSyscallError("sched_getaffinity", err))
	}
	if rest.Count() < 2 {
		return false, nil
	}
	for i := len(rest)*64 - 1; last.Count() == 0; i-- {
		if rest.IsSet(i) {
			rest.Clear(i)
			last.Set(i)
		}
	}
	errs := []error{confine(os.Getpid(), &rest), confine(r.pid, &last)}
	for _, other := range s.roles {
		if other != r {
			errs = append(errs, confine(other.pid, &rest))
		}
	}
	return true, errors.Join(errs...)
}

// used is the CPU time of the lab and all roles.
func (s *stage) used() time.Duration { return cpuOf(s.pids()) }

// foreign is the CPU time that programs outside of the lab have used, and that
// the machine below this one kept for itself. What the kernel does for whoever
// sends is nobody's.
func (s *stage) foreign() time.Duration { return programsOfMachine() - ownCodeOf(s.pids()) }

func (s *stage) pids() []int {
	pids := []int{os.Getpid()}
	for _, r := range s.roles {
		pids = append(pids, r.pid)
	}
	return pids
}

// confine confines all threads of a process to some cores.
func confine(pid int, to *unix.CPUSet) error {
	done := map[string]bool{}
	for again := true; again; { // a thread that was not confined yet may have begun another
		again = false
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has ended
		}
		if err != nil {
			return err
		}
		for _, t := range threads {
			if done[t.Name()] {
				continue
			}
			done[t.Name()], again = true, true
			number, err := strconv.Atoi(t.Name())
			if err == nil {
				err = unix.SchedSetaffinity(number, to)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("confine process %d to some cores: %w", pid, os.NewSyscallError("sched_setaffinity", err))
			}
		}
	}
	return nil
}
