package why

import (
	"context"
	"net"
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
	for _, a := range p.targets() {
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
}

// attempt opens a TCP connection and closes it.
func attempt(ctx context.Context, to netip.AddrPort) cause.Attempt {
	began := time.Now()
	var d net.Dialer
	d.SetMultipathTCP(false) // as most programs do
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err == nil {
		conn.Close()
	}
	a := cause.Attempt{To: to, Outcome: cause.Strange, Took: time.Since(began)}
	switch sock.FailureOf(err) {
	case "":
		a.Outcome = cause.Opened
	case sock.Refused:
		a.Outcome = cause.Refused
	case sock.Reset:
		a.Outcome = cause.Reset
	case sock.Forbidden:
		a.Outcome = cause.Forbidden
	case sock.HostUnreachable, sock.NetworkUnreachable:
		a.Outcome = cause.Unreachable
	case sock.TimedOut:
		a.Outcome = cause.Silent
	}
	if err != nil && ctx.Err() != nil {
		a.Outcome = cause.Silent
	}
	return a
}
