// Package link connects the programs of logged-in users with the tunnel service
// over a local socket: the service's end, a [Server], and a program's end, a
// [Client]. What they say is package ipc.
//
// The session belongs to the service. A program that leaves, also in the middle
// of a command, ends nothing; any number of them may watch.
//
// Everybody on the machine may connect, because only the service can tell a
// caller what to do to be let in; who is not let in is told so and hears
// nothing else. The system says who a caller is, and which program.
//
// Root may do anything, with any program. Users who may come in are members of a
// group and who sits in front of the machine, with the programs that are
// installed ([Config].Programs). While one of them is signed in, the others
// learn who that is and no more ([Discreet]).
package link

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
)

// Socket is where the service listens.
var Socket = ipcsock.Path("tunnel")

// Group is the name of the group whose members may control the service.
const Group = "stile"

// A Caller is the process at the other end, as the kernel knows it.
type Caller = ipcsock.Peer

// A Service acts on commands and says how it is. Its methods are called from
// several goroutines.
type Service interface {
	// Handle acts on a command. It returns when State tells of it; that is
	// when the wish is known, not when it has come true: after ipc.SignIn the
	// session is no longer Connected by an earlier token. An *ipc.Problem is
	// shown to the user as it is; any other error is logged, and the user
	// learns that there was one. ctx ends when the service stops, not when the
	// caller leaves.
	Handle(ctx context.Context, from Caller, c ipc.Command) error
	// State returns the whole state, which nobody changes afterwards. It is
	// called when somebody connects, after Server.Changed and each second while
	// somebody watches.
	State() ipc.State
}

// A Discreet Service has states that are not for everybody whom it lets in.
type Discreet interface {
	// Show returns what State does, and who may see that. Others get
	// ipc.State.ForOthers of it.
	Show() (s ipc.State, may func(Caller) bool)
}

// An Informant is a Service that answers questions, too (ipc.IsQuestion); one
// that is not refuses them as unknown.
type Informant interface {
	// Inform hands what the question brings to put, which blocks while the caller
	// does not read, and fails when it has left. Errors are told as those of
	// Handle. It is called from several goroutines.
	Inform(ctx context.Context, from Caller, question ipc.Command, put func(ipc.Part) error) error
}

// Listen makes the socket. The error is ipcsock.ErrInUse if another service
// runs there.
func Listen(path string) (net.Listener, error) { return ipcsock.Listen(path, 0o666) }

// Times that protect either end from the other.
const (
	greetTime  = 5 * time.Second  // a program waits for the greeting (spec desktop-client.md 3.4)
	answerTime = 30 * time.Second // a program waits until its command is known; a session that is set up takes seconds
	frameTime  = 10 * time.Second // from the first byte of a frame to its last
	writeTime  = 5 * time.Second  // a frame has to be taken off our hands
)

// readFrame reads the body of a frame. There is no limit to the wait for its
// first byte; from then on it has to be complete within frameTime. The result
// is io.EOF if the other end hung up between frames.
func readFrame(conn net.Conn, r *bufio.Reader, limit int) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
		return nil, err
	}
	defer conn.SetReadDeadline(time.Time{})
	var header [ipc.HeaderLen]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, whole(err)
	}
	n, err := ipc.BodyLen(header, limit)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	return body, whole(err)
}

// whole turns the end of the stream within a frame into another error than the
// end between two of them.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
