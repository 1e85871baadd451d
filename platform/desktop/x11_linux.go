package desktop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// selection is the text that this program has on the clipboard of its X server,
// which also desktops with Wayland have for the programs that need it.
var selection struct {
	sync.Mutex
	conn *xgb.Conn // of who holds the text; nil: nobody
}

func init() { xgb.Logger = log.New(io.Discard, "", 0) } // errors are returned as well

// maxSelection is the longest text, in bytes, that goes in one piece: a request
// to any X server may be 256 KiB.
const maxSelection = 200 << 10

// copyX11 holds text on the clipboard until another program copies something, or
// this one ends.
func copyX11(ctx context.Context, text string) error {
	if os.Getenv("DISPLAY") == "" {
		return ErrNoClipboard
	}
	if len(text) > maxSelection {
		return errors.New("copy: the text is too long")
	}
	type result struct {
		conn *xgb.Conn
		err  error
	}
	got := make(chan result, 1)
	go func() { // a server that hangs cannot be hurried
		conn, err := xgb.NewConn()
		got <- result{conn, err}
	}()
	var conn *xgb.Conn
	select {
	case <-ctx.Done():
		go func() {
			if r := <-got; r.err == nil {
				r.conn.Close()
			}
		}()
		return ctx.Err()
	case r := <-got:
		if r.err != nil {
			return fmt.Errorf("copy: %w", r.err)
		}
		conn = r.conn
	}
	o, err := own(conn, text)
	if err != nil {
		conn.Close()
		return fmt.Errorf("copy: %w", err)
	}
	selection.Lock()
	before := selection.conn
	selection.conn = conn
	selection.Unlock()
	if before != nil {
		before.Close()
	}
	go o.serve()
	return nil
}

// An owner answers programs that paste (ICCCM 2).
type owner struct {
	conn  *xgb.Conn
	text  string
	atoms map[string]xproto.Atom
}

// own takes the selection CLIPBOARD.
func own(conn *xgb.Conn, text string) (*owner, error) {
	o := &owner{conn, text, map[string]xproto.Atom{}}
	for _, name := range []string{"CLIPBOARD", "TARGETS", "UTF8_STRING", "TEXT", "text/plain", "text/plain;charset=utf-8"} {
		r, err := xproto.InternAtom(conn, false, uint16(len(name)), name).Reply()
		if err != nil {
			return nil, err
		}
		o.atoms[name] = r.Atom
	}
	window, err := xproto.NewWindowId(conn)
	if err != nil {
		return nil, err
	}
	screen := xproto.Setup(conn).DefaultScreen(conn)
	if err := xproto.CreateWindowChecked(conn, 0, window, screen.Root, 0, 0, 1, 1, 0, xproto.WindowClassInputOnly, screen.RootVisual, 0, nil).Check(); err != nil {
		return nil, err
	}
	if err := xproto.SetSelectionOwnerChecked(conn, window, o.atoms["CLIPBOARD"], xproto.TimeCurrentTime).Check(); err != nil {
		return nil, err
	}
	now, err := xproto.GetSelectionOwner(conn, o.atoms["CLIPBOARD"]).Reply()
	if err != nil || now.Owner != window {
		return nil, errors.New("another program was faster")
	}
	return o, nil
}

// serve hands out the text until another program has the selection, or the
// connection ends.
func (o *owner) serve() {
	defer o.leave()
	for {
		event, err := o.conn.WaitForEvent()
		if event == nil && err == nil {
			return
		}
		switch e := event.(type) {
		case xproto.SelectionClearEvent:
			return
		case xproto.SelectionRequestEvent:
			o.answer(e)
		}
	}
}

func (o *owner) leave() {
	selection.Lock()
	defer selection.Unlock()
	if selection.conn == o.conn {
		selection.conn = nil
		o.conn.Close()
	} // otherwise who came next has closed it
}

// answer gives a program the text, or the list of forms in which it may have it.
func (o *owner) answer(e xproto.SelectionRequestEvent) {
	property := e.Property
	if property == xproto.AtomNone { // programs of old
		property = e.Target
	}
	switch e.Target {
	case o.atoms["TARGETS"]:
		list := []xproto.Atom{o.atoms["TARGETS"], o.atoms["UTF8_STRING"], o.atoms["text/plain;charset=utf-8"], o.atoms["text/plain"], o.atoms["TEXT"], xproto.AtomString}
		data := make([]byte, 4*len(list))
		for i, a := range list {
			xgb.Put32(data[4*i:], uint32(a))
		}
		xproto.ChangeProperty(o.conn, xproto.PropModeReplace, e.Requestor, property, xproto.AtomAtom, 32, uint32(len(list)), data)
	case o.atoms["UTF8_STRING"], o.atoms["text/plain;charset=utf-8"], o.atoms["text/plain"], o.atoms["TEXT"], xproto.AtomString:
		form := e.Target
		if form == o.atoms["TEXT"] {
			form = o.atoms["UTF8_STRING"]
		}
		xproto.ChangeProperty(o.conn, xproto.PropModeReplace, e.Requestor, property, form, 8, uint32(len(o.text)), []byte(o.text))
	default:
		property = xproto.AtomNone // refused
	}
	notify := xproto.SelectionNotifyEvent{Time: e.Time, Requestor: e.Requestor, Selection: e.Selection, Target: e.Target, Property: property}
	xproto.SendEvent(o.conn, false, e.Requestor, xproto.EventMaskNoEvent, string(notify.Bytes()))
}
