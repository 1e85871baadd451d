// Package instance makes the program run once for a user, and lets a second
// start speak to the first (spec desktop-client.md 5).
//
// A lock file tells who is first. The kernel releases it on any exit, so that a
// crash blocks nobody, and two that start together cannot both win, as they
// could by way of the socket alone. The first then listens on the hand-off
// socket. Both lie in a folder that belongs to the user alone, and both ends
// ask the kernel who the other is: only programs of the same user speak here.
package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"stile/platform/desktop"
	"stile/platform/dirs"
	"stile/platform/ipcsock"
	"stile/platform/lockfile"
	"stile/tunnel/ipc"
)

// Why there is no first instance, or no answer from it.
var (
	// ErrRunning: another instance runs. Send it NewInstance and end.
	ErrRunning = errors.New("the program runs already")
	// ErrOtherSession: it runs, but on another desktop of this user, where its
	// windows would open. Tell the user to sign out there.
	ErrOtherSession = errors.New("the program already runs in another logon session: sign out there first")
	// ErrNobody: no instance runs. The user has to start one.
	ErrNobody = errors.New("the program does not run")
	// ErrSilent: it runs, but does not respond. Ending it is what helps.
	ErrSilent = errors.New("the program already runs, but does not respond: end it, and start it again")
	// ErrStranger: another user's program is at the socket. It is told nothing.
	ErrStranger = errors.New("another user's program listens in place of this one")
)

const (
	lockName   = "launch.lock"
	socketName = "app"

	answerTime  = 5 * time.Second // for the Ack
	knocks      = 3               // attempts to connect
	knockPause  = 100 * time.Millisecond
	connections = 8 // at a time; others wait
)

// Dir is where the instances of this user meet.
func Dir() string { return dirs.Session() }

// An Instance is the one of its user that runs.
type Instance struct {
	lock *lockfile.Lock
	l    net.Listener
}

// A holder is what the first instance leaves in the lock file.
type holder struct {
	PID     int    `json:"pid"`
	Session string `json:"session,omitempty"` // of the desktop; "": unknown
}

// Acquire makes this process the instance of dir, which it makes if it is
// missing. The error is ErrRunning or ErrOtherSession, or says what is wrong
// with dir. Whoever got an Instance has to Serve or to Close it.
func Acquire(dir string) (*Instance, error) {
	if err := dirs.Private(dir); err != nil {
		return nil, err
	}
	session := desktop.Session()
	note, err := json.Marshal(holder{os.Getpid(), session})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockName)
	lock, err := lockfile.Take(path, string(note))
	if errors.Is(err, lockfile.ErrTaken) {
		return nil, running(path, session)
	}
	if err != nil {
		return nil, err
	}
	l, err := ipcsock.Listen(ipcsock.Beside(dir, socketName), 0o600)
	if err != nil {
		lock.Release()
		return nil, err
	}
	return &Instance{lock, l}, nil
}

// running tells whether the instance that holds the lock is on this desktop. In
// doubt it is.
func running(lock, session string) error {
	note, err := lockfile.Note(lock)
	var h holder
	if err != nil || json.Unmarshal([]byte(note), &h) != nil || h.Session == "" || session == "" || h.Session == session {
		return ErrRunning
	}
	return ErrOtherSession
}

// Close ends the instance: another one can start.
func (i *Instance) Close() error { return errors.Join(i.l.Close(), i.lock.Release()) }

// Serve hands take what other starts of the program say, one at a time, until
// ctx ends, which is no error. The other start is told that it was heard when
// take returns: it shall take no longer than a moment. The Instance is closed
// afterwards.
func (i *Instance) Serve(ctx context.Context, take func(Message)) error {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer i.lock.Release() // last: who gets it must find no socket
	defer g.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { i.l.Close() })()
	var one sync.Mutex // held while take works
	slots := make(chan struct{}, connections)
	for {
		slots <- struct{}{} // for answerTime at the longest: each connection ends
		conn, err := i.l.Accept()
		if err != nil {
			i.l.Close()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for other starts of the program: %w", err)
		}
		g.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(answerTime))
			// Reading ends then; who was heard is still told so.
			defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
			hear(conn, func(m Message) {
				one.Lock()
				defer one.Unlock()
				take(m)
			})
		})
	}
}

// hear takes one message. Whoever says something else is hung up on.
func hear(conn net.Conn, take func(Message)) {
	if caller, err := ipcsock.Caller(conn); err != nil || sameUser(caller) != nil {
		return
	}
	body, err := read(conn)
	if err != nil {
		return
	}
	m, err := parse(body)
	if err != nil {
		return
	}
	take(m)
	send(conn, []byte(ack))
}

// Send tells the instance of dir a message and waits until it was heard. The
// error is ErrNobody, ErrSilent or ErrStranger, or says what else is wrong.
func Send(ctx context.Context, dir string, m Message) error {
	body, err := encode(m)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir); err != nil {
		return ErrNobody
	}
	if err := dirs.Private(dir); err != nil {
		return err
	}
	conn, err := knock(ctx, ipcsock.Beside(dir, socketName))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	server, _, err := ipcsock.Server(conn)
	if err == nil {
		err = sameUser(server)
	}
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(answerTime))
	if err := send(conn, body); err != nil {
		return lost(ctx, err)
	}
	answer, err := read(conn)
	if err != nil {
		return lost(ctx, err)
	}
	if string(answer) != ack {
		return errMessage
	}
	return nil
}

// knock connects to the socket. The instance may be about to make it.
func knock(ctx context.Context, path string) (net.Conn, error) {
	for n := 1; ; n++ {
		conn, err := ipcsock.Dial(path)
		switch {
		case err == nil:
			return conn, nil
		case !errors.Is(err, ipcsock.ErrNobody):
			return nil, fmt.Errorf("%w (%w)", ErrSilent, err)
		case n == knocks:
			return nil, ErrNobody
		}
		select {
		case <-time.After(knockPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// sameUser makes sure that the other end is a program of this user.
func sameUser(peer ipcsock.Peer) error {
	us, err := ipcsock.Self()
	if err == nil && peer.User() != us {
		err = fmt.Errorf("%w: user %s", ErrStranger, peer.User())
	}
	return err
}

// lost says why there was no answer.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w (%w)", ErrSilent, err)
}

func send(conn net.Conn, body []byte) error {
	frame, err := ipc.AppendFrame(nil, body, maxMessage)
	if err == nil {
		_, err = conn.Write(frame)
	}
	return err
}

// read returns the body of a frame, of which there is one in each direction.
func read(conn net.Conn) ([]byte, error) {
	var header [ipc.HeaderLen]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return nil, err
	}
	n, err := ipc.BodyLen(header, maxMessage)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(conn, body)
	return body, err
}
