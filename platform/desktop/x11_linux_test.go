package desktop

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"stile/build/need"
)

// screen starts an X server.
func screen(t *testing.T) {
	t.Helper()
	need.Tools(t, "xvfb", "Xvfb")
	c := exec.Command("Xvfb", "-displayfd", "1", "-noreset", "-nolisten", "tcp", "-screen", "0", "64x64x24") // by itself it starts over when its last client leaves
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	number, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("Xvfb did not start: ", err)
	}
	t.Setenv("DISPLAY", ":"+strings.TrimSpace(number))
}

// paste is another program that asks for the clipboard in a form.
func paste(t *testing.T, form string) (string, bool) {
	t.Helper()
	conn, err := xgb.NewConn()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	atom := func(name string) xproto.Atom {
		r, err := xproto.InternAtom(conn, false, uint16(len(name)), name).Reply()
		if err != nil {
			t.Fatal(err)
		}
		return r.Atom
	}
	window, err := xproto.NewWindowId(conn)
	if err != nil {
		t.Fatal(err)
	}
	s := xproto.Setup(conn).DefaultScreen(conn)
	xproto.CreateWindow(conn, 0, window, s.Root, 0, 0, 1, 1, 0, xproto.WindowClassInputOnly, s.RootVisual, 0, nil)
	property := atom("PASTED")
	xproto.ConvertSelection(conn, window, atom("CLIPBOARD"), atom(form), property, xproto.TimeCurrentTime)
	time.AfterFunc(10*time.Second, conn.Close)
	for {
		event, err := conn.WaitForEvent()
		if err != nil || event == nil {
			t.Fatal("no answer: ", err)
		}
		e, is := event.(xproto.SelectionNotifyEvent)
		if !is {
			continue
		}
		if e.Property == xproto.AtomNone {
			return "", false
		}
		r, err2 := xproto.GetProperty(conn, true, window, property, xproto.GetPropertyTypeAny, 0, 1<<20).Reply()
		if err2 != nil {
			t.Fatal(err2)
		}
		return string(r.Value), true
	}
}

func TestTextIsCopiedWithoutAnyTool(t *testing.T) {
	screen(t)
	t.Setenv("PATH", t.TempDir())
	t.Setenv("WAYLAND_DISPLAY", "")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	if _, there := paste(t, "UTF8_STRING"); there {
		t.Error("something is on the clipboard")
	}
	for _, text := range []string{"first", "10.9.0.0/16 – ä", strings.Repeat("x", maxSelection)} {
		if err := Copy(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"UTF8_STRING", "STRING", "TEXT", "text/plain;charset=utf-8"} {
			if got, _ := paste(t, form); got != text {
				t.Errorf("%s: %.30q, not %.30q", form, got, text)
			}
		}
	}
	if forms, there := paste(t, "TARGETS"); !there || len(forms) != 6*4 {
		t.Errorf("%q", forms)
	}
	if _, there := paste(t, "image/png"); there {
		t.Error("a text as a picture")
	}
	if err := Copy(t.Context(), strings.Repeat("x", maxSelection+1)); err == nil {
		t.Error("a text that is too long")
	}
}
