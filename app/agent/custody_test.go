package agent

import (
	"context"
	"sync"
	"testing"
	"time"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/signin"
	"stile/platform/keystore"
	"stile/tunnel/ipc"
)

// secrets is a store of the user's own.
type secrets struct {
	mu  sync.Mutex // guards all
	all map[string]string
}

func (s *secrets) Save(_ context.Context, name, secret string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[name] = secret
	return nil
}

func (s *secrets) Load(_ context.Context, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text, has := s.all[name]; has {
		return text, nil
	}
	return "", keystore.ErrNoSecret
}

func (s *secrets) Delete(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
	return nil
}

// Who starts the program at login has their own store keep the token; for
// everybody else the service does.
func TestWhoKeepsTheToken(t *testing.T) {
	for _, onLogin := range []bool{true, false} {
		store := &secrets{all: map[string]string{}}
		prepare := func(w *world, c *Config) {
			c.Secrets = store
			p := prefs.Defaults()
			p.RanBefore, p.StartOnLogin = true, &onLogin
			if err := p.Save(c.Prefs); err != nil {
				t.Fatal(err)
			}
		}
		run(t, prepare, func(w *world) {
			w.Clicked(menu.SignIn{})
			w.wait(time.Second)
			w.signIns[0].answers <- signin.Result{Token: "n.secret", Account: "acme", Actor: "Ada", Portal: w.signIns[0].options.Portal}
			w.wait(time.Second)
			in, is := w.commands[len(w.commands)-1].(ipc.SignIn)
			if !is || in.Token.Reveal() != "n.secret" || in.AccountSlug != "acme" || in.Portal != "wss://portal.example.com" || (in.KeptSince != 0) != onLogin || (len(store.all) == 1) != onLogin {
				t.Errorf("at login: %v: %+v, %d secrets", onLogin, w.commands, len(store.all))
			}
			w.set(func(s *ipc.State) {
				s.Session.Phase, s.Session.Token, s.Session.Actor = ipc.Connected, ipc.TokenFromSignIn, "Ada"
			})
		})
		if !onLogin {
			continue
		}
		run(t, prepare, func(w *world) { // after a reboot
			w.wait(time.Second)
			if in, is := w.commands[0].(ipc.SignIn); !is || !in.Back || in.Token.Reveal() != "n.secret" {
				t.Errorf("not brought back: %+v", w.commands)
			}
			w.set(func(s *ipc.State) {
				s.Session.Phase, s.Session.Token, s.Session.Actor = ipc.Connected, ipc.TokenFromSignIn, "Ada"
			})
			w.Clicked(menu.SignOut{})
			w.wait(time.Second)
			if _, is := w.commands[len(w.commands)-1].(ipc.SignOut); !is || len(store.all) > 0 {
				t.Errorf("%+v, %d secrets", w.commands, len(store.all))
			}
		})
	}
}
