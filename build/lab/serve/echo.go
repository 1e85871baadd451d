//go:build linux

package serve

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// Echo sends back what comes in on TCP, until ctx ends, and closes the listener.
func Echo(ctx context.Context, l net.Listener) error {
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
		g.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			io.Copy(c, c) // ends when the peer does
		})
	}
}

// EchoPackets sends back each datagram, until ctx ends, and closes the socket.
func EchoPackets(ctx context.Context, p net.PacketConn) error {
	defer context.AfterFunc(ctx, func() { p.Close() })()
	buf := make([]byte, 65535)
	for {
		n, from, err := p.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err == nil {
			p.WriteTo(buf[:n], from) // a datagram may be lost
		}
	}
}
