package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"stile/tunnel/ipc"
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
