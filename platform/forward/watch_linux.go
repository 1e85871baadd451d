package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// How Run paces itself.
const (
	settle  = 100 * time.Millisecond // after a change of the rules, before looking
	leisure = 2 * time.Second        // after a change of the rules, before the health check
	share   = 4                      // a look pauses this many times as long as it took
	routine = 30 * time.Second       // between looks when nothing happens
	calm    = time.Minute            // so long without a repair and the next is at once again
	hold    = time.Minute            // at most so long between two repairs
)

// Run puts back what other programs change, within a second, until ctx ends:
// our table, forwarding, and with Config.Integrate our rules in their chains.
// If somebody takes it away again and again, repairs become rarer, up to one a
// minute. It logs problems when they appear and when they are gone. Before
// Enable it does nothing.
func (f *Forwarding) Run(ctx context.Context) error {
	events, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("watch the firewall: %w", err)
	}
	const group = 7 // NFNLGRP_NFTABLES
	if err := events.JoinGroup(group); err != nil {
		return errors.Join(fmt.Errorf("watch the firewall: %w", err), events.Close())
	}
	changed := make(chan struct{}, 1)
	var g sync.WaitGroup
	defer g.Wait()
	defer events.Close() // ends listen
	g.Go(func() { listen(ctx, events, changed) })

	k := keeper{f: f, known: map[string]bool{}}
	inspect := leisure
	repair, health := newAlarm(settle), newAlarm(settle)
	defer repair.Stop()
	defer health.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			repair.within(max(settle, time.Until(k.notBefore)))
			health.within(inspect)
		case <-repair.C:
			repair.set(k.repair(time.Now()))
		case <-health.C:
			began := time.Now()
			k.report(f.Check())
			inspect = max(leisure, share*time.Since(began))
			health.set(routine)
		}
	}
}

// An alarm is a timer that more of the same does not put off.
type alarm struct {
	*time.Timer
	at time.Time
}

func newAlarm(d time.Duration) *alarm { return &alarm{time.NewTimer(d), time.Now().Add(d)} }

func (a *alarm) set(d time.Duration) {
	a.at = time.Now().Add(d)
	a.Reset(d)
}

// within makes the alarm go off in d at the latest.
func (a *alarm) within(d time.Duration) {
	if time.Until(a.at) > d {
		a.set(d)
	}
}

// listen tells of changes to the rules until the socket is closed.
func listen(ctx context.Context, events *netlink.Conn, changed chan<- struct{}) {
	for ctx.Err() == nil {
		_, err := events.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // ENOBUFS: more changes than fit, that is, a change
			if ctx.Err() != nil {
				return
			}
			var op *netlink.OpError
			if errors.As(err, &op) && !op.Temporary() && !op.Timeout() {
				return // the socket is closed; Run still looks by routine
			}
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}

// A keeper remembers what was repaired and what was said.
type keeper struct {
	f         *Forwarding
	notBefore time.Time // of the next repair
	last      time.Time // repair
	streak    int       // repairs without a calm time between them
	failing   bool
	known     map[string]bool // problems that were logged
}

// repair makes everything so, if it is not, and returns when to look again.
func (k *keeper) repair(now time.Time) time.Duration {
	if wait := k.notBefore.Sub(now); wait > 0 {
		return wait
	}
	began := time.Now()
	repaired, err := k.f.repair()
	k.notBefore = now.Add(share * time.Since(began)) // where thousands of rules change all the time
	switch {
	case err != nil:
		if !k.failing {
			k.f.cfg.Log.Error("forwarding cannot be put back", "error", err)
		}
		k.failing = true
		return routine
	case !repaired:
		k.failing = false
		return routine
	}
	if now.Sub(k.last) > calm {
		k.streak = 0
	}
	k.last, k.failing = now, false
	k.streak++
	log := k.f.cfg.Log
	switch k.streak {
	case 1:
		log.Warn("another program removed the gateway's firewall table or changed it; it is put back", "table", "inet "+TableName)
	case patience:
		log.Warn("another program removes the gateway's firewall table again and again; it is put back more and more rarely", "table", "inet "+TableName)
	}
	if k.streak >= patience {
		k.notBefore = now.Add(min(time.Second<<min(k.streak-patience, 6), hold))
	}
	return max(settle, k.notBefore.Sub(now))
}

// patience is how many repairs in a row are made at once.
const patience = 5

// repair enables again what was enabled. repaired: our table was not ours.
func (f *Forwarding) repair() (repaired bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.firewall == nil {
		return false, nil
	}
	was := f.installed
	err = f.enableLocked()
	return err == nil && f.installed != was, err
}

// report logs problems that are new, and those that are gone.
func (k *keeper) report(problems []Problem) {
	is := map[string]bool{}
	log := k.f.cfg.Log
	for _, p := range problems {
		key := string(p.Kind)
		if p.Kind == Blocked {
			key = p.Text
		}
		if !is[key] && !k.known[key] {
			log.Warn(p.Text, slog.String("help", p.Help))
		}
		is[key] = true
	}
	for key := range k.known {
		if !is[key] {
			log.Info("a problem of forwarding is gone", "problem", key)
		}
	}
	k.known = is
}
