package sim

import (
	"bytes"
	"net/netip"
	"time"

	"stile/tunnel/core"
)

// A NAT is a kind of router (RFC 4787's terms in comments).
type NAT uint8

const (
	Public            NAT = iota // no router: hosts have public addresses
	Firewall                     // public addresses, unsolicited datagrams are dropped
	FullCone                     // endpoint-independent mapping and filtering
	AddressRestricted            // endpoint-independent mapping, address-dependent filtering
	PortRestricted               // endpoint-independent mapping, address and port-dependent filtering
	Symmetric                    // address and port-dependent mapping and filtering
)

// Kinds lists all of them.
var Kinds = []NAT{Public, Firewall, FullCone, AddressRestricted, PortRestricted, Symmetric}

func (k NAT) String() string {
	return [...]string{"public", "firewall", "full-cone", "address-restricted", "port-restricted", "symmetric"}[k]
}

// Families says which of IPv4 and IPv6 something has.
type Families uint8

const (
	V4   Families = 1
	V6   Families = 2
	Dual Families = V4 | V6
)

func (f Families) String() string { return [...]string{"none", "v4", "v6", "dual"}[f] }

// MappingLifetime is how long a NAT remembers a mapping that nobody uses.
const MappingLifetime = 120 * time.Second

// A Site is a network behind one uplink: a household or a branch office.
type Site struct {
	Kind     NAT
	Link     Link
	internet *Internet
	families Families
	number   byte
	hosts    []*Host
	mappings []*mapping
	forwards map[uint16]netip.AddrPort
	last     byte // of the hosts' numbers
}

// A mapping is an open port of the router. A firewall's leads to itself.
type mapping struct {
	inside, outside netip.AddrPort
	to              netip.AddrPort // symmetric or forwarded: the only remote
	forwarded       bool
	used            time.Time
	spoken          map[netip.AddrPort]time.Time // remotes that the inside sent to
}

// Site adds a network. Hosts in it have addresses of the given families.
func (i *Internet) Site(kind NAT, f Families, l Link) *Site {
	s := &Site{Kind: kind, Link: l, internet: i, families: f, number: byte(len(i.sites) + 1)}
	i.sites = append(i.sites, s)
	if kind >= FullCone {
		i.public[s.outer(true)], i.public[s.outer(false)] = s, s
	}
	return s
}

// Reboot forgets all mappings, as a router does when it loses power.
func (s *Site) Reboot() { s.mappings = nil }

// Forward leads what arrives at a port of the router to a host, as its owner
// may have set it up.
func (s *Site) Forward(port uint16, to *Host) {
	if s.forwards == nil {
		s.forwards = make(map[uint16]netip.AddrPort)
	}
	s.forwards[port] = netip.AddrPortFrom(to.V4, to.Port)
}

// outer is the router's public address.
func (s *Site) outer(v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{20, 0, s.number, 1})
	}
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: s.number, 15: 1})
}

// inner is the address of a host in the site.
func (s *Site) inner(v4 bool, host byte) netip.Addr {
	switch {
	case v4 && s.Kind < FullCone:
		return netip.AddrFrom4([4]byte{20, 0, s.number, host})
	case v4:
		return netip.AddrFrom4([4]byte{10, s.number, 0, host})
	case s.Kind < FullCone:
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: s.number, 15: host})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 5: s.number, 15: host})
}

func (s *Site) link() Link { return s.Link }

// up carries a datagram from a host of the site outwards.
func (s *Site) up(p datagram) {
	if s.Kind >= Firewall {
		m := s.mappingFor(p.src, p.dst)
		m.used, m.spoken[p.dst] = s.internet.now, s.internet.now
		p.src = m.outside
	}
	s.internet.carry(s.Link, p)
}

func (s *Site) mappingFor(inside, to netip.AddrPort) *mapping {
	var found *mapping
	for _, m := range s.mappings {
		switch {
		case m.inside != inside || !s.alive(m.used):
		case m.to == to: // also when it was forwarded: answers go back as they came
			return m
		case s.Kind != Symmetric && !m.forwarded:
			found = m
		}
	}
	if found != nil {
		return found
	}
	outside := inside
	if s.Kind >= FullCone {
		outside = s.freePort(inside.Addr().Is4())
	}
	return s.open(inside, outside, to)
}

func (s *Site) open(inside, outside, to netip.AddrPort) *mapping {
	m := &mapping{inside: inside, outside: outside, to: to, used: s.internet.now, spoken: make(map[netip.AddrPort]time.Time)}
	s.mappings = append(s.mappings, m)
	return m
}

// forward finds or makes the mapping by which a forwarded port is reached.
func (s *Site) forward(p datagram) *mapping {
	inside, ok := s.forwards[p.dst.Port()]
	if !ok || !p.dst.Addr().Is4() {
		return nil
	}
	for _, m := range s.mappings {
		if m.forwarded && m.outside == p.dst && m.to == p.src && s.alive(m.used) {
			return m
		}
	}
	m := s.open(inside, p.dst, p.src)
	m.forwarded, m.spoken[p.src] = true, s.internet.now
	return m
}

