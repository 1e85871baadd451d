package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"stile/platform/ipcsock"
)

// The protocol: a connection carries one request and one response, each one
// line of JSON. version is in both, so that a command that meets a portal of
// another one can say so.
const (
	version     = 1
	maxMessage  = 64 << 20         // a status with some 100,000 devices
	maxRequest  = 1 << 20          // what a command may send
	answerTime  = 30 * time.Second // for one request
	connections = 16               // at a time; others wait to be accepted
)

type request struct {
	Version int             `json:"version"`
	Do      string          `json:"do"`
	Args    json.RawMessage `json:"args,omitempty"`
}

type response struct {
	Version int             `json:"version"`
	Error   string          `json:"error,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

// Listen opens the local socket for commands. The error is ipcsock.ErrInUse if
// another portal runs there.
func Listen(socketPath string) (net.Listener, error) { return ipcsock.Listen(socketPath, 0o600) }

// Serve answers commands at l, from Listen, until ctx ends, and closes it. Root
// and the portal's own user may use it; the kernel says who they are.
func Serve(ctx context.Context, l net.Listener, b *Backend, log *slog.Logger) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var g sync.WaitGroup
	defer g.Wait()
	slots := make(chan struct{}, connections)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("socket for commands: %w", err)
		}
		slots <- struct{}{}
		g.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			conn.SetDeadline(time.Now().Add(answerTime))
			b.answer(ctx, conn, log)
		})
	}
}

// answer serves one connection.
func (b *Backend) answer(ctx context.Context, conn net.Conn, log *slog.Logger) {
	r := response{Version: version}
	result, err := b.serveRequest(ctx, conn, log)
	if err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r.Error = err.Error()
	}
	json.NewEncoder(conn).Encode(r) // who does not wait for the answer misses it
}

func (b *Backend) serveRequest(ctx context.Context, conn net.Conn, log *slog.Logger) (any, error) {
	peer, err := ipcsock.Caller(conn)
	if err != nil {
		return nil, err
	}
	if !allowed(peer.UID) {
		log.Warn("refused a command", "uid", peer.UID, "pid", peer.PID)
		return nil, errors.New("not allowed: run the command as root or as the portal's own user")
	}
	var q request
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &q) != nil {
		return nil, errors.New("request not understood")
	}
	if q.Version != version {
		return nil, fmt.Errorf("the running portal speaks version %d of this protocol, the command version %d; restart the portal", version, q.Version)
	}
	log.Info("command", "do", q.Do, "uid", peer.UID)
	return b.call(ctx, q.Do, func(into any) error { return json.Unmarshal(q.Args, into) })
}

// allowed reports whether a user may give commands.
func allowed(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// ask sends one request to a running portal.
func ask(conn net.Conn, do string, args, result any) error {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerTime))
	q := request{Version: version, Do: do}
	var err error
	if q.Args, err = json.Marshal(args); err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return fmt.Errorf("ask the portal: %w", err)
	}
	var r response
	if err := json.NewDecoder(io.LimitReader(conn, maxMessage)).Decode(&r); err != nil {
		return fmt.Errorf("the portal gave no answer: %w", err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	if result == nil || len(r.Result) == 0 {
		return nil
	}
	return json.Unmarshal(r.Result, result)
}
