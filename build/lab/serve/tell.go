//go:build linux

package serve

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
)

// Servers that say which of a host's addresses they were reached at: whoever
// talks to them notices when a translator sends a flow elsewhere.

// Tell serves TCP: it sends the address it was reached at as a line, and then
// back whatever comes. It ends with ctx and closes the listener.
func Tell(ctx context.Context, l net.Listener) error {
	var g sync.WaitGroup
	defer g.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if t, ok := c.(*net.TCPConn); ok {
			t.SetKeepAlive(false) // a connection that nobody uses is to be silent
		}
		g.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			if _, err := c.Write([]byte(host(c.LocalAddr()) + "\n")); err != nil {
				return
			}
			bufio.NewReaderSize(c, 2048).WriteTo(c) // ends when the peer does
		})
	}
}

// TellPackets serves UDP at one address: it sends each datagram back with that
// address and a space before it. It ends with ctx and closes the socket.
func TellPackets(ctx context.Context, p net.PacketConn) error {
	defer context.AfterFunc(ctx, func() { p.Close() })()
	prefix := host(p.LocalAddr()) + " "
	buf := make([]byte, len(prefix)+65535)
	copy(buf, prefix)
	for {
		n, from, err := p.ReadFrom(buf[len(prefix):])
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err == nil {
			p.WriteTo(buf[:len(prefix)+n], from) // a datagram may be lost
		}
	}
}

// host is an address without its port.
func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}
