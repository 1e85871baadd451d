package custody

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stile/app/signin"
	"stile/platform/keystore"
	"stile/tunnel/ipc"
)

const portal = "wss://portal.example.net"

// A house has a store and a service, as far as a Keeper sees them.
type house struct {
	*Keeper
	t *testing.T

	mu      sync.Mutex // guards what follows
	secrets map[string]string
	broken  error // of the store
	saving  func()
	refuse  func(ipc.Command) error
	told    []ipc.Command
	out     int64 // when the user signed out last
	state   ipc.State
	log     strings.Builder
}

func (h *house) Save(_ context.Context, name, secret string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saving != nil {
		h.saving()
	}
	if h.broken == nil {
		h.secrets[name] = secret
	}
	return h.broken
}

func (h *house) Load(_ context.Context, name string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken != nil {
		return "", h.broken
	}
	if s, has := h.secrets[name]; has {
		return s, nil
	}
	return "", keystore.ErrNoSecret
}

func (h *house) Delete(_ context.Context, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		delete(h.secrets, name)
	}
	return h.broken
}

func (h *house) do(ctx context.Context, c ipc.Command) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if h.refuse != nil {
		if err := h.refuse(c); err != nil {
			return err
		}
	}
	h.told = append(h.told, c)
	switch c := c.(type) {
	case ipc.SignIn:
		if c.Back && c.KeptSince <= h.out {
			return ipc.Problemf(ipc.SignedOutSince, "No.")
		}
		h.state.Session = ipc.Session{Phase: ipc.Connected, Token: ipc.TokenFromSignIn, Actor: c.Actor, Portal: portal}
	case ipc.SignOut:
		h.out = time.Now().UnixMilli()
		h.state.Session = ipc.Session{Phase: ipc.SignedOut, Portal: portal}
	}
	h.show()
	return nil
}

func (h *house) show() {
	s := h.state
	h.Saw(&s)
}

// reboot takes everything from the service.
func (h *house) reboot() {
	time.Sleep(time.Hour)
	h.told, h.state = nil, ipc.State{Session: ipc.Session{Phase: ipc.SignedOut, Portal: portal}}
	h.show()
	synctest.Wait()
}

// in runs a script in a bubble, with a Keeper that runs.
func in(t *testing.T, script func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, secrets: map[string]string{}, state: ipc.State{Session: ipc.Session{Phase: ipc.SignedOut, Portal: portal}}}
		h.Keeper = New(Config{Store: h, Do: h.do, Log: slog.New(slog.NewTextHandler(&h.log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { h.Run(ctx) })
		h.show()
		synctest.Wait()
		script(h)
		cancel()
		g.Wait()
		if strings.Contains(h.log.String(), "hunter2") {
			t.Error(h.log.String())
		}
	})
}

