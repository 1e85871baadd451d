//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// beat is how often a flow sends.
const beat = 20 * time.Millisecond

// A flow is a conversation with an echo server that goes on by itself: eight
// bytes each way every beat. It remembers its longest silence.
type flow struct {
	name string
	conn net.Conn

	mu      sync.Mutex // guards the rest
	last    time.Time  // when an echo came back
	longest time.Duration
	err     error     // why it ended, if not by us
	ended   time.Time // when
}

// open begins a flow from a host to an echo server. It ends with the stage.
func (s *stage) open(h *host.Host, network string, to netip.AddrPort) (*flow, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	c, err := h.Dial(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	f := &flow{name: fmt.Sprintf("the %s flow to %v", network, to.Addr()), conn: c}
	if err := echo(c, "the first"); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	c.SetDeadline(time.Time{})
	f.last = time.Now()
	ctx, stop := context.WithCancel(s.ctx)
	s.running.Go(func() { f.speak(ctx) })
	s.running.Go(func() {
		defer stop()
		defer context.AfterFunc(s.ctx, func() { c.Close() })()
		f.listen()
	})
	return f, nil
}

// speak sends until ctx ends. What it cannot send shows in what comes back, but
// for one thing: of a reset the kernel tells whoever asks first, and the other
// one sees an orderly end.
func (f *flow) speak(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := f.conn.Write([]byte("12345678")); errors.Is(err, unix.ECONNRESET) {
				f.end(err)
			}
		}
	}
}

// listen reads what comes back until the connection ends. A datagram that was
// refused ends nothing.
func (f *flow) listen() {
	_, datagrams := f.conn.(*net.UDPConn)
	buf := make([]byte, 4096)
	for {
		n, err := f.conn.Read(buf)
		f.mu.Lock()
		now := time.Now()
		if n > 0 {
			f.longest, f.last = max(f.longest, now.Sub(f.last)), now
		}
		f.mu.Unlock()
		if err != nil && (!datagrams || errors.Is(err, net.ErrClosed)) {
			f.end(err)
			return
		}
	}
}

// end notes why the flow is over. Nothing tells more than a reset.
func (f *flow) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.ended = time.Now()
	}
	if f.err == nil || errors.Is(err, unix.ECONNRESET) {
		f.err = err
	}
}

// mark forgets the silences so far.
func (f *flow) mark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.longest, f.last = 0, time.Now()
}

// silence returns the longest silence since the mark, one that still lasts
// included, and why the flow has ended, if it has.
func (f *flow) silence() (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.longest, fmt.Errorf("%s was cut: %w", f.name, f.err)
	}
	return max(f.longest, time.Since(f.last)), nil
}

// heard returns when the last echo came.
func (f *flow) heard() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// settled tells how a flow has come through a disturbance that began at the
// mark: it goes on, or it was ended. Neither within limit is an error: it hangs.
func (f *flow) settled(ctx context.Context, began time.Time, limit time.Duration) (stalled time.Duration, cut bool, err error) {
	for {
		f.mu.Lock()
		last, ended, cause := f.last, f.ended, f.err
		longest := f.longest
		f.mu.Unlock()
		switch {
		case errors.Is(cause, io.EOF) && time.Since(ended) > 10*beat: // it may yet turn out to be a reset
			return 0, true, fmt.Errorf("%s ended as if the server had wished so", f.name)
		case cause != nil && !errors.Is(cause, io.EOF):
			return ended.Sub(began), true, nil
		case cause == nil && time.Since(last) < 10*beat && last.After(began):
			return longest, false, nil
		case time.Since(began) > limit:
			return time.Since(last), false, fmt.Errorf("%s hangs: it has been silent for %v and was not ended", f.name, time.Since(last).Round(time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return 0, false, context.Cause(ctx)
		case <-time.After(beat):
		}
	}
}

// within tries until it succeeds, or until limit has passed since began, and
// returns how long after began it succeeded.
func (s *stage) within(began time.Time, limit time.Duration, try func() error) (time.Duration, error) {
	for {
		err := try()
		took := time.Since(began)
		switch {
		case err == nil && took <= limit:
			return took, nil
		case err == nil:
			return took, fmt.Errorf("it took %s; the limit is %v", milliseconds(took), limit)
		case took > limit:
			return took, fmt.Errorf("not within %v: %w", limit, err)
		}
		select {
		case <-s.ctx.Done():
			return took, context.Cause(s.ctx)
		case <-time.After(beat):
		}
	}
}

// refusedAtOnce wants a connection, or a datagram, to be refused by a message
// and not by silence.
func (s *stage) refusedAtOnce(h *host.Host, network string, to netip.AddrPort, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 3*limit)
	defer cancel()
	began := time.Now()
	c, err := h.Dial(ctx, network, to.String())
	if err == nil {
		defer c.Close()
		c.SetDeadline(began.Add(3 * limit))
		if _, datagrams := c.(*net.UDPConn); datagrams { // a TCP connection that stands was not refused
			if _, err = c.Write([]byte("anybody?")); err == nil {
				_, err = c.Read(make([]byte, 64))
			}
		}
	}
	took := time.Since(began)
	var late net.Error
	switch {
	case err == nil:
		return took, fmt.Errorf("%s %v answers", network, to)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &late) && late.Timeout():
		return took, fmt.Errorf("%s %v: no refusal, only silence", network, to)
	case !prohibited(err):
		return took, fmt.Errorf("%s %v is refused otherwise than by \"administratively prohibited\": %w", network, to, err)
	case took > limit:
		return took, fmt.Errorf("%s %v is refused after %s; the limit is %v", network, to, milliseconds(took), limit)
	}
	return took, nil
}
