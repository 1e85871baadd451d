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

// A Check is one query and what became of it, in English; Kind, Of and Failure
// are for programs that say it in another language.
type Check struct {
	What    string       `json:"what"`
	OK      bool         `json:"ok"`
	Text    string       `json:"text,omitempty"` // why not
	Addrs   []netip.Addr `json:"addrs,omitempty"`
	TookMS  float64      `json:"took_ms"`
	Kind    Kind         `json:"kind"`
	Of      string       `json:"of,omitempty"`      // whom a question went to; "": whom programs ask
	Failure Failure      `json:"failure,omitempty"` // "": none, or another one, which Text tells
}

// A Kind is what was looked for.
type Kind string

// Kinds.
const (
	Sentinel     Kind = "sentinel" // whether our resolver answers
	PortalName   Kind = "portal"   // the name of the portal
	ResourceName Kind = "resource" // that of the first resource
)

// A Failure is why a query was of no use.
type Failure string

// Failures.
const (
	NoSuchName Failure = "no-such-name"
	NoAnswer   Failure = "no-answer"
	Impostor   Failure = "impostor" // something else answers in our resolver's place
)

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
			todo = append(todo, func() Check { return checkName(ctx, PortalName, "the portal's name", host, "") })
			for _, up := range s.DNS.Upstream {
				todo = append(todo, func() Check {
					return checkName(ctx, PortalName, "the portal's name", host, up.String())
				})
			}
		}
		if i := slices.IndexFunc(s.Resources, func(r ipc.Resource) bool { return r.Type == "dns" && !strings.ContainsAny(r.Address, "*?") }); i >= 0 {
			host := s.Resources[i].Address
			todo = append(todo, func() Check { return checkName(ctx, ResourceName, "the first resource's name", host, "") })
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
	c.What, c.Kind, c.Of = "our resolver "+a.String()+" answers", Sentinel, a.String()
	switch {
	case c.OK:
		c.OK, c.Text, c.Failure = false, "something else answers at this address: it knows a name that ours denies", Impostor
	case c.Failure == NoSuchName:
		c.OK, c.Text, c.Failure = true, "", ""
	}
	return c
}

// checkName asks the server at an address for the name, or whom programs ask if
// that is "".
func checkName(ctx context.Context, kind Kind, what, host, at string) (c Check) {
	if at == "" {
		c = ask(ctx, host, nil)
		c.What = what + ", as programs ask"
	} else {
		c = ask(ctx, host, server(at))
		c.What = what + ", asking " + at
	}
	c.Kind, c.Of = kind, at
	return c
}

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
			c.Text, c.Failure = "there is no such name", NoSuchName
		case failure.IsTimeout:
			c.Text, c.Failure = "no answer in time", NoAnswer
		default:
			c.Text = failure.Err
		}
	} else if err != nil {
		c.Text = err.Error()
	}
	return c
}
