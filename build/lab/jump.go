//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"stile/build/lab/host"
	"stile/build/lab/nat"
)

// clockFile is where a host's programs, if build/lab/jump built them, learn by
// how many seconds their wall clock is off.
const clockFile = "/etc/stile/lab-clock"

// runClockJump: a wall clock that jumps by an hour on any one host is no
// reason for anything to stop, nor for a program that starts then not to serve.
func runClockJump(s *stage) error {
	v := &visit{stage: s}
	if err := v.begin(nat.Symmetric, wikiByName, site4); err != nil {
		return err
	}
	d := v.stile
	var flows []*flow
	var slowest, longest time.Duration
	// unmoved marks the flows, sets a clock, and wants to see nothing of it.
	unmoved := func(h *host.Host, off time.Duration) error {
		mark(flows)
		if err := v.shift(h, off); err != nil {
			return err
		}
		if _, err := v.wiki("http://" + wikiName + "/"); err != nil {
			return err
		}
		silence, err := longestSilence(flows)
		longest = max(longest, silence)
		v.metric("silence_worst_ms", ms(longest))
		if err == nil && silence > unnoticed {
			err = fmt.Errorf("silent for %s; the limit is %v", milliseconds(silence), unnoticed)
		}
		return err
	}
	steps := []step{{"connections are open, through the relay", func() (err error) {
		if flows, err = v.flows("tcp", "udp"); err != nil {
			return err
		}
		return v.throughRelay()
	}}}
	for _, who := range []struct {
		name    string
		host    *host.Host
		restart func() error
	}{
		{"portal", d.portal, func() error { return again(d.control, func() error { return d.startPortal(s) }) }},
		{"relay", d.relay, func() error { return again(d.turn, func() error { return d.startRelay(s) }) }},
		{"gateway", d.gateway, func() error { return again(d.gate, func() error { return d.startGateway(s) }) }},
		{"laptop", d.laptop, func() error { return again(d.client, func() error { return d.startClient(s) }) }},
	} {
		for _, shift := range []time.Duration{time.Hour, -time.Hour} {
			what := fmt.Sprintf("the %s's clock is %v off: ", who.name, shift)
			steps = append(steps,
				step{what + "open connections notice nothing", func() error { return unmoved(who.host, shift) }},
				step{what + "when it starts anew, new connections work", func() error {
					began := time.Now()
					if err := who.restart(); err != nil {
						return err
					}
					took, err := v.within(began, afterKill, func() error {
						_, err := v.wiki("http://"+wikiName+"/", "--timeout", "1s")
						return err
					})
					slowest = max(slowest, took)
					v.metric("restart_new_worst_ms", ms(slowest))
					return err
				}},
				step{"connections are open again", func() (err error) { flows, err = v.flows("tcp", "udp"); return err }},
			)
		}
		steps = append(steps, step{"the " + who.name + "'s clock is right again: nothing is noticed", func() error { return unmoved(who.host, 0) }})
	}
	return s.all(append(steps, step{"all programs end when they are told to", v.end})...)
}

// longestSilence of flows since the mark; the error is that of one that was cut.
func longestSilence(flows []*flow) (longest time.Duration, err error) {
	for _, f := range flows {
		silence, cut := f.silence()
		longest, err = max(longest, silence), errors.Join(err, cut)
	}
	return longest, err
}

// again stops a program in order and starts it.
func again(r *role, start func() error) error {
	if err := r.stop(); err != nil {
		return err
	}
	return start()
}

// shift sets the wall clock that a host's programs see, and waits until the
// program there tells of it in its log.
func (v *visit) shift(h *host.Host, off time.Duration) error {
	seconds := int64(off / time.Second)
	if err := h.WriteFile(clockFile, fmt.Appendf(nil, "%d\n", seconds), 0o644); err != nil {
		return err
	}
	_, err := v.within(time.Now(), 2*time.Second, func() error {
		told, err := lastShift(h.Log)
		switch {
		case err != nil:
			return err
		case told.off != seconds:
			return fmt.Errorf("the clock on %s cannot be set for it alone: build the programs with build/lab/jump/build.sh DIR, and say --bin-dir DIR", h.Name)
		case told.at-seconds < time.Now().Add(-time.Minute).Unix() || told.at-seconds > time.Now().Unix():
			return fmt.Errorf("the clock on %s was to be %v off; it shows %v", h.Name, off, time.Unix(told.at, 0))
		}
		return nil
	})
	return err
}

type shifted struct{ off, at int64 }

// lastShift finds the last line about the clock in a host's log.
func lastShift(log *os.File) (last shifted, err error) {
	lines := bufio.NewScanner(io.NewSectionReader(log, 0, math.MaxInt64))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if _, told, ok := strings.Cut(lines.Text(), "clock off by "); ok {
			if _, err := fmt.Sscanf(told, "%d s, it is %d", &last.off, &last.at); err != nil {
				return last, fmt.Errorf("%q: %w", told, err)
			}
		}
	}
	return last, lines.Err()
}
