package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"stile/tunnel/ipc"
)

// An informed fake answers questions, too.
type informed struct {
	*fake
	answer func(ctx context.Context, q ipc.Command, put func(ipc.Part) error) error
}

func (f *informed) Inform(ctx context.Context, _ Caller, q ipc.Command, put func(ipc.Part) error) error {
	return f.answer(ctx, q, put)
}

// inform makes a fake answer questions from the next connection on.
func inform(f *fake, answer func(context.Context, ipc.Command, func(ipc.Part) error) error) {
	f.server.Service = &informed{f, answer}
}

func TestPartsComeInOrderBeforeTheAnswer(t *testing.T) {
	f := newFake()
	inform(f, func(_ context.Context, q ipc.Command, put func(ipc.Part) error) error {
		if q != (ipc.Collect{}) {
			return fmt.Errorf("%#v", q)
		}
		for i := range 40 {
			f.server.Changed() // states come in between
			if err := put(ipc.Part{File: &ipc.FilePart{Name: "a", Data: bytes.Repeat([]byte{byte(i)}, ipc.MaxFilePart)}}); err != nil {
				return err
			}
		}
		return ipc.Problemf(ipc.NoLogs, "That was all.")
	})
	path := t.TempDir() + "/s"
	run(t, f, path)
	c, n := dial(t, path), 0
	err := c.Ask(t.Context(), ipc.Collect{}, func(p ipc.Part) error {
		if p.File == nil || len(p.File.Data) != ipc.MaxFilePart || p.File.Data[0] != byte(n) {
			t.Fatalf("part %d: %+v", n, p.File.Name)
		}
		n++
		return nil
	})
	if problem, is := errors.AsType[*ipc.Problem](err); n != 40 || !is || problem.Code != ipc.NoLogs {
		t.Errorf("%d parts, then %v", n, err)
	}
	next(t, c)
	if err := c.Do(t.Context(), ipc.SetInternet{On: true}); err != nil || !next(t, c).Internet.On {
		t.Error("the connection is of no use afterwards:", err)
	}
	enough := errors.New("enough")
	if err := c.Ask(t.Context(), ipc.Collect{}, func(ipc.Part) error { return enough }); err != enough {
		t.Error(err)
	}
}

func TestWhoLeavesStopsItsQuestion(t *testing.T) {
	f, ended := newFake(), make(chan error, 1)
	inform(f, func(_ context.Context, _ ipc.Command, put func(ipc.Part) error) error {
		for {
			if err := put(ipc.Part{File: &ipc.FilePart{Name: "a", Data: make([]byte, ipc.MaxFilePart)}}); err != nil {
				ended <- err
				return err
			}
		}
	})
	path := t.TempDir() + "/s"
	run(t, f, path)
	c := dial(t, path)
	c.Ask(t.Context(), ipc.Collect{}, func(ipc.Part) error { return errors.New("enough") })
	c.Close()
	<-ended
	f.wantAlive(t, path)
}

func TestAServiceWithoutAnswers(t *testing.T) {
	f, path := start(t)
	err := dial(t, path).Ask(t.Context(), ipc.Inspect{Host: "wiki"}, func(ipc.Part) error { t.Error("a part"); return nil })
	if p, is := errors.AsType[*ipc.Problem](err); !is || p.Code != ipc.UnknownCommand {
		t.Error(err)
	}
	if got := f.handled(); len(got) != 0 {
		t.Errorf("handled as commands: %v", got)
	}
}
