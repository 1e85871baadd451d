package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/wire"
)

var alice = wish{Token: "first", Source: ipc.TokenFromSignIn, Account: "acme", Actor: "Alice", Portal: "wss://portal.example"}

// renewable makes the session one that can take another token; renewed are
// those it was given.
func (h *house) renewable() (renewed *[]wire.Secret) {
	renewed = new([]wire.Secret)
	h.session().renew = func(t wire.Secret) { *renewed = append(*renewed, t) }
	return renewed
}

func (h *house) connected(address string) {
	h.tell(event{portal: true, up: true})
	h.tell(event{configured: true, address: netip.MustParseAddr(address)})
	h.wants(ipc.Connected, "")
}

func TestSigningInAgainKeepsTheSession(t *testing.T) {
	run(t, Config{}, alice, func(h *house) {
		first, renewed := h.session(), h.renewable()
		h.connected("100.64.0.1")
		h.command(ipc.SignIn{Token: "second", AccountSlug: "acme", Actor: "Alice"})
		h.wants(ipc.Connecting, "") // until the portal has said yes
		h.tell(event{portal: true, up: false})
		h.wants(ipc.Connecting, "")
		h.tell(event{portal: true, up: true})
		h.wants(ipc.Connected, "")
		h.tell(event{configured: true, address: netip.MustParseAddr("100.64.0.1")})
		h.wants(ipc.Connected, "")
		if h.session() != first || len(*renewed) != 1 || (*renewed)[0].Reveal() != "second" {
			t.Errorf("%v tokens, another session: %v", len(*renewed), h.session() != first)
		}
		if text, _ := os.ReadFile(filepath.Join(h.StateDir, signInFile)); !strings.Contains(string(text), `"second"`) {
			t.Error("the new token is not kept")
		}
		// It goes on like any other.
		h.command(ipc.SignOut{})
		h.wants(ipc.Ending, "")
		h.end(nil)
		h.wants(ipc.SignedOut, "")
	})
}

func TestWhoIsNotSurelyTheSameStartsOver(t *testing.T) {
	for what, in := range map[string]ipc.SignIn{
		"another person":  {Token: "second", AccountSlug: "acme", Actor: "Bob"},
		"another account": {Token: "second", AccountSlug: "globex", Actor: "Alice"},
		"nobody knows":    {Token: "second"},
	} {
		run(t, Config{}, alice, func(h *house) {
			first, renewed := h.session(), h.renewable()
			h.connected("100.64.0.1")
			h.command(in)
			h.wants(ipc.Ending, "")
			h.end(nil)
			h.wants(ipc.Connecting, "")
			if h.session() == first || len(*renewed) > 0 {
				t.Errorf("%s goes on with the session", what)
			}
		})
	}
	run(t, Config{}, alice, func(h *house) { // not connected, so that nothing is lost
		h.renewable()
		h.command(ipc.SignIn{Token: "second", AccountSlug: "acme", Actor: "Alice"})
		h.wants(ipc.Ending, "")
		h.end(nil)
	})
}

// Two people of one name are told apart by the portal.
func TestANamesakeStartsOver(t *testing.T) {
	run(t, Config{}, alice, func(h *house) {
		first := h.session()
		h.renewable()
		ended := false
		first.cancel = func() { ended = true }
		h.connected("100.64.0.1")
		h.command(ipc.SignIn{Token: "second", AccountSlug: "acme", Actor: "Alice"})
		h.tell(event{portal: true, up: true})
		h.tell(event{configured: true, address: netip.MustParseAddr("100.64.0.2")})
		h.wants(ipc.Ending, "")
		if !ended {
			t.Error("the session goes on")
		}
		h.end(nil)
		h.wants(ipc.Connecting, "")
		if s := h.session(); s == first || s.wish.Token.Reveal() != "second" {
			t.Error("not a session of its own")
		}
	})
}

func TestARefusedTokenBringsTheOneBeforeBack(t *testing.T) {
	for what, in := range map[string]ipc.SignIn{
		"the same person": {Token: "second", AccountSlug: "acme", Actor: "Alice"},
		"another":         {Token: "second", AccountSlug: "acme", Actor: "Bob"},
	} {
		run(t, Config{}, alice, func(h *house) {
			h.renewable()
			h.connected("100.64.0.1")
			h.command(in)
			if in.Actor == "Bob" {
				h.end(nil)
				h.command(ipc.SignIn{Token: "third", Actor: "Carol"}) // nor was that one tried
				h.end(nil)
			}
			h.end(fmt.Errorf("portal: %w", dial.ErrTokenRejected))
			synctest.Wait()
			s := h.State().Session
			if s.Phase != ipc.Connecting || s.Actor != "Alice" || h.session().token().Reveal() != "first" {
				t.Errorf("%s: %+v", what, s)
			}
			if text, _ := os.ReadFile(filepath.Join(h.StateDir, signInFile)); !strings.Contains(string(text), `"first"`) {
				t.Errorf("%s: the token is not kept: %s", what, text)
			}
			h.end(fmt.Errorf("portal: %w", dial.ErrTokenRejected)) // that one, too
			h.wants(ipc.SignedOut, ipc.TokenRejected)
		})
	}
	run(t, Config{}, alice, func(h *house) { // once taken, there is no way back
		h.renewable()
		h.connected("100.64.0.1")
		h.command(ipc.SignIn{Token: "second", AccountSlug: "acme", Actor: "Alice"})
		h.tell(event{portal: true, up: true})
		h.end(fmt.Errorf("portal: %w", dial.ErrTokenRejected))
		h.wants(ipc.SignedOut, ipc.TokenRejected)
	})
}

