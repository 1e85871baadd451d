package tcp

import (
	"bytes"
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A Conn is one end of a connection. What an application would wait for is told
// by its functions, any of which may be nil.
type Conn struct {
	// Data takes bytes that came; b is only good during the call.
	Data func(b []byte)
	// Finished hears that the other end has said all.
	Finished func()

	// Open is whether the handshake was made, EOF whether the other end has said
	// all, Err why the connection broke, if it did.
	Open, EOF bool
	Err       error

	host   *Host
	ep     tcpip.Endpoint
	unsent []byte
	noMore bool // after unsent
	shut   bool // noMore was done
	over   bool // the application has given it up
}

// Write sends b as soon as there is room. It is copied.
func (c *Conn) Write(b []byte) {
	c.host.clock.wake()
	c.unsent = append(c.unsent, b...)
	c.host.settle()
}

// CloseWrite says that nothing follows what was written.
func (c *Conn) CloseWrite() {
	c.host.clock.wake()
	c.noMore = true
	c.host.settle()
}

// Close gives the connection up, in peace: what was sent already still arrives.
func (c *Conn) Close() {
	c.host.clock.wake()
	c.over = true
	c.ep.Close()
	c.host.settle()
}

// Abort gives the connection up at once, with a RST.
func (c *Conn) Abort() {
	c.host.clock.wake()
	c.over = true
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true})
	c.ep.Close()
	c.host.settle()
}

// State is what the host says of the connection, in the words of RFC 9293.
func (c *Conn) State() string { return tcp.EndpointState(c.ep.State()).String() }

// pump does what can be done without waiting, and reports whether that was
// something.
func (c *Conn) pump() (did bool) {
	if c.over || c.Err != nil {
		return false
	}
	if !c.Open {
		switch tcp.EndpointState(c.ep.State()) {
		case tcp.StateError:
			c.fail(c.ep.LastError())
			return true
		case tcp.StateInitial, tcp.StateBound, tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			return false
		}
		c.Open = true
		did = true
	}
	for len(c.unsent) > 0 && c.Err == nil && !c.over {
		n, err := c.ep.Write(bytes.NewReader(c.unsent), tcpip.WriteOptions{})
		c.unsent = c.unsent[n:]
		did = did || n > 0
		if wait(err) {
			break
		}
		c.fail(err)
	}
	if c.noMore && !c.shut && len(c.unsent) == 0 && c.Err == nil && !c.over {
		c.shut = true
		did = true
		c.fail(c.ep.Shutdown(tcpip.ShutdownWrite))
	}
	for !c.EOF && c.Err == nil && !c.over {
		var b bytes.Buffer
		_, err := c.ep.Read(&b, tcpip.ReadOptions{})
		if b.Len() > 0 {
			did = true
			if c.Data != nil {
				c.Data(b.Bytes())
			}
		}
		if _, ok := err.(*tcpip.ErrClosedForReceive); ok {
			c.EOF = true
			did = true
			if c.Finished != nil {
				c.Finished()
			}
			break
		}
		if wait(err) {
			break
		}
		c.fail(err)
	}
	return did
}

func wait(err tcpip.Error) bool {
	_, ok := err.(*tcpip.ErrWouldBlock)
	return ok
}

func (c *Conn) fail(err tcpip.Error) {
	if err != nil && c.Err == nil {
		c.Err = fmt.Errorf("%v", err)
	}
}
