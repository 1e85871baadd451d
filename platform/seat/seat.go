// Package seat knows who sits at this machine: the users whose sessions are in
// front of its screens, as the login manager tells.
package seat

import (
	"context"
	"sync"
	"time"
)

const (
	patience = time.Second      // for the login manager
	fresh    = time.Second      // an answer is good that long
	sulk     = 10 * time.Second // without an answer, it is not asked again for that long
)

// A Keeper asks who sits here, at most once a second, however often it is
// asked itself. The zero Keeper is ready. Its methods may be called at once
// from several goroutines.
type Keeper struct {
	mu     sync.Mutex
	users  []uint32
	expire time.Time
	ask    func(context.Context) ([]uint32, error) // nil: active
}

// Has reports whether uid has the session in front of one of this machine's
// screens: local, active, and a person's. Without a login manager nobody has.
func (k *Keeper) Has(ctx context.Context, uid uint32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); !now.Before(k.expire) {
		ask := k.ask
		if ask == nil {
			ask = active
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		users, err := ask(ctx)
		cancel()
		k.users, k.expire = users, time.Now().Add(fresh)
		if err != nil {
			k.users, k.expire = nil, time.Now().Add(sulk)
		}
	}
	for _, u := range k.users {
		if u == uid {
			return true
		}
	}
	return false
}