// A token that the user's own store keeps is on no disk of ours, and comes back
// unless the user has signed out since.
func TestTokensThatTheUserKeeps(t *testing.T) {
	c := Config{StateDir: t.TempDir(), MemoryDir: t.TempDir(), Log: quiet}
	has := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, signInFile))
		return err == nil
	}
	wants := func(state, memory bool) {
		t.Helper()
		if has(c.StateDir) != state || has(c.MemoryDir) != memory {
			t.Errorf("on disk: %v, in memory: %v", has(c.StateDir), has(c.MemoryDir))
		}
	}
	run(t, c, wish{}, func(h *house) {
		kept := ipc.SignIn{Token: "abc", Actor: "Alice", KeptSince: time.Now().UnixMilli()}
		h.command(ipc.SignIn{Token: "other", Actor: "Alice"})
		wants(true, false)
		h.command(kept)
		wants(false, true)
		if w := c.loadWish(); w.Token != "abc" || w.KeptSince != kept.KeptSince || w.Actor != "Alice" || w.Source != ipc.TokenFromSignIn {
			t.Errorf("after a restart of the service: %+v", w)
		}
		h.end(nil)
		time.Sleep(time.Second)
		h.command(ipc.SignOut{})
		wants(false, false)
		h.end(nil)
		var p *ipc.Problem
		back := kept
		back.Back = true
		if err := h.Handle(h.t.Context(), link.Caller{}, back); !errors.As(err, &p) || p.Code != ipc.SignedOutSince {
			t.Errorf("signed in again against the user's will: %v", err)
		}
		h.wants(ipc.SignedOut, "")
		time.Sleep(time.Second)
		back.KeptSince = time.Now().UnixMilli()
		h.command(back)
		h.wants(ipc.Connecting, "")
		wants(false, true)
		h.command(ipc.SignIn{Token: "older", KeptSince: time.Now().Add(time.Hour).UnixMilli(), Back: true})
		h.wants(ipc.Connecting, "") // it replaces none
		if got := h.session().token().Reveal(); got != "abc" {
			t.Errorf("the session has token %q", got)
		}
		h.end(fmt.Errorf("portal: %w", dial.ErrTokenRejected))
		wants(false, false)
		h.command(ipc.SignIn{Token: "other"})
		wants(true, false)
	})
	run(t, c, wish{Manual: true}, func(h *house) { // not before somebody says so
		h.command(ipc.SignIn{Token: "abc", KeptSince: time.Now().Add(time.Hour).UnixMilli(), Back: true})
		h.wants(ipc.SignedOut, "")
		h.command(ipc.Connect{})
		h.wants(ipc.Connecting, "")
	})
	c.MemoryDir = "" // there is no such place: it is nowhere
	c.StateDir = t.TempDir()
	run(t, c, wish{}, func(h *house) {
		h.command(ipc.SignIn{Token: "abc", KeptSince: 1})
		if has(c.StateDir) {
			t.Error("on disk")
		}
	})
}

// A sign-in that cannot be stored does not take the place of the one before,
// wherever that is.
func TestASignInThatCannotBeStoredLosesNone(t *testing.T) {
	for _, before := range []ipc.SignIn{{Token: "abc"}, {Token: "abc", KeptSince: 1 << 50}} {
		c := Config{StateDir: t.TempDir(), MemoryDir: t.TempDir(), Log: quiet}
		run(t, c, wish{}, func(h *house) {
			h.command(before)
			full, next := c.MemoryDir, ipc.SignIn{Token: "next", KeptSince: 1 << 50}
			if before.KeptSince != 0 {
				full, next.KeptSince = c.StateDir, 0
			}
			os.RemoveAll(full)
			os.WriteFile(full, nil, 0o600) // takes no file
			if h.Handle(h.t.Context(), link.Caller{}, next) == nil {
				t.Error("stored where nothing can be")
			}
			if w := c.loadWish(); w.Token != "abc" {
				t.Errorf("after a restart, the token is %q", w.Token.Reveal())
			}
		})
	}
}

// That one user signs out says nothing of what others keep.
func TestSigningOutIsOneUsersWish(t *testing.T) {
	c := Config{StateDir: t.TempDir(), MemoryDir: t.TempDir(), Log: quiet}
	alice, bob := link.Caller{UID: 60001}, link.Caller{UID: 60002}
	run(t, c, wish{}, func(h *house) {
		kept := ipc.SignIn{Token: "abc", KeptSince: time.Now().UnixMilli(), Back: true}
		try := func(from link.Caller, what ipc.Command, want ipc.Code) {
			t.Helper()
			time.Sleep(time.Second)
			if got := h.refusal(from, what); got != want {
				t.Errorf("%T: %q", what, got)
			}
			if s := h.session(); s != nil && h.loadWish().Token == "" {
				h.end(nil)
			}
		}
		try(bob, ipc.SignIn{Token: "bob's"}, "")
		try(bob, ipc.SignOut{}, "")
		try(bob, ipc.SignOut{}, "") // nobody's session
		try(alice, kept, "")
		try(link.Caller{}, ipc.SignOut{}, "") // root does it for her
		try(alice, kept, ipc.SignedOutSince)
		try(bob, kept, ipc.SignedOutSince)
		kept.KeptSince = time.Now().UnixMilli()
		try(link.Caller{}, ipc.SignOut{}, "") // nobody's, and of an administrator: everybody's
		try(alice, kept, ipc.SignedOutSince)
	})
}