func (h *house) signIn() {
	h.t.Helper()
	if err := h.SignIn(h.t.Context(), signin.Result{Token: "n.hunter2", Account: "acme", Actor: "Alice", Portal: portal}); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

// last is the latest sign-in that the service was told.
func (h *house) last() ipc.SignIn {
	for i := len(h.told) - 1; i >= 0; i-- {
		if c, is := h.told[i].(ipc.SignIn); is {
			return c
		}
	}
	return ipc.SignIn{}
}

func TestTheUsersStoreKeepsTheToken(t *testing.T) {
	in(t, func(h *house) {
		h.signIn()
		if c := h.last(); c.KeptSince == 0 || c.Back || c.Portal != portal || len(h.told) != 1 || len(h.secrets) != 1 {
			t.Errorf("%+v, %d secrets", h.told, len(h.secrets))
		}
		h.reboot()
		if c := h.last(); !c.Back || c.Portal != portal || c.Token.Reveal() != "n.hunter2" || c.AccountSlug != "acme" || c.Actor != "Alice" || c.KeptSince != time.Now().Add(-time.Hour).UnixMilli() {
			t.Errorf("not brought back: %+v", c)
		}
		if len(h.told) != 1 {
			t.Errorf("told %d times", len(h.told))
		}
		if err := h.SignOut(t.Context(), portal); err != nil || len(h.secrets) > 0 {
			t.Errorf("%v, %d secrets left", err, len(h.secrets))
		}
		h.reboot()
		if len(h.told) > 0 {
			t.Errorf("signed in against the user's will: %+v", h.told)
		}
	})
}

// Locked, missing or dismissed: the sign-in works, and the service keeps it.
func TestWithoutAStoreTheServiceKeepsTheToken(t *testing.T) {
	for _, broken := range []error{keystore.ErrNoStore, keystore.ErrLocked, errors.New("it hangs")} {
		in(t, func(h *house) {
			h.broken = broken
			h.signIn()
			if c := h.last(); c.KeptSince != 0 || c.Token.Reveal() != "n.hunter2" {
				t.Errorf("%v: %+v", broken, c)
			}
			if err := h.SignOut(t.Context(), portal); err != nil {
				t.Error(err)
			}
		})
	}
	in(t, func(h *house) { // the program ends meanwhile
		ctx, cancel := context.WithCancel(h.t.Context())
		h.saving, h.broken = cancel, context.Canceled
		err := h.SignIn(ctx, signin.Result{Token: "n.hunter2", Portal: portal})
		if c := h.last(); err != nil || len(h.told) != 2 || c.KeptSince != 0 || c.Token.Reveal() != "n.hunter2" {
			t.Errorf("the token is lost with the next reboot: %v, %+v", err, h.told)
		}
	})
	in(t, func(h *house) { // nobody knows for which portal
		if err := h.SignIn(t.Context(), signin.Result{Token: "n.hunter2"}); err != nil || h.last().KeptSince != 0 || len(h.secrets) > 0 {
			t.Errorf("%v, %+v", err, h.last())
		}
	})
}

// A store that was locked at log-in is waited for, by looking.
func TestTheStoreOpensLater(t *testing.T) {
	in(t, func(h *house) {
		h.signIn()
		h.broken = keystore.ErrLocked
		h.reboot()
		h.mu.Lock()
		if len(h.told) > 0 {
			t.Error(h.told)
		}
		h.broken = nil
		h.mu.Unlock()
		time.Sleep(again + time.Second)
		synctest.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.last().Back {
			t.Error("it was not looked again")
		}
	})
}

func TestCopiesThatAreWorthless(t *testing.T) {
	in(t, func(h *house) { // signed out from elsewhere
		h.signIn()
		h.out = time.Now().UnixMilli()
		h.reboot()
		if h.state.Session.Token != "" || len(h.secrets) > 0 {
			t.Errorf("%+v, %d secrets", h.state.Session, len(h.secrets))
		}
	})
	in(t, func(h *house) { // the portal does not want it any more
		h.signIn()
		h.told = nil
		h.state.Session = ipc.Session{Phase: ipc.SignedOut, Portal: portal, Problem: ipc.Problemf(ipc.TokenRejected, "It expired.")}
		h.show()
		synctest.Wait()
		if len(h.told) > 0 || len(h.secrets) > 0 {
			t.Errorf("%+v, %d secrets", h.told, len(h.secrets))
		}
	})
	for _, text := range []string{"", "{", `{"version":2,"token":"secret","since_ms":1}`, `{"version":1,"token":"a secret","since_ms":1}`, `{"version":1,"token":"secret"}`} {
		in(t, func(h *house) {
			h.secrets[portal] = text
			h.reboot()
			if len(h.told) > 0 {
				t.Errorf("%s: %+v", text, h.told)
			}
		})
	}
	in(t, func(h *house) { // of another portal
		h.signIn()
		time.Sleep(time.Hour)
		h.told, h.state.Session = nil, ipc.Session{Phase: ipc.SignedOut, Portal: "wss://other.example.net"}
		h.show()
		synctest.Wait()
		if len(h.told) > 0 {
			t.Errorf("told another portal's service: %+v", h.told)
		}
	})
}

func TestTheServiceRefuses(t *testing.T) {
	in(t, func(h *house) {
		h.refuse = func(ipc.Command) error { return ipc.Problemf(ipc.HeldByOther, "Bob is signed in.") }
		if err := h.SignIn(t.Context(), signin.Result{Token: "n.hunter2", Portal: portal}); err == nil || len(h.secrets) > 0 {
			t.Errorf("%v, %d secrets", err, len(h.secrets))
		}
		if err := h.SignOut(t.Context(), portal); err == nil {
			t.Error("signed out")
		}
	})
	in(t, func(h *house) { // at log-in: the token stays for another time
		h.signIn()
		h.refuse = func(ipc.Command) error { return ipc.Problemf(ipc.TokenIsManaged, "No.") }
		h.reboot()
		if len(h.secrets) != 1 {
			t.Error("the token is lost")
		}
	})
}
