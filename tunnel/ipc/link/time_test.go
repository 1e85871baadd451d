package link

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/ipc"
)

// virtual connects a program to a fake service in a bubble; end waits until the
// service is done with it.
func virtual(t *testing.T, f *fake) (program net.Conn, end func()) {
	program, service := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	r := f.server.join(service, Caller{UID: 1000})
	var g sync.WaitGroup
	g.Go(func() { f.server.publish(ctx) })
	g.Go(func() {
		defer f.server.leave(r)
		r.serve(ctx)
	})
	return program, func() { cancel(); program.Close(); g.Wait() }
}

func (f *fake) reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func TestSlowReadersAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		program, end := virtual(t, f)
		defer end()
		began := time.Now()
		if _, err := newClient(program).receive(t.Context()); err != nil { // the greeting, and nothing after it
			t.Fatal(err)
		}
		for len(f.server.watching()) > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < writeTime || took > writeTime+time.Second {
			t.Errorf("dropped after %v", took)
		}
	})
}

func TestHalfMessagesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		program, end := virtual(t, f)
		defer end()
		go io.Copy(io.Discard, program)
		time.Sleep(time.Hour) // who only listens may stay
		if len(f.server.watching()) != 1 {
			t.Fatal("a silent program was dropped")
		}
		program.Write([]byte{0, 0, 0, 9, '{'})
		time.Sleep(frameTime - time.Millisecond)
		if len(f.server.watching()) != 1 {
			t.Error("dropped too early")
		}
		time.Sleep(2 * time.Millisecond)
		if len(f.server.watching()) != 0 {
			t.Error("not dropped")
		}
	})
}

func TestStatesComeAtMostFourTimesASecondAndOnlyWhenNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		program, end := virtual(t, f)
		defer end()
		states := make(chan *ipc.State, 1000)
		go func() {
			for c := newClient(program); ; {
				m, err := c.receive(t.Context())
				if err != nil {
					return
				}
				if m.State != nil {
					states <- m.State
				}
			}
		}()
		time.Sleep(time.Minute)
		if n := len(states); n != 1 {
			t.Errorf("%d states in a minute in which nothing changed", n)
		}
		for n := range uint64(1000) {
			f.mu.Lock()
			f.state.Counters = []ipc.Counter{{Name: "x", Value: n}}
			f.mu.Unlock()
			f.server.Changed()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := len(states); n < 35 || n > 45 {
			t.Errorf("%d states in ten seconds", n)
		}
		var last *ipc.State
		for len(states) > 0 {
			last = <-states
		}
		if last.Counters[0].Value != 999 {
			t.Errorf("the last change was lost: %v", last.Counters)
		}
		f.mu.Lock()
		f.state.Counters = nil
		f.mu.Unlock()
		time.Sleep(refreshEvery + time.Millisecond) // nobody says Changed
		if n := len(states); n != 1 {
			t.Errorf("%d states after a silent change", n)
		}
	})
}

// A snapshot that was begun before a command and ends after it is worth
// nothing to whoever sent the command.
func TestStatesFromBeforeACommandAreNotSentAfterIt(t *testing.T) {
	f := newFake()
	program, service := net.Pipe()
	go io.Copy(io.Discard, program)
	defer program.Close()
	r := f.server.join(service, Caller{})
	before, _ := f.server.snapshot()
	waiting, _ := f.server.snapshot()
	r.offer(waiting)
	if err := r.answer(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	if r.pending == nil {
		t.Error("no state would be sent, though the last one is forgotten")
	}
	r.pending = nil
	before.frame = append(before.frame, 0) // as if it said something else
	r.offer(before)
	if r.pending != nil {
		t.Error("an old state would be sent")
	}
}

func TestNobodyIsAskedWhileNobodyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { f.server.publish(ctx) })
		for range 100 {
			f.server.Changed()
			time.Sleep(time.Minute)
		}
		if n := f.reads(); n != 0 {
			t.Errorf("asked %d times", n)
		}
		cancel()
		g.Wait()
	})
}

func TestAStateThatCannotBeTakenCostsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.server.Service = broken{f}
		program, end := virtual(t, f)
		defer end()
		c := newClient(program)
		if _, err := c.receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Do(t.Context(), ipc.Retry{}); err != nil {
			t.Error(err)
		}
	})
}

type broken struct{ *fake }

func (broken) State() ipc.State { panic("broken") }

func TestASilentServiceIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		program, service := net.Pipe()
		defer service.Close()
		began := time.Now()
		if err := newClient(program).greet(t.Context()); !errors.Is(err, ErrSilent) || time.Since(began) != greetTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestAServiceThatDoesNotAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		program, service := net.Pipe()
		defer service.Close()
		go io.Copy(io.Discard, service)
		began := time.Now()
		if err := newClient(program).Do(t.Context(), ipc.SignOut{}); !errors.Is(err, ErrSilent) || time.Since(began) != answerTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
