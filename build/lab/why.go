//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"stile/app/why/cause"
	"stile/build/lab/nat"
)

// Limits of "stile why".
const (
	whyAnswer = 3 * time.Second // the 95th percentile
	whyRight  = 0.95            // of the faults, at least; the rest must be unclear, never wrong
)

// undecided are codes that say nothing wrong: ask again.
var undecided = []cause.Code{cause.Unclear, cause.AccessPending, cause.GatewayConnecting, cause.SessionChanging}

// A fault is something that keeps a user from a host, and what they shall be told.
type fault struct {
	name   string
	target string
	want   cause.Code
	inject func() error // nil: there is nothing to do
	mend   func() error // nil: the next fault needs it, or there was nothing
	uid    uint32       // who asks; 0: root
}

// A diagnosis is what became of a fault.
type diagnosis struct {
	fault
	report cause.Report
	took   time.Duration
}

// runWhy breaks one thing after the other and has a user ask why.
func runWhy(s *stage) error {
	if err := s.order.ours(); err != nil {
		return err
	}
	if err := s.order.ourGateway("to tell which addresses a name has"); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.world(nat.PortRestricted, whyResources...); err != nil {
		return err
	}
	v.stile.gatewayEnv = []string{"STILE_TELL_FAMILIES=true"}
	if err := v.stile.up(s); err != nil {
		return err
	}
	w := &wonder{visit: v}
	if err := s.step("servers of the site are named", w.furnish); err != nil {
		return err
	}
	for _, f := range w.faults() {
		if err := s.step(f.name, func() error { return w.suffer(f) }); err != nil {
			return err
		}
	}
	return s.all(
		step{"causes were right, or unclear, and came in time", w.judge},
		step{"all programs end when they are told to", v.end},
	)
}

// wonder is the visit of a user who asks why.
type wonder struct {
	*visit
	all []diagnosis
}

// suffer lets a fault happen, asks why, and mends it. A wrong cause does not end
// the scenario: all faults are tried.
func (w *wonder) suffer(f fault) error {
	if f.inject != nil {
		if err := f.inject(); err != nil {
			return fmt.Errorf("inject: %w", err)
		}
	}
	d, err := w.ask(f)
	if err != nil {
		return err
	}
	w.all = append(w.all, d)
	w.note("%-24s after %9s  %s", d.report.Code, milliseconds(d.took), d.report.Cause)
	if d.report.Code != f.want {
		w.note("WANTED %s: %+v", f.want, d.report.Steps)
	}
	if f.mend == nil {
		return nil
	}
	if err := f.mend(); err != nil {
		return fmt.Errorf("mend: %w", err)
	}
	return w.sound()
}

// ask runs "stile why" as the user would.
func (w *wonder) ask(f fault) (diagnosis, error) {
	c := w.net.laptop.Command(w.ctx, user, "why", "--json", f.target)
	if f.uid != 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: f.uid, Gid: f.uid}
	}
	began := time.Now()
	out, err := w.net.laptop.Output(c)
	d := diagnosis{fault: f, took: time.Since(began)}
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return d, err
	}
	if bad := json.Unmarshal(out, &d.report); bad != nil {
		return d, fmt.Errorf("stile why --json %s prints %q: %w%s", f.target, out, errors.Join(bad, err), tail(w.net.laptop.Log, 4))
	}
	if (err == nil) != d.report.Reachable {
		return d, fmt.Errorf("stile why %s ends with %v and says reachable: %v", f.target, err, d.report.Reachable)
	}
	return d, nil
}

// sound waits until the wiki is reached again.
func (w *wonder) sound() error {
	_, err := w.within(time.Now(), readyWithin, func() error {
		_, err := w.wiki("http://"+wikiName+"/", "--timeout", "2s")
		return err
	})
	return err
}

// judge counts.
func (w *wonder) judge() error {
	var took []time.Duration
	var wrong []string
	right, unknown := 0, 0
	causes := map[cause.Code]bool{}
	for _, d := range w.all {
		took = append(took, d.took)
		switch {
		case d.report.Code == d.want:
			right++
			causes[d.want] = true
		case slices.Contains(undecided, d.report.Code):
			unknown++
		default:
			wrong = append(wrong, fmt.Sprintf("%s: %s, not %s", d.name, d.report.Code, d.want))
		}
	}
	slices.Sort(took)
	p95 := took[(len(took)*95+99)/100-1]
	w.metric("faults", float64(len(w.all)))
	w.metric("causes", float64(len(causes)))
	w.metric("right", float64(right))
	w.metric("wrong", float64(len(wrong)))
	w.metric("unknown", float64(unknown))
	w.metric("p50_ms", ms(took[len(took)/2]))
	w.metric("p95_ms", ms(p95))
	w.metric("worst_ms", ms(took[len(took)-1]))
	var errs []error
	if len(wrong) > 0 {
		errs = append(errs, fmt.Errorf("wrong causes: %q", wrong))
	}
	if float64(right) < whyRight*float64(len(w.all)) {
		errs = append(errs, fmt.Errorf("%d of %d faults are found", right, len(w.all)))
	}
	if p95 > whyAnswer {
		errs = append(errs, fmt.Errorf("19 of 20 answers take up to %s; the limit is %v", milliseconds(p95), whyAnswer))
	}
	return errors.Join(errs...)
}
