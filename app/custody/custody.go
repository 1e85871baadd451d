// Package custody decides who keeps the token of a sign-in, and brings it back
// when the user logs in.
//
// A token is kept in one place, and on one disk only:
//
//   - The user's own store of secrets (Secret Service, Credential Manager), where
//     there is one that is open, for who signs in on the desktop and has the
//     program start at login: it has to bring the token back. What that gives:
//     whoever gets hold of the disk, of a backup or of an image of the machine,
//     finds the token encrypted with the user's password; and on a machine of
//     several people, a reboot connects whoever logs in, not whoever was there
//     before. The service holds the token in memory, and where a reboot forgets
//     it, so that it is restarted, updated or crashes without anybody noticing,
//     whether or not this program runs.
//   - The service's protected file for everybody else: no such store, one that is
//     locked or does not answer, a sign-in on the command line, a program that
//     nobody starts. The service then connects at boot, before anybody logs in, as
//     a machine without a desktop has to.
//
// The store is never a reason to wait, to ask for a password or to fail: it is
// used after the user is signed in, each call has an end, and without an answer
// the service is told to keep the token itself. The price is that a machine whose
// user signed in on the desktop is not connected between reboot and log-in.
//
// Sign-out deletes the token at both ends. The service remembers when that was,
// so that a copy that could not be deleted (the store was locked, the user signed
// out as root or from afar) does not sign anybody in again.
package custody

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"stile/app/signin"
	"stile/platform/keystore"
	"stile/tunnel/ipc"
)

// again is how long it takes until a locked store is looked at again.
const again = 10 * time.Second

// lastWord is how long the service has for a token that nobody else keeps.
const lastWord = 3 * time.Second

// A Store is the user's own store of secrets: keystore.User.
type Store interface {
	Save(ctx context.Context, name, secret string) error
	Load(ctx context.Context, name string) (string, error)
	Delete(ctx context.Context, name string) error
}

// Config is what a Keeper is made of.
type Config struct {
	Store Store
	// Do has the service act on a command. Errors of its own are *ipc.Problem.
	Do  func(ctx context.Context, c ipc.Command) error
	Log *slog.Logger
}

// A Keeper is the custodian of one user's tokens. Its methods may be called from
// any goroutine.
type Keeper struct {
	Config
	wake chan struct{} // holds one

	acting sync.Mutex // held while the token changes hands

	mu    sync.Mutex // guards state
	state *ipc.State // seen last
}

// New makes a Keeper. Run has to run for it to bring tokens back.
func New(c Config) *Keeper { return &Keeper{Config: c, wake: make(chan struct{}, 1)} }

// A kept is the secret in the store.
type kept struct {
	Version int    `json:"version"`
	Token   string `json:"token"`
	Account string `json:"account,omitempty"`
	Actor   string `json:"actor,omitempty"`
	Since   int64  `json:"since_ms"` // Unix milliseconds
}

// SignIn hands the service what a sign-in has yielded, and finds out who keeps
// the token. The error is the service's.
func (k *Keeper) SignIn(ctx context.Context, r signin.Result) error {
	k.acting.Lock()
	defer k.acting.Unlock()
	in := ipc.SignIn{Token: r.Token, AccountSlug: r.Account, Actor: r.Actor, Portal: r.Portal}
	if r.Portal == "" {
		return k.Do(ctx, in)
	}
	in.KeptSince = time.Now().UnixMilli()
	if err := k.Do(ctx, in); err != nil {
		return err
	}
	text, err := json.Marshal(kept{1, r.Token.Reveal(), r.Account, r.Actor, in.KeptSince})
	if err == nil {
		err = k.Store.Save(ctx, r.Portal, string(text))
	}
	if err == nil {
		k.Log.Info("the user's own store keeps the token")
		return nil
	}
	k.Log.Info("the service keeps the token", "why", err)
	in.KeptSince = 0 // the same token: nothing is interrupted
	// Also if the program is about to end: nobody else would know the token after
	// the next reboot.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	return k.Do(ctx, in)
}

// SignOut signs out. The error is the service's.
func (k *Keeper) SignOut(ctx context.Context, portal string) error {
	k.acting.Lock()
	defer k.acting.Unlock()
	if err := k.Do(ctx, ipc.SignOut{}); err != nil {
		return err
	}
	k.delete(ctx, portal)
	return nil
}

// Saw notes what the service says.
func (k *Keeper) Saw(s *ipc.State) {
	k.mu.Lock()
	k.state = s
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run brings the token back when nobody is signed in and the user did not sign
// out, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	asked := false // since nobody is signed in, and to no avail
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
			asked = false
		case <-k.wake:
		}
		k.mu.Lock()
		s := k.state
		k.mu.Unlock()
		switch {
		case s == nil || s.Session.Portal == "":
		case s.Session.Phase != ipc.SignedOut || s.Session.Token != "":
			asked = false
		case asked:
		default:
			asked = true
			if k.look(ctx, s) {
				retry.Reset(again)
			}
		}
	}
}

// look brings the token back, or deletes it if it is worthless. It reports
// whether to look again later.
func (k *Keeper) look(ctx context.Context, s *ipc.State) (later bool) {
	k.acting.Lock()
	defer k.acting.Unlock()
	portal := s.Session.Portal
	if p := s.Session.Problem; p != nil && p.Code == ipc.TokenRejected {
		k.delete(ctx, portal)
		return false
	}
	text, err := k.Store.Load(ctx, portal)
	if err != nil {
		if !errors.Is(err, keystore.ErrNoSecret) {
			k.Log.Debug("no token was brought back", "why", err)
		}
		return errors.Is(err, keystore.ErrLocked)
	}
	var in kept
	err = json.Unmarshal([]byte(text), &in)
	token, wrong := ipc.ParseToken(in.Token)
	if err != nil || wrong != nil || in.Version != 1 || in.Since <= 0 {
		k.Log.Warn("what is kept for this portal is no token of this version", "portal", portal)
		return false
	}
	err = k.Do(ctx, ipc.SignIn{Token: token, AccountSlug: in.Account, Actor: in.Actor, KeptSince: in.Since, Back: true, Portal: portal})
	if p, is := errors.AsType[*ipc.Problem](err); is && p.Code == ipc.SignedOutSince {
		k.delete(ctx, portal)
		return false
	}
	if err != nil {
		k.Log.Info("the service does not take the token back", "why", err)
		return false
	}
	k.Log.Info("signed in again with the token that was kept")
	return false
}

func (k *Keeper) delete(ctx context.Context, portal string) {
	if err := k.Store.Delete(ctx, portal); err != nil {
		k.Log.Info("the token could not be deleted from the user's own store; it is of no use any more", "why", err)
	}
}
