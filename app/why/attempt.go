package why

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"stile/app/why/cause"
	"stile/platform/sock"
	"stile/tunnel/ipc"
)

// usual are the ports to try if none is named and all may pass.
var usual = []uint16{443, 80, 22}

const (
	maxPorts  = 4
	pollEvery = 150 * time.Millisecond
)

// ports are those to try.
func (p *probe) ports() []uint16 {
	switch {
	case p.Unassigned():
		return nil
	case p.Target.Port != 0:
		return []uint16{p.Target.Port}
	case p.After == nil || p.After.Verdict == ipc.NotCovered:
		return usual
	}
	ports, all := cause.TCPPorts(p.After)
	if all {
		ports = append(ports, usual...)
	}
	return ports[:min(len(ports), maxPorts)]
}

// try opens TCP connections to all targets and ports at once, until one
// succeeds, all have failed, the service says why none will, or the time is up.
func (p *probe) try(ctx context.Context) {
	trying, enough := context.WithDeadline(ctx, p.began.Add(attemptTime))
	defer enough()
	p.Began = time.Now()
	done := make(chan cause.Attempt)
	running := 0
	for _, a := range p.Targets {
		for _, port := range p.ports() {
			running++
			go func() { done <- attempt(trying, netip.AddrPortFrom(a, port)) }() // waited for below
		}
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	opened := false
	for running > 0 {
		select {
		case a := <-done:
			running--
			if a.Outcome == cause.Opened {
				opened = true
				enough()
			}
			p.Attempts = append(p.Attempts, a)
		case <-tick.C:
			if p.refresh(ctx); cause.Settled(&p.Facts) {
				enough()
			}
		}
	}
	if opened { // what was given up for it says nothing
		p.Attempts = slices.DeleteFunc(p.Attempts, func(a cause.Attempt) bool { return a.Outcome == cause.Silent })
	}
	p.Ended = time.Now()
	p.refresh(ctx)
	switch {
	case len(p.Attempts) == 0:
	case !p.told.After(p.Began):
		p.After = nil // what came of the attempts is not known
	case p.told.Before(p.Ended):
		p.Ended = p.told // the rest was not looked at
	}
}

// attempt opens a TCP connection and closes it.
func attempt(ctx context.Context, to netip.AddrPort) cause.Attempt {
	began := time.Now()
	t := sock.Try(ctx, to)
	return cause.Attempt{To: to, Outcome: outcomes[t.Failure], By: t.By, Took: time.Since(began)}
}

var outcomes = map[sock.Failure]cause.Outcome{
	"": cause.Opened, sock.Refused: cause.Refused, sock.Reset: cause.Reset, sock.Forbidden: cause.Forbidden,
	sock.HostUnreachable: cause.Unreachable, sock.NetworkUnreachable: cause.Unreachable, sock.TimedOut: cause.Silent, sock.OtherFailure: cause.Strange,
}
