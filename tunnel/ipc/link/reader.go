package link

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"stile/tunnel/ipc"
)

// Requests of one connection: more than people click. Faster ones wait, and
// with them the caller.
const (
	requestEvery = 50 * time.Millisecond
	requestBurst = 20
)

// A reader is one connected program.
type reader struct {
	*Server
	conn   net.Conn
	caller Caller
	user   string        // whom it counts for: "" for administrators
	news   chan struct{} // holds one: pending was set

	// writing is held while a frame is chosen and sent.
	writing sync.Mutex

	mutex   sync.Mutex // guards what follows; taken after writing
	floor   uint64     // snapshots begun before this serial are out of date
	pending []byte     // the latest state that was not sent; an earlier one is lost
	latest  []byte     // the latest state that was pending
}

func newReader(s *Server, conn net.Conn, c Caller) *reader {
	r := &reader{Server: s, conn: conn, caller: c, news: make(chan struct{}, 1)}
	if !c.Admin() {
		r.user = c.User()
	}
	return r
}

// serve talks to the program until it leaves or misbehaves, or ctx ends.
func (r *reader) serve(ctx context.Context) {
	here, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(here, func() { r.conn.SetWriteDeadline(time.Now().Add(partingTime)) })()
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(func() {
		defer r.conn.Close() // ends the reading
		r.write(here)
	})
	err := r.read(ctx)
	if _, is := errors.AsType[*ipc.Problem](err); !is {
		err = errLeft
	}
	cancel(err)
}

// errLeft means that there is nobody to say goodbye to.
var errLeft = errors.New("the program left")

// write sends the greeting, states as they come, and a goodbye when ctx ends.
func (r *reader) write(ctx context.Context) {
	err := r.send(ctx, func() ipc.Message { return ipc.Message{Hello: &ipc.Hello{Protocol: ipc.Protocol, Version: r.Version}} })
	if first, ok := r.snapshot(); ok && err == nil {
		r.offer(first)
		r.Changed() // wakes publish, if this is the first reader
	}
	for err == nil {
		select {
		case <-ctx.Done():
			r.part(ctx)
			return
		case <-r.news:
			err = r.sendPending(ctx)
		}
	}
	if late, is := errors.AsType[net.Error](err); is && late.Timeout() {
		r.Log.Info("a program that does not read what it is told was disconnected", "user", r.caller.User(), "pid", r.caller.PID)
	}
}

// part says why the connection ends, unless it was the program that left.
func (r *reader) part(ctx context.Context) {
	cause := context.Cause(ctx)
	if cause == errLeft {
		return
	}
	why, is := errors.AsType[*ipc.Problem](cause)
	if !is {
		why = ipc.SayStopping.With()
	}
	r.send(ctx, func() ipc.Message { return ipc.Message{Goodbye: why} })
}

// send writes one message, made when it is its turn.
func (r *reader) send(ctx context.Context, message func() ipc.Message) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	frame, err := ipc.AppendMessage(nil, message())
	if err != nil {
		return err
	}
	return r.put(ctx, frame)
}

func (r *reader) sendPending(ctx context.Context) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mutex.Lock()
	frame := r.pending
	r.pending = nil
	r.mutex.Unlock()
	if frame == nil {
		return nil
	}
	return r.put(ctx, frame)
}

// put writes a frame; writing is held. Once ctx has ended there is little time
// for it: AfterFunc in serve shortens a write that began before.
func (r *reader) put(ctx context.Context, frame []byte) error {
	r.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if ctx.Err() != nil {
		r.conn.SetWriteDeadline(time.Now().Add(partingTime))
	}
	_, err := r.conn.Write(frame)
	return err
}

// offer makes a snapshot the next state to send, if it says anything new.
func (r *reader) offer(s snapshot) {
	frame := s.of(r.caller)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if frame == nil || s.serial < r.floor || bytes.Equal(frame, r.latest) {
		return
	}
	r.pending, r.latest = frame, frame
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// read takes requests, one after the other. The error is why no more are
// taken.
func (r *reader) read(ctx context.Context) error {
	pace := rate.NewLimiter(rate.Every(requestEvery), requestBurst)
	in := bufio.NewReader(r.conn)
	for {
		body, err := readFrame(r.conn, in, ipc.MaxRequest)
		if errors.Is(err, ipc.ErrFrame) {
			return ipc.SayNotOurLanguage.With()
		}
		if err != nil {
			return err
		}
		if err := pace.Wait(ctx); err != nil {
			return err
		}
		request, err := ipc.ParseRequest(body)
		if err == nil {
			err = r.handle(ctx, request)
		}
		if err := r.answer(ctx, request.ID, r.explain(err)); err != nil {
			return err
		}
	}
}

// errCrashed stands for a panic, which is in the log.
var errCrashed = errors.New("it made a mistake")

// handle lets the service act. A mistake of the service costs this caller an
// answer, and nobody else anything (spec desktop-client.md 3.4).
func (r *reader) handle(ctx context.Context, q ipc.Request) (err error) {
	defer func() {
		if what := recover(); what != nil {
			r.Log.Error("a command crashed", "panic", what, "stack", string(debug.Stack()))
			err = errCrashed
		}
	}()
	if !ipc.IsQuestion(q.Command) {
		return r.Service.Handle(ctx, r.caller, q.Command)
	}
	informant, is := r.Service.(Informant)
	if !is {
		return ipc.SayNoQuestions.With()
	}
	return informant.Inform(ctx, r.caller, q.Command, func(p ipc.Part) error {
		p.ID = q.ID
		return r.send(ctx, func() ipc.Message { return ipc.Message{Part: &p} })
	})
}

// explain makes an error one to answer with; nil stays nil.
func (r *reader) explain(err error) *ipc.Problem {
	if p, is := errors.AsType[*ipc.Problem](err); is || err == nil {
		return p
	}
	if err != errCrashed {
		r.Log.Error("a command failed", "error", err)
	}
	return ipc.SayInternal.With("reason", fmt.Sprintf("%.500v", err))
}

// answer tells what became of a request. A state follows in any case, and none
// that was taken before the request was handled.
func (r *reader) answer(ctx context.Context, id uint64, p *ipc.Problem) error {
	err := r.send(ctx, func() ipc.Message {
		floor := r.begin()
		r.mutex.Lock()
		r.floor, r.pending, r.latest = floor, nil, nil
		r.mutex.Unlock()
		return ipc.Message{Answer: &ipc.Answer{ID: id, Problem: p}}
	})
	if after, ok := r.snapshot(); ok && err == nil {
		r.offer(after)
	}
	r.Changed() // for the others
	return err
}
