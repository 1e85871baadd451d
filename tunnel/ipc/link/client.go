package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"stile/build/stamp"
	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
)

var (
	// ErrSilent means that the service takes connections and says nothing.
	// Restarting it is what helps.
	ErrSilent = errors.New("the service does not respond")
	// ErrStranger means that neither root nor the caller runs what answers at
	// the socket: tell it nothing.
	ErrStranger = errors.New("the service at this socket is run by a stranger")
	// ErrGone means that the service ended without a word. It may come back.
	ErrGone = errors.New("the connection to the service broke")
)

// A Client is a program's connection to the service. It is not safe for
// concurrent use: who watches and commands at the same time opens two. After an
// error, but for an *ipc.Problem of Do, and after the end of a context that it
// was given, it is of no more use.
type Client struct {
	Hello ipc.Hello
	conn  net.Conn
	in    *bufio.Reader
	id    uint64     // of the latest request
	state *ipc.State // not yet returned by Next
}

// Dial connects to the service at path and waits for its greeting. Besides the
// errors above, the error may be ipcsock.ErrNobody (the service is not
// running), ipcsock.ErrDenied, or an *ipc.Problem: the service's own word why
// it does not let us in, or that it speaks another protocol.
func Dial(ctx context.Context, path string) (*Client, error) {
	conn, err := ipcsock.Dial(path)
	if err != nil {
		return nil, err
	}
	c := newClient(conn)
	if err = trust(conn); err == nil {
		err = c.greet(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func newClient(conn net.Conn) *Client { return &Client{conn: conn, in: bufio.NewReader(conn)} }

// trust makes sure of the other end before anything is said to it.
func trust(conn net.Conn) error {
	server, trusted, err := ipcsock.Server(conn)
	if err == nil && !trusted {
		err = fmt.Errorf("%w: user %s", ErrStranger, server.User())
	}
	return err
}

// greet waits for the service's first word.
func (c *Client) greet(ctx context.Context) error {
	greeted, cancel := context.WithTimeoutCause(ctx, greetTime, ErrSilent)
	defer cancel()
	m, err := c.receive(greeted)
	switch {
	case err != nil:
		return err
	case m.Hello == nil:
		return ipc.ErrMessage
	}
	c.Hello = *m.Hello
	if p := c.Hello.Outdated(stamp.String()); p != nil {
		return p
	}
	return nil
}

// Close ends the connection. The service's session goes on.
func (c *Client) Close() error { return c.conn.Close() }

// Next returns the next state: the first one at once, then one whenever
// something changed. If several did since the last call, the earlier ones may
// be lost. An *ipc.Problem is the service's goodbye.
func (c *Client) Next(ctx context.Context) (*ipc.State, error) {
	for c.state == nil {
		if _, err := c.receive(ctx); err != nil {
			return nil, err
		}
	}
	s := c.state
	c.state = nil
	return s, nil
}

// Do has the service act on a command and waits until the wish is known. States
// that Next returns afterwards know of it. An *ipc.Problem says why the service
// would not.
func (c *Client) Do(ctx context.Context, command ipc.Command) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, ErrSilent)
	defer cancel()
	return c.Ask(ctx, command, func(ipc.Part) error { return nil })
}

// Ask is Do for a question: take gets what it brings, in order. An error of take
// ends it and is returned; the connection is of no more use then.
func (c *Client) Ask(ctx context.Context, question ipc.Command, take func(ipc.Part) error) error {
	c.id++
	frame, err := ipc.AppendRequest(nil, ipc.Request{ID: c.id, Command: question})
	if err != nil {
		return err
	}
	c.conn.SetWriteDeadline(time.Now().Add(writeTime))
	c.conn.Write(frame) // if it fails, so does reading, which tells more
	for {
		m, err := c.receive(ctx)
		if err != nil {
			return err
		}
		if m.Part != nil && m.Part.ID == c.id {
			if err := take(*m.Part); err != nil {
				return err
			}
		}
		if m.Answer == nil || m.Answer.ID != c.id {
			continue
		}
		c.state = nil // taken before
		if m.Answer.Problem != nil {
			return m.Answer.Problem
		}
		return nil
	}
}

// receive returns the next message; a state is kept for Next as well.
func (c *Client) receive(ctx context.Context) (ipc.Message, error) {
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	body, err := readFrame(c.conn, c.in, ipc.MaxMessage)
	if err != nil {
		return ipc.Message{}, c.lost(ctx, err)
	}
	m, err := ipc.ParseMessage(body)
	switch {
	case err != nil:
		return m, err
	case m.Goodbye != nil:
		return m, m.Goodbye
	case m.State != nil:
		c.state = m.State
	}
	return m, nil
}

// lost says why nothing more can be read or written.
func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, ipc.ErrFrame) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return ErrGone
	}
	return fmt.Errorf("%w: %w", ErrGone, err)
}
