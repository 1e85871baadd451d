package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// updateEvery is how often a newer release is looked for; the first time is
// anywhere within it, so that not all computers ask at once.
const updateEvery = 24 * time.Hour

// lookForUpdates asks for newer releases until ctx ends, unless the service's
// settings say that nobody shall.
func (a *Agent) lookForUpdates(ctx context.Context) {
	wait := rand.N(updateEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = updateEvery
		if s := a.View().State; s == nil || !s.Settings.CheckForUpdates {
			continue
		}
		u, err := a.Latest(ctx)
		if err != nil {
			a.Log.Debug("nobody tells whether there is a newer release", "error", err)
			continue
		}
		a.change(func() { a.view.Update = u })
	}
}
