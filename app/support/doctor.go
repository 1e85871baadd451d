package support

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"stile/platform/dnsctl"
	"stile/tunnel/ipc"
)

// A Diagnosis is how this machine resolves names, as its user's programs see
// it.
type Diagnosis struct {
	// System lists the resolvers that the system asks, in its order; Sentinels
	// are ours.
	System    []netip.Addr `json:"system"`
	Sentinels []netip.Addr `json:"sentinels"`
	AsksUs    bool         `json:"asks_us"` // the first one asked is ours
	Checks    []Check      `json:"checks"`
}

// A Check is one query and what became of it.
type Check struct {
	What   string       `json:"what"`
	OK     bool         `json:"ok"`
	Text   string       `json:"text,omitempty"` // why not
	Addrs  []netip.Addr `json:"addrs,omitempty"`
	TookMS float64      `json:"took_ms"`
}

// canary is a name that our resolver, and no other, says does not exist (spec
// client-dns.md 6).
const canary = "use-application-dns.net."

// queryTime bounds each query of a diagnosis.
const queryTime = 2 * time.Second

// Examine asks all resolvers that count, at once. s may be nil.
func Examine(ctx context.Context, s *ipc.State) Diagnosis {
	d := Diagnosis{System: SystemResolvers(), Sentinels: []netip.Addr{}, Checks: []Check{}}
	var todo []func() Check
	if s != nil {
		d.Sentinels = append(d.Sentinels, s.DNS.Sentinels...)
		for _, a := range s.DNS.Sentinels {
			todo = append(todo, func() Check { return checkSentinel(ctx, a) })
		}
		if u, err := url.Parse(s.Session.Portal); err == nil && u.Hostname() != "" {
			host := u.Hostname()
			todo = append(todo, func() Check { return checkName(ctx, "the portal's name, as programs ask", host, nil) })
			for _, up := range s.DNS.Upstream {
				todo = append(todo, func() Check {
					return checkName(ctx, "the portal's name, asking "+up.String(), host, server(up.String()))
				})
			}
		}
		if i := slices.IndexFunc(s.Resources, func(r ipc.Resource) bool { return r.Type == "dns" && !strings.ContainsAny(r.Address, "*?") }); i >= 0 {
			host := s.Resources[i].Address
			todo = append(todo, func() Check { return checkName(ctx, "the first resource's name, as programs ask", host, nil) })
		}
	}
	d.AsksUs = len(d.System) > 0 && slices.Contains(d.Sentinels, d.System[0])
	d.Checks = make([]Check, len(todo))
	var g sync.WaitGroup
	for i, f := range todo {
		g.Go(func() { d.Checks[i] = f() })
	}
	g.Wait()
	return d
}

// SystemResolvers lists the resolvers that the system's configuration names.
func SystemResolvers() []netip.Addr {
	list := []netip.Addr{}
	files := dnsctl.Files()
	if len(files) == 0 {
		return list
	}
	text, err := readSmall(files[0])
	if err != nil {
		return list
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			if a, err := netip.ParseAddr(words[1]); err == nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// server is a resolver that asks one server only.
func server(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
}

func checkSentinel(ctx context.Context, a netip.Addr) Check {
	c := ask(ctx, canary, server(netip.AddrPortFrom(a, 53).String()))
	c.What = "our resolver " + a.String() + " answers"
	switch {
	case c.OK:
		c.OK, c.Text = false, "something else answers at this address: it knows a name that ours denies"
	case c.Text == notFound:
		c.OK, c.Text = true, ""
	}
	return c
}

func checkName(ctx context.Context, what, host string, r *net.Resolver) Check {
	c := ask(ctx, host, r)
	c.What = what
	return c
}

const notFound = "there is no such name"

// ask resolves a name; r nil: as programs do.
func ask(ctx context.Context, host string, r *net.Resolver) (c Check) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if r == nil {
		r = net.DefaultResolver
	}
	began := time.Now()
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	c.TookMS = float64(time.Since(began).Microseconds()) / 1000
	c.Addrs, c.OK = addrs, err == nil
	if failure, is := errors.AsType[*net.DNSError](err); is {
		switch {
		case failure.IsNotFound:
			c.Text = notFound
		case failure.IsTimeout:
			c.Text = "no answer in time"
		default:
			c.Text = failure.Err
		}
	} else if err != nil {
		c.Text = err.Error()
	}
	return c
}
