//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/nat"
)

const (
	tcpPort     = 4000    // of a server whose connections the scenario holds itself
	tcpAmount   = 1 << 20 // bytes
	tcpPatience = 10 * time.Second
	tcpSilence  = 2 * time.Second
	tcpFrom     = 23456 // of the laptop
	tcpReuses   = 12
	tcpReuse    = 900 * time.Millisecond // a SYN that is lost is sent again after a second
)

// A conversation is something that two programs do with a connection. Both ends
// are the kernel's: what the NAT between them thinks of it must not show.
type conversation struct {
	name string
	hold func(client, server *net.TCPConn) error
}

var conversations = []conversation{
	{"a megabyte each way at once", func(c, s *net.TCPConn) error {
		return errors.Join(together(
			func() error { return send(c, 1) }, func() error { return send(s, 2) },
			func() error { return receive(s, 1) }, func() error { return receive(c, 2) },
		)...)
	}},
	{"the client ends its half, the answer comes after", func(c, s *net.TCPConn) error { return halves(c, s) }},
	{"the server ends its half, the client goes on", func(c, s *net.TCPConn) error { return halves(s, c) }},
	{"both end at the same moment", func(c, s *net.TCPConn) error {
		return errors.Join(together(
			c.CloseWrite, s.CloseWrite,
			func() error { return ends(c) }, func() error { return ends(s) },
		)...)
	}},
	{"the client aborts", func(c, s *net.TCPConn) error { return aborts(c, s) }},
	{"the server aborts", func(c, s *net.TCPConn) error { return aborts(s, c) }},
	{"both are silent, and go on", func(c, s *net.TCPConn) error {
		time.Sleep(tcpSilence)
		return errors.Join(says(s, c, "still there?"), says(c, s, "yes"))
	}},
}

// runTCP: connections behave as they do without anything between.
func runTCP(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, wikiByName, site4, site6); err != nil {
		return err
	}
	l, err := v.net.wiki.Listen("tcp", fmt.Sprintf(":%d", tcpPort))
	if err != nil {
		return err
	}
	defer l.Close()
	to, err := v.wikiAddrs()
	if err != nil {
		return err
	}
	var steps []step
	for _, t := range conversations {
		steps = append(steps, step{t.name, func() error {
			for _, a := range to {
				c, s, err := v.connect(l, netip.AddrPortFrom(a, tcpPort), 0)
				if err == nil {
					err = t.hold(c, s)
					c.Close() // unless it was aborted
					s.Close()
				}
				if err != nil {
					return fmt.Errorf("to %v: %w", a, err)
				}
			}
			return nil
		}})
	}
	return s.all(append(steps,
		step{"a port that was just used is used again at once", func() error { return v.reuse(l, to) }},
		step{"all programs end when they are told to", v.end})...)
}

// connect opens a connection from a port of the laptop, 0: any, and returns both
// of its ends.
func (v *visit) connect(l net.Listener, to netip.AddrPort, port int) (client, server *net.TCPConn, err error) {
	ctx, cancel := context.WithTimeout(v.ctx, tcpPatience)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
	}}
	err = v.net.laptop.InNetwork(func() error {
		c, err := d.DialContext(ctx, "tcp", to.String())
		if err == nil {
			client = c.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = l.(*net.TCPListener).SetDeadline(time.Now().Add(tcpPatience))
	s, e := l.Accept()
	if err = errors.Join(err, e); err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("the server knows nothing of a connection that stands: %w", err)
	}
	server = s.(*net.TCPConn)
	deadline := time.Now().Add(tcpPatience)
	return client, server, errors.Join(client.SetDeadline(deadline), server.SetDeadline(deadline))
}

// reuse begins one connection after the other from the same port: after the
// client aborted, and after the server ended first, which is the one that
// remembers the connection then.
func (v *visit) reuse(l net.Listener, to []netip.Addr) error {
	worst := time.Duration(0)
	for _, a := range to {
		for n := range tcpReuses {
			began := time.Now()
			c, s, err := v.connect(l, netip.AddrPortFrom(a, tcpPort), tcpFrom)
			for ended := began; errors.Is(err, unix.EADDRNOTAVAIL) && time.Since(ended) < time.Second; {
				time.Sleep(time.Millisecond) // the last acknowledgement is on its way to the client
				began = time.Now()
				c, s, err = v.connect(l, netip.AddrPortFrom(a, tcpPort), tcpFrom)
			}
			took := time.Since(began)
			worst = max(worst, took)
			switch {
			case err != nil:
				return fmt.Errorf("to %v, connection %d from the same port: %w", a, n+1, err)
			case took > tcpReuse:
				return fmt.Errorf("to %v, connection %d from the same port: it takes %s; the limit is %v", a, n+1, milliseconds(took), tcpReuse)
			}
			err = errors.Join(says(c, s, "hello"), says(s, c, "again"))
			if n%2 == 0 {
				err = errors.Join(err, c.SetLinger(0), c.Close(), s.Close())
			} else {
				err = errors.Join(err, s.CloseWrite(), ends(c), c.Close(), ends(s), s.Close())
			}
			if err != nil {
				return fmt.Errorf("to %v, connection %d from the same port: %w", a, n+1, err)
			}
		}
	}
	v.metric("reuse_worst_ms", float64(worst.Microseconds())/1000)
	return nil
}

func together(all ...func() error) []error {
	errs, done := make([]error, len(all)), make(chan struct{})
	for i, f := range all {
		go func() {
			errs[i] = f()
			done <- struct{}{}
		}()
	}
	for range all {
		<-done
	}
	return errs
}

// text is a megabyte that differs from others.
func text(seed uint64) []byte {
	b, rng := make([]byte, tcpAmount), rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// send sends a text and ends this half.
func send(c *net.TCPConn, seed uint64) error {
	if _, err := c.Write(text(seed)); err != nil {
		return err
	}
	return c.CloseWrite()
}

// receive wants a text and the end of the other half.
func receive(c *net.TCPConn, seed uint64) error {
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, text(seed)) {
		err = fmt.Errorf("%d bytes came, or others than were sent", len(got))
	}
	return err
}

// ends wants the end of the other half, and nothing before.
func ends(c *net.TCPConn) error {
	got, err := io.ReadAll(c)
	if err == nil && len(got) > 0 {
		err = fmt.Errorf("%d bytes came that nobody sent", len(got))
	}
	return err
}

// says has one end say something to the other.
func says(from, to *net.TCPConn, what string) error {
	if _, err := from.Write([]byte(what)); err != nil {
		return err
	}
	got := make([]byte, len(what))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != what {
		return fmt.Errorf("said %q, heard %q: %w", what, got, err)
	}
	return nil
}

// halves has one end finish first, and the other go on.
func halves(first, second *net.TCPConn) error {
	if err := errors.Join(says(first, second, "that is all"), first.CloseWrite(), ends(second)); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	return errors.Join(together(func() error { return send(second, 3) }, func() error { return receive(first, 3) })...)
}

// aborts has one end reset the connection; the other must hear of it.
func aborts(one, other *net.TCPConn) error {
	if err := errors.Join(says(one, other, "a"), says(other, one, "b"), one.SetLinger(0), one.Close()); err != nil {
		return err
	}
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("the other end hears %v, want a reset", err)
	}
	return nil
}
