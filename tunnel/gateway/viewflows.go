package gateway

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
)

// A Session is one flow that a client has, or had until a moment ago.
type Session struct {
	Client      id.Client   `json:"client_id"`
	ClientIP    netip.Addr  `json:"client_ip"`
	ClientPort  uint16      `json:"client_port,omitempty"` // of ICMP, the echo identifier
	Actor       string      `json:"actor,omitempty"`
	Protocol    string      `json:"protocol"` // "tcp", "udp", "icmp", "icmpv6" or a number
	Name        string      `json:"name,omitempty"`
	Proxy       netip.Addr  `json:"proxy_ip,omitzero"` // missing: the client sends to real_ip itself
	Real        netip.Addr  `json:"real_ip"`
	Port        uint16      `json:"port,omitempty"`         // the resource's, in the first packet
	OutsidePort uint16      `json:"outside_port,omitempty"` // the client's as the resource sees it
	Resource    id.Resource `json:"resource_id,omitzero"`
	ResourceAs  string      `json:"resource,omitempty"`   // its name
	State       string      `json:"state"`                // one of SessionStates
	ByGateway   bool        `json:"by_gateway,omitempty"` // the gateway host began it
	StartedAt   time.Time   `json:"started_at"`
	LastAt      time.Time   `json:"last_at"`     // of a packet, in either direction
	LastOutAt   time.Time   `json:"last_out_at"` // of a packet from the client
	EndsAt      time.Time   `json:"ends_at"`     // if nothing more is sent
	PacketsOut  uint64      `json:"packets_out"` // from the client
	PacketsIn   uint64      `json:"packets_in"`
	BytesOut    uint64      `json:"bytes_out"`
	BytesIn     uint64      `json:"bytes_in"`
}

// SessionStates are the states of sessions, in the order of their lives.
var SessionStates = []string{"unconfirmed", "opening", "established", "half-closed", "closed", "udp", "icmp", "other"}

// PageSize is how many sessions, or proxy addresses, one look at a client tells
// of at most: what it takes, packets have to wait.
const PageSize = 256

// SessionsOf appends a page of a client's sessions, and returns the cursor of the
// next; 0: this was the last, or the client is gone. The first cursor is 0. A
// page may be empty though others follow. Between two pages anything may happen:
// a session may be missing, or come twice.
func (c *Core) SessionsOf(dst []Session, who id.Client, cursor uint32, m Moment) ([]Session, uint32) {
	k := c.clients[who]
	if k == nil {
		return dst, 0
	}
	next := k.nat.FlowsFrom(cursor, PageSize, m.Now, func(f nat.Flow) { dst = append(dst, k.session(&f, m)) })
	return dst, next
}

func (k *client) session(f *nat.Flow, m Moment) Session {
	s := Session{
		Client: k.id, ClientIP: k.addrLike(f.Proxy.Is4()), ClientPort: f.Client, Actor: k.actor, Protocol: protocolName(f.Proto),
		Name: f.Name, Real: f.Real, Port: f.Port, OutsidePort: f.Outside, Resource: f.Resource,
		State: f.State, ByGateway: f.Opened,
		StartedAt: m.calendar(f.Started), LastAt: m.calendar(f.Last), LastOutAt: m.calendar(f.LastOut), EndsAt: m.calendar(f.Deadline),
		PacketsOut: f.PacketsOut, PacketsIn: f.PacketsIn, BytesOut: f.BytesOut, BytesIn: f.BytesIn,
	}
	if f.Proxy != f.Real {
		s.Proxy = f.Proxy
	}
	if g := k.known[f.Resource]; g != nil {
		s.ResourceAs = g.ResourceName
	}
	return s
}

func protocolName(p packet.Proto) string {
	switch p {
	case packet.TCP:
		return "tcp"
	case packet.UDP:
		return "udp"
	case packet.ICMP:
		return "icmp"
	case packet.ICMPv6:
		return "icmpv6"
	}
	return strconv.Itoa(int(p))
}

// A Proxy is what one proxy address of a client stands for, and why.
type Proxy struct {
	Addr      netip.Addr    `json:"proxy_ip"`
	Name      string        `json:"-"`                // what it stands for
	Resources []id.Resource `json:"-"`                // that it was announced for
	Real      netip.Addr    `json:"real_ip,omitzero"` // where new sessions go; missing: nowhere
	// Pending is the address that DNS tells since; it counts as soon as no
	// session holds real_ip. Waiting without one: the name has none any more.
	Waiting bool       `json:"waiting,omitempty"`
	Pending netip.Addr `json:"pending_ip,omitzero"`
	// HeldUntil is when real_ip is free if the client sends nothing more on the
	// session that holds it, HeldBy.
	HeldUntil time.Time    `json:"held_until,omitzero"`
	HeldBy    *Holder      `json:"held_by,omitempty"`
	Latest    []netip.Addr `json:"-"` // the latest answer of DNS, of its family
	Avoided   []Avoided    `json:"avoided,omitempty"`
}

// A Holder is a session that keeps new ones at its address.
type Holder struct {
	Protocol   string `json:"protocol"`
	ClientPort uint16 `json:"client_port,omitempty"`
	Port       uint16 `json:"port,omitempty"`
}

// Avoided is a server that new sessions do not go to for a while.
type Avoided struct {
	Real  netip.Addr `json:"real_ip"`
	Port  uint16     `json:"port,omitempty"` // of TCP, where handshakes fail; missing: it is out of reach
	Until time.Time  `json:"until"`
}

// ProxyAddrs appends the proxy addresses that stand for a name for a client, in
// no order that means something.
func (c *Core) ProxyAddrs(dst []netip.Addr, who id.Client) []netip.Addr {
	if k := c.clients[who]; k != nil {
		dst = k.nat.Proxies(dst)
	}
	return dst
}

// ProxiesOf appends what a client's proxy addresses stand for, of those that do.
// There should not be more than PageSize.
func (c *Core) ProxiesOf(dst []Proxy, who id.Client, addrs []netip.Addr, m Moment) []Proxy {
	k := c.clients[who]
	if k == nil {
		return dst
	}
	for _, a := range addrs {
		if b, ok := k.nat.Binding(a, m.Now); ok {
			dst = append(dst, proxyView(&b, m))
		}
	}
	return dst
}

func proxyView(b *nat.Binding, m Moment) Proxy {
	v := Proxy{
		Addr: b.Proxy, Name: b.Name, Resources: b.Resources, Real: b.Current,
		Waiting: b.Waiting, Pending: b.Pending, Latest: b.Latest,
	}
	if v.Pending == v.Real { // DNS says what it said
		v.Waiting, v.Pending = false, netip.Addr{}
	}
	if b.Held {
		v.HeldUntil = m.calendar(b.HeldUntil)
		v.HeldBy = &Holder{protocolName(b.Holder.Proto), b.Holder.Client, b.Holder.Port}
	}
	for _, e := range b.Evidence {
		v.Avoided = append(v.Avoided, Avoided{e.Addr, e.Port, m.calendar(e.Until)})
	}
	slices.SortFunc(v.Avoided, func(x, y Avoided) int {
		return cmp.Or(x.Real.Compare(y.Real), cmp.Compare(x.Port, y.Port))
	})
	return v
}
