//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
	"stile/build/lab/serve"
)

// tellPort is where servers say at which of their addresses they were reached,
// before they send back what they hear.
const tellPort = 4007

// serveTell starts such servers on a host: TCP for all of its addresses, UDP
// for these.
func (s *stage) serveTell(h *host.Host, addrs ...netip.Addr) error {
	l, err := h.Listen("tcp", fmt.Sprintf(":%d", tellPort))
	if err != nil {
		return err
	}
	s.spawn("telling TCP server on "+h.Name, func(ctx context.Context) error { return serve.Tell(ctx, l) })
	for _, a := range addrs {
		p, err := h.ListenPacket("udp", netip.AddrPortFrom(a, tellPort).String())
		if err != nil {
			return err
		}
		s.spawn("telling UDP server on "+h.Name, func(ctx context.Context) error { return serve.TellPackets(ctx, p) })
	}
	return nil
}

// A talker is one of many conversations with a server that tells where it was
// reached. It says a number each time it is told to and wants that number back,
// from the place where its first answer came from.
type talker struct {
	name   string
	conn   net.Conn
	server string // where it is led to
	stream bool

	said uint64 // how often it spoke; its speaker's own

	mu      sync.Mutex // guards the rest
	heard   uint64     // answers
	last    time.Time  // when the last one came
	longest time.Duration
	err     error // what became of it, if it was cut or led elsewhere
}

// talk opens a conversation and waits for the first answer.
func talk(ctx context.Context, h *host.Host, network string, to netip.AddrPort) (t *talker, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = h.InNetwork(func() error { t, err = dial(ctx, network, to, 0); return err })
	return t, err
}

// dial is talk for a goroutine that is in the host's network already. Several
// TCP conversations with different servers may have the same port of their own;
// 0: any.
func dial(ctx context.Context, network string, to netip.AddrPort, own int) (*talker, error) {
	d := net.Dialer{KeepAlive: -1} // one that is silent is to be silent
	if own != 0 {
		d.LocalAddr = &net.TCPAddr{Port: own}
		d.Control = func(_, _ string, c syscall.RawConn) (err error) {
			if bad := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); bad != nil {
				return bad
			}
			return err
		}
	}
	c, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	return begin(c, network, to)
}

func begin(c net.Conn, network string, to netip.AddrPort) (t *talker, err error) {
	t = &talker{name: fmt.Sprintf("%s %v to %v", network, c.LocalAddr(), to.Addr()), conn: c, stream: network == "tcp"}
	defer func() {
		if err != nil {
			c.Close()
			err = fmt.Errorf("%s: %w", t.name, err)
		}
	}()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if t.stream {
		t.server, err = bufio.NewReader(c).ReadString('\n') // nothing follows before we speak
	} else if err = t.speak(); err == nil {
		buf := make([]byte, 128)
		var n int
		if n, err = c.Read(buf); err == nil {
			t.server, _, _ = strings.Cut(string(buf[:n]), " ")
			t.heard++
		}
	}
	if err != nil {
		return nil, err
	}
	t.server = strings.TrimSpace(t.server)
	t.last = time.Now()
	return t, c.SetDeadline(time.Time{})
}

// speak says the next number. What it cannot say shows in what comes back.
func (t *talker) speak() error {
	t.said++
	_, err := t.conn.Write(binary.BigEndian.AppendUint64(nil, t.said))
	return err
}

// listen takes answers until the conversation ends.
func (t *talker) listen() {
	buf := make([]byte, 512)
	for {
		var n int
		var err error
		if t.stream {
			n, err = io.ReadFull(t.conn, buf[:8])
		} else {
			n, err = t.conn.Read(buf)
		}
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil && !t.stream:
			continue // a datagram that was refused ends nothing
		case err != nil:
			t.end(fmt.Errorf("was cut: %w", err))
			return
		}
		if err := t.took(buf[:n]); err != nil {
			t.end(err)
			return
		}
	}
}

// took notes one answer.
func (t *talker) took(b []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stream {
		from, rest, _ := strings.Cut(string(b), " ")
		if from != t.server {
			return fmt.Errorf("was with %s and is answered by %s", t.server, from)
		}
		b = []byte(rest)
	}
	if len(b) != 8 {
		return fmt.Errorf("an answer of %d bytes", len(b))
	}
	t.heard++
	if number := binary.BigEndian.Uint64(b); t.stream && number != t.heard {
		return fmt.Errorf("bytes were lost: answer %d comes as number %d", number, t.heard)
	}
	now := time.Now()
	t.longest, t.last = max(t.longest, now.Sub(t.last)), now
	return nil
}

