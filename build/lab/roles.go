//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// readyWithin is how long a program may take to be ready.
const readyWithin = 30 * time.Second

// A role is a program that runs on a host until it is stopped.
type role struct {
	name string
	host *host.Host
	pid  int
	told context.CancelFunc // SIGTERM, SIGKILL after five seconds
	done chan struct{}      // closed at its end
	err  error              // that it ended by itself, or badly; read after done

	shot atomic.Bool // it was killed on purpose
}

// launch starts a command that a host prepared. It is stopped with the stage
// at the latest.
func (s *stage) launch(h *host.Host, name string, prepare func(context.Context) *exec.Cmd) (*role, error) {
	return s.launchAs(h, name, false, prepare)
}

// launchAs starts a command that may be a shell with programs below it. A shell
// need not end well: it ends by the signal that its programs are told with.
func (s *stage) launchAs(h *host.Host, name string, shell bool, prepare func(context.Context) *exec.Cmd) (*role, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &role{name: name, host: h, told: cancel, done: make(chan struct{})}
	c := prepare(ctx)
	if err := h.Start(c); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s on %s: %w", name, h.Name, err)
	}
	r.pid = c.Process.Pid
	s.running.Go(func() {
		defer close(r.done)
		c.Wait() // what it says of a context that ended is no news
		told, state := ctx.Err() != nil, c.ProcessState
		var left error
		if shell {
			left = endGroup(r.pid, host.StopGrace)
		}
		switch {
		case r.shot.Load():
		case !told || !state.Success() && !shell:
			r.err = fmt.Errorf("%s on %s ended: %v%s", name, h.Name, state, tail(h.Log, 4))
		case left != nil:
			r.err = fmt.Errorf("%s on %s: %w%s", name, h.Name, left, tail(h.Log, 4))
		}
	})
	s.roles = append(s.roles, r)
	return r, nil
}

// stop ends a role in order and tells whether it obeyed.
func (r *role) stop() error {
	r.told()
	<-r.done
	return r.err
}

// kill ends a role without a warning, and with it what it started.
func (r *role) kill() error {
	r.shot.Store(true)
	if err := unix.Kill(-r.pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill %s on %s: %w", r.name, r.host.Name, err)
	}
	<-r.done
	return nil
}

// blame adds to an error those roles that have ended though nobody told them to.
func (s *stage) blame(err error) error {
	for _, r := range s.roles {
		select {
		case <-r.done:
			if r.err != nil && !errors.Is(err, r.err) {
				err = errors.Join(err, r.err)
			}
		default:
		}
	}
	return err
}

// ready waits until check succeeds. It fails when the role ends before, or
// after [readyWithin], and shows the end of the host's log then.
func (s *stage) ready(r *role, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, readyWithin)
	defer cancel()
	for {
		last := check(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-r.done:
			return r.err
		case <-ctx.Done():
			if err := context.Cause(s.ctx); err != nil {
				return err
			}
			return fmt.Errorf("%s on %s is not ready after %v: %w%s", r.name, r.host.Name, readyWithin, last, tail(r.host.Log, 15))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// launchTold starts this very program on a host, gives it text to read, and
// waits for the line it says when it is ready.
func (s *stage) launchTold(h *host.Host, text, says string, args ...string) (*role, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	r, err := s.launch(h, args[0], func(ctx context.Context) *exec.Cmd {
		c := h.Self(ctx, args...)
		c.Stdin, c.Stdout = strings.NewReader(text), in
		return c
	})
	in.Close()
	if err != nil {
		return nil, err
	}
	if err := out.SetReadDeadline(time.Now().Add(readyWithin)); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != says {
		return nil, fmt.Errorf("%s on %s is not ready: it says %q, %w%s", args[0], h.Name, line, err, tail(h.Log, 15))
	}
	return r, nil
}
