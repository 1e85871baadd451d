// Package why finds out why a host cannot be reached: it looks at everything
// that a connection needs, at once and for a bounded time, and has package cause
// judge what it found. It changes nothing, and asks of the network what a
// program would that uses the host.
package why

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"stile/app/why/cause"
	"stile/platform/route"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
)

// Report is what Ask finds.
type Report = cause.Report

// Options are what to look at.
type Options struct {
	Socket string // where the service listens; "": the usual place
	Target string // see cause.ParseTarget
}

// Times from the begin. The whole is to take less than three seconds.
const (
	contactTime = 1900 * time.Millisecond // the service and the system's resolver answer within
	oursTime    = 900 * time.Millisecond  // the service answers for a name; it is on this machine
	attemptTime = 2450 * time.Millisecond // the last attempt is given up
	whole       = 2750 * time.Millisecond
)

// somewhere are addresses of nobody's, to see where packets usually leave.
var somewhere = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// Ask looks at a target and tells why it cannot be reached, or that it can. The
// error is cause.ErrTarget, or that ctx ended.
func Ask(ctx context.Context, o Options) (Report, error) {
	t, err := cause.ParseTarget(o.Target)
	if err != nil {
		return Report{}, err
	}
	if o.Socket == "" {
		o.Socket = link.Socket
	}
	began := time.Now()
	limited, cancel := context.WithDeadline(ctx, began.Add(whole))
	defer cancel()
	p := &probe{socket: o.Socket, began: began, dnsPort: 53, Facts: cause.Facts{Target: t}}
	p.look(limited)
	if ctx.Err() != nil {
		return Report{}, context.Cause(ctx)
	}
	return p.judge(), nil
}

// A probe is one Ask. Its methods run one after the other, but for what they
// start and wait for themselves.
type probe struct {
	cause.Facts
	socket  string
	began   time.Time
	dnsPort uint16       // of sentinels
	host    string       // what the service is asked about: the target, or an address of it
	service *link.Client // nil: no contact
	told    time.Time    // when the service last told what it knows
}

func (p *probe) judge() Report {
	r := cause.Judge(p.Facts)
	r.Millis = time.Since(p.began).Milliseconds()
	return r
}

func (p *probe) look(ctx context.Context) {
	var g sync.WaitGroup
	var system, programs cause.Lookup
	if !p.Target.Addr.IsValid() {
		g.Go(func() { system = p.askSystem(ctx) })
		g.Go(func() { programs = p.askPrograms(ctx) })
	}
	p.contact(ctx)
	if p.service != nil {
		defer p.service.Close()
	}
	p.before(ctx)
	g.Wait()
	p.Names.System = cause.Prefer(programs, system)
	p.aim(ctx)
	p.Ways = ways(slices.Concat(p.Targets, p.sentinels(), p.upstream()))
	for _, w := range ways(somewhere) {
		p.Default = cmp.Or(p.Default, w.Interface)
	}
	p.NoWayOut = p.Default == ""
	p.try(ctx)
	p.after(ctx)
}

// before looks at what the service says before anything is tried.
func (p *probe) before(ctx context.Context) {
	if p.State == nil {
		return
	}
	var g sync.WaitGroup
	if sentinels := p.sentinels(); len(sentinels) > 0 {
		if !p.Target.Addr.IsValid() {
			g.Go(func() { p.Names.Ours = p.askOurs(ctx, sentinels, p.Target.Host, true, true) })
		}
		g.Go(func() { p.Names.Alive = p.askOurs(ctx, sentinels, cause.Canary, true, false).Outcome == cause.NoName })
		p.Names.Resolvers = resolvers()
		p.Names.Hosts = hostsFile(p.Target.Host)
	}
	p.Before = p.inspect(ctx, p.Target.Host)
	p.After = p.Before
	g.Wait()
}

// aim finds the addresses that a program would connect to, of each family the
// first. A name that no resource has may lead to addresses that one has: then
// those count. If they stand for another name, a search domain made it whole.
func (p *probe) aim(ctx context.Context) {
	p.host = p.Target.Host
	if p.Target.Addr.IsValid() {
		p.Targets = []netip.Addr{p.Target.Addr}
		return
	}
	for _, a := range p.Names.System.Addrs {
		if !slices.ContainsFunc(p.Targets, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			p.Targets = append(p.Targets, a)
		}
	}
	if p.After == nil || p.After.Verdict != ipc.NotCovered {
		return
	}
	var within []netip.Addr
	for _, a := range p.Targets {
		k := p.inspect(ctx, a.String())
		if k == nil || k.Verdict == ipc.NotCovered {
			continue
		}
		if within = append(within, a); len(within) > 1 {
			continue
		}
		p.host, p.Before, p.After = a.String(), k, k
		if k.Name != "" {
			p.host, p.Target.Host = k.Name, k.Name
			p.Names.Ours = p.askOurs(ctx, p.sentinels(), k.Name, true, true)
			p.refresh(ctx)
		}
	}
	if len(within) > 0 {
		p.Targets = within
	}
}

// after looks at what the service knows afterwards.
func (p *probe) after(ctx context.Context) {
	if p.State == nil {
		return
	}
	if state := fresh(ctx, p.socket); state != nil {
		p.State = state
	}
	if name := p.State.Tunnel.Interface; name != "" {
		i, err := net.InterfaceByName(name)
		p.Down = err != nil || i.Flags&net.FlagUp == 0
	}
}

func (p *probe) sentinels() []netip.Addr {
	if p.State == nil {
		return nil
	}
	return p.State.DNS.Sentinels
}

func (p *probe) upstream() (addrs []netip.Addr) {
	if p.State != nil {
		for _, u := range p.State.DNS.Upstream {
			addrs = append(addrs, u.Addr())
		}
	}
	return addrs
}

func ways(addrs []netip.Addr) (list []cause.Way) {
	for _, a := range addrs {
		i, _ := route.To(a) // "" for none
		list = append(list, cause.Way{Addr: a, Interface: i})
	}
	return list
}