func (t *talker) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = fmt.Errorf("%s %w", t.name, err)
	}
}

// state returns the longest silence since the mark, one that lasts included,
// when the last answer came, and what became of the conversation, if it ended.
func (t *talker) state() (silence time.Duration, last time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.longest, time.Since(t.last)), t.last, t.err
}

// A crowd is many conversations that are kept up by one program.
type crowd []*talker

// openers is how many conversations of a crowd open at a time.
const openers = 16

// gather opens a conversation with each server, several times over if there are
// fewer servers than wanted. All end with the stage.
func (s *stage) gather(h *host.Host, network string, n int, to ...netip.AddrPort) (crowd, error) {
	return s.gatherFrom(h, network, n, func(int) int { return 0 }, to...)
}

// gatherTwins is gather by TCP, where each port of the host has a conversation
// with every server. If they are one server behind a translator, that has to
// give all but one of them another port.
func (s *stage) gatherTwins(h *host.Host, n int, to ...netip.AddrPort) (crowd, error) {
	const first = 20000 // below those that the kernel chooses from
	return s.gatherFrom(h, "tcp", n, func(i int) int { return first + i/len(to) }, to...)
}

func (s *stage) gatherFrom(h *host.Host, network string, n int, own func(i int) int, to ...netip.AddrPort) (crowd, error) {
	all := make(crowd, n)
	errs := make([]error, openers)
	var g sync.WaitGroup
	for k := range openers {
		g.Go(func() {
			errs[k] = h.InNetwork(func() error {
				for i := k; i < n; i += openers {
					ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
					t, err := dial(ctx, network, to[i%len(to)], own(i))
					cancel()
					if all[i] = t; err != nil {
						return fmt.Errorf("conversation %d of %d: %w", i, n, err)
					}
				}
				return nil
			})
		})
	}
	g.Wait()
	for _, t := range all {
		if t == nil {
			continue
		}
		s.running.Go(t.listen)
		s.running.Go(func() { <-s.ctx.Done(); t.conn.Close() })
	}
	return all, errors.Join(errs...)
}

// keepUp has each speak once in every period, evenly spread, until ctx ends.
func (c crowd) keepUp(ctx context.Context, period time.Duration) {
	if len(c) == 0 {
		return
	}
	const grain = 10 * time.Millisecond
	tick := time.NewTicker(grain)
	defer tick.Stop()
	began := time.Now()
	for spoke := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(int64(time.Since(began)) * int64(len(c)) / int64(period)); spoke < due; spoke++ {
			c[spoke%len(c)].speak()
		}
	}
}

// mark forgets the silences so far.
func (c crowd) mark() {
	for _, t := range c {
		t.mu.Lock()
		t.longest, t.last = 0, time.Now()
		t.mu.Unlock()
	}
}

// fate tells how many were cut or led elsewhere, with the first few reasons,
// and the longest silence of the others.
func (c crowd) fate() (lost int, longest time.Duration, err error) {
	var errs []error
	for _, t := range c {
		silence, _, bad := t.state()
		if bad == nil {
			longest = max(longest, silence)
			continue
		}
		if lost++; lost <= 5 {
			errs = append(errs, bad)
		}
	}
	if lost > len(errs) {
		errs = append(errs, fmt.Errorf("and %d more", lost-len(errs)))
	}
	return lost, longest, errors.Join(errs...)
}

// speakOnce has each speak and waits until all have been answered. Those that
// were not by the limit count as cut. Datagrams may be lost: they are repeated.
func (c crowd) speakOnce(ctx context.Context, limit time.Duration) error {
	began := time.Now()
	for _, t := range c {
		t.speak()
	}
	for _, t := range c {
		for repeat := began.Add(time.Second); ; {
			_, last, err := t.state()
			if err != nil || last.After(began) {
				break
			}
			if !t.stream && time.Now().After(repeat) {
				t.speak()
				repeat = repeat.Add(time.Second)
			}
			if time.Since(began) > limit {
				t.end(fmt.Errorf("was not answered within %v", limit))
				break
			}
			if err := pause(ctx, 2*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// servers returns how many talk with each server.
func (c crowd) servers() map[string]int {
	m := map[string]int{}
	for _, t := range c {
		m[t.server]++
	}
	return m
}
