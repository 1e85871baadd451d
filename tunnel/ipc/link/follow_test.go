package link

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
)

// A script is what happens at each attempt to connect; the last step repeats.
type step struct {
	err    error // of dialling; nil: there is a state, after which …
	stays  time.Duration
	ending error
}

// stand is a connection that follows a step.
type stand struct {
	step
	told bool
}

func (s *stand) Close() error { return nil }

func (s *stand) Next(ctx context.Context) (*ipc.State, error) {
	if !s.told {
		s.told = true
		return &ipc.State{}, nil
	}
	pause(ctx, s.stays)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, s.ending
}

// watch follows a script for a while of virtual time, and returns what was told:
// "presence@seconds".
func watch(t *testing.T, during time.Duration, script ...step) (told []string, attempts int) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), during)
		defer cancel()
		began := time.Now()
		follow(ctx, func(context.Context) (watched, error) {
			now := script[min(attempts, len(script)-1)]
			attempts++
			if now.err != nil {
				return nil, now.err
			}
			return &stand{step: now}, nil
		}, func(n News) {
			if (n.Presence == Present) != (n.State != nil) {
				t.Errorf("%+v", n)
			}
			told = append(told, fmt.Sprintf("%v@%.0f", n.Presence, time.Since(began).Seconds()))
		})
	})
	return told, attempts
}

func TestFollow(t *testing.T) {
	nobody := step{err: fmt.Errorf("x: %w", ipcsock.ErrNobody)}
	for _, row := range []struct {
		name   string
		script []step
		want   []string
	}{
		{"there", []step{{stays: time.Hour}}, []string{"looking@0", "present@0"}},
		{"starting", []step{nobody, nobody, {stays: time.Hour}}, []string{"looking@0", "looking@0", "present@0"}},
		{"not running", []step{nobody}, []string{"looking@0", "looking@0", "missing@1"}},
		{"crashed and back", []step{{stays: 10 * time.Second, ending: ErrGone}, nobody, nobody, {stays: time.Hour}}, []string{"looking@0", "present@0", "lost@10", "lost@10", "present@10"}},
		{"crashed for good", []step{{stays: 10 * time.Second, ending: ErrGone}, nobody}, []string{"looking@0", "present@0", "lost@10", "lost@10", "missing@40"}},
		{"upgraded", []step{{ending: ipc.Problemf(ipc.Stopping, "x")}, nobody}, []string{"looking@0", "present@0", "lost@0", "lost@0", "missing@60"}},
		{"denied", []step{{err: ipc.Problemf(ipc.NotAllowed, "x")}}, []string{"looking@0", "denied@0"}},
		{"denied by the system", []step{{err: ipcsock.ErrDenied}}, []string{"looking@0", "denied@0"}},
		{"a stranger", []step{{err: ErrStranger}}, []string{"looking@0", "denied@0"}},
		{"another version", []step{{ending: ErrGone}, {err: ipc.Problemf(ipc.WrongVersion, "x")}}, []string{"looking@0", "present@0", "lost@0", "outdated@0"}},
		{"no version at all", []step{{err: ipc.ErrFrame}}, []string{"looking@0", "outdated@0"}},
		{"hangs", []step{{err: ErrSilent}}, []string{"looking@0", "looking@0", "missing@1"}},
		{"busy", []step{{err: ipc.Problemf(ipc.Busy, "x")}, {stays: time.Hour}}, []string{"looking@0", "looking@0", "present@0"}},
		{"let in at last", []step{{err: ipcsock.ErrDenied}, {stays: time.Hour}}, []string{"looking@0", "denied@0", "present@0"}},
	} {
		if told, _ := watch(t, 100*time.Second, row.script...); !slices.Equal(told, row.want) {
			t.Errorf("%s: %q, want %q", row.name, told, row.want)
		}
	}
}

// Nobody is kept awake by a service that is not there.
func TestFollowIsPatient(t *testing.T) {
	if _, attempts := watch(t, time.Hour, step{err: ipcsock.ErrNobody}); attempts > 3700 {
		t.Errorf("%d attempts in an hour", attempts)
	}
}

// A service that is restarted is followed, and its state is right within two
// seconds.
func TestFollowARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	news := make(chan News, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() { Follow(ctx, path, func(n News) { news <- n }) })
	await := func(what string, is func(News) bool) {
		t.Helper()
		late := time.After(10 * time.Second)
		for {
			select {
			case n := <-news:
				if is(n) {
					return
				}
			case <-late:
				t.Fatalf("no news: %s", what)
			}
		}
	}
	await("missing", func(n News) bool { return n.Presence == Missing && errors.Is(n.Err, ipcsock.ErrNobody) })
	for i := range 3 {
		f := newFake()
		f.set(ipc.SetInternet{On: i == 1})
		began := time.Now()
		run(t, f, path)
		await("present", func(n News) bool { return n.Presence == Present && n.State.Internet.On == (i == 1) })
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("found after %v", took)
		}
		if s, err := Do(t.Context(), path, ipc.SetInternet{On: i != 1}); err != nil || s.Internet.On != (i != 1) {
			t.Errorf("%+v, %v", s, err)
		}
		await("changed", func(n News) bool { return n.Presence == Present && n.State.Internet.On == (i != 1) })
		f.stop()
		await("lost", func(n News) bool { return n.Presence == Lost })
	}
}