func (s *Site) freePort(v4 bool) netip.AddrPort {
	for {
		a := netip.AddrPortFrom(s.outer(v4), uint16(20000+s.internet.Chance.IntN(40000)))
		if s.at(a) == nil {
			return a
		}
	}
}

func (s *Site) at(outside netip.AddrPort) *mapping {
	for _, m := range s.mappings {
		if m.outside == outside && s.alive(m.used) {
			return m
		}
	}
	return nil
}

func (s *Site) alive(t time.Time) bool { return s.internet.now.Sub(t) < MappingLifetime }

// receive carries a datagram from the core to a host of the site.
func (s *Site) receive(p datagram) {
	if s.Kind >= Firewall {
		m := s.forward(p)
		if m == nil {
			m = s.at(p.dst)
		}
		if m == nil || !s.lets(m, p.src) {
			s.internet.Lost++
			return
		}
		m.used = s.internet.now
		p.dst = m.inside
	}
	s.deliver(p)
}

// lets is the filter.
func (s *Site) lets(m *mapping, from netip.AddrPort) bool {
	if s.Kind == FullCone {
		return true
	}
	for to, at := range m.spoken {
		if s.alive(at) && (to == from || s.Kind == AddressRestricted && to.Addr() == from.Addr()) {
			return true
		}
	}
	return false
}

func (s *Site) deliver(p datagram) {
	for _, h := range s.hosts {
		if h.V4 == p.dst.Addr() || h.V6 == p.dst.Addr() {
			h.receive(p)
			return
		}
	}
	s.internet.Lost++
}

// A Host is a machine at a site.
type Host struct {
	V4, V6  netip.Addr // invalid: no such family
	Port    uint16     // of its sockets; 0: it listens on all
	machine Machine
	site    *Site // nil: unplugged
}

// Add puts a machine into the site.
func (s *Site) Add(m Machine, port uint16) *Host {
	h := &Host{Port: port, machine: m}
	s.internet.hosts = append(s.internet.hosts, h)
	h.Move(s)
	return h
}

// Move takes a host to another site, where it has other addresses.
func (h *Host) Move(to *Site) {
	h.Unplug()
	h.site = to
	to.last++
	h.V4, h.V6 = netip.Addr{}, netip.Addr{}
	if to.families&V4 != 0 {
		h.V4 = to.inner(true, 1+to.last)
	}
	if to.families&V6 != 0 {
		h.V6 = to.inner(false, 1+to.last)
	}
	h.plug()
}

func (h *Host) plug() {
	h.site.hosts = append(h.site.hosts, h)
	for _, a := range []netip.Addr{h.V4, h.V6} {
		if a.IsValid() && h.site.Kind < FullCone {
			h.site.internet.public[a] = h.site
		}
	}
}

// Unplug takes a host off the net. Its machine stands still.
func (h *Host) Unplug() {
	s := h.site
	if s == nil {
		return
	}
	for i, other := range s.hosts {
		if other == h {
			s.hosts = append(s.hosts[:i:i], s.hosts[i+1:]...)
			break
		}
	}
	if s.Kind < FullCone {
		delete(s.internet.public, h.V4)
		delete(s.internet.public, h.V6)
	}
	h.site = nil
}

// Replug brings an unplugged host back to where it was.
func (h *Host) Replug(s *Site) {
	h.site = s
	h.plug()
}

// Replace puts another machine in the host's place.
func (h *Host) Replace(m Machine) { h.machine = m }

// send carries what the machine sends. A source that the host does not have,
// and a family it does not have, are errors of the network stack.
func (h *Host) send(d core.Datagram) {
	s := h.site
	s.internet.Sent++
	src := h.V6
	if d.Remote.Addr().Is4() {
		src = h.V4
	}
	port := h.Port
	if d.Local.Port() != 0 {
		port = d.Local.Port()
	}
	bound := d.Local.Addr().IsValid() && !d.Local.Addr().IsUnspecified()
	if !src.IsValid() || bound && d.Local.Addr() != src {
		s.internet.Lost++
		return
	}
	p := datagram{netip.AddrPortFrom(src, port), d.Remote, bytes.Clone(d.Payload)}
	for _, neighbour := range s.hosts {
		if neighbour.V4 == p.dst.Addr() || neighbour.V6 == p.dst.Addr() {
			s.internet.After(100*time.Microsecond, func() { neighbour.receive(p) })
			return
		}
	}
	s.up(p)
}

func (h *Host) receive(p datagram) {
	if h.site == nil || h.Port != 0 && h.Port != p.dst.Port() {
		return
	}
	h.site.internet.note(p)
	h.machine.Receive(core.Datagram{Local: p.dst, Remote: p.src, Payload: p.payload}, h.site.internet.now)
}
