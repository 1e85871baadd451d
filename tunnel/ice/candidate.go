package ice

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// A Kind says how a candidate was learnt. Kinds are ordered from best to worst.
type Kind uint8

const (
	Host            Kind = iota // an address of the machine itself
	PeerReflexive               // seen as the source of a check, never signalled
	ServerReflexive             // what a relay saw: the address outside our NAT
	Relayed                     // an address on a relay
)

func (k Kind) String() string {
	switch k {
	case Host:
		return "host"
	case PeerReflexive:
		return "prflx"
	case ServerReflexive:
		return "srflx"
	}
	return "relay"
}

// A Candidate is an address under which a peer may be reached.
type Candidate struct {
	Kind Kind
	Addr netip.AddrPort
	// Base is where we send from when we use a local candidate: the address
	// itself, or for a server-reflexive one the host address behind it. Zero
	// in remote candidates.
	Base netip.AddrPort
	// Related is what the text carries as raddr and rport; zero: nothing. It
	// means nothing to the agent except that invalidation compares it.
	Related netip.AddrPort
	// Priority as announced; the agent assigns it to local candidates.
	Priority uint32
	// CrossFamily marks a local relayed address whose family differs from the
	// one we use towards the relay. It makes the candidate a little worse.
	CrossFamily bool
}

// NewHost returns a local host candidate.
func NewHost(addr netip.AddrPort) Candidate {
	return Candidate{Kind: Host, Addr: addr, Base: addr}
}

// NewServerReflexive returns a local candidate: addr is what a relay saw,
// base the host address it was sent from.
func NewServerReflexive(addr, base netip.AddrPort) Candidate {
	return Candidate{Kind: ServerReflexive, Addr: addr, Base: base, Related: unspecified(addr)}
}

// NewRelayed returns a local candidate for an address on a relay.
func NewRelayed(addr netip.AddrPort, crossFamily bool) Candidate {
	return Candidate{Kind: Relayed, Addr: addr, Base: addr, Related: unspecified(addr), CrossFamily: crossFamily}
}

// unspecified is the raddr and rport that stock peers announce, and which an
// invalidation has to repeat (connectivity.md 3.3, 3.5).
func unspecified(addr netip.AddrPort) netip.AddrPort {
	if addr.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
}

// Usable reports whether an address may ever be a candidate (connectivity.md
// 3.1). Loopback and IPv6 link-local are allowed.
func Usable(addr netip.AddrPort) bool {
	a := addr.Addr()
	if !a.IsValid() || addr.Port() == 0 || a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	return !a.Is4() || !a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Parsing errors. A receiver skips the element in any of these cases.
var (
	ErrSyntax  = errors.New("not a candidate")
	ErrIgnored = errors.New("candidate of another component, transport or type")
	ErrAddress = errors.New("unusable candidate address")
)

const (
	textPrefix = "candidate:"
	maxText    = 1024 // bytes; real ones have less than 200
)

// Parse reads a candidate as a peer signals it (connectivity.md 3.3). ufrag is
// that of the sender if the text names one; it must then be the one we know.
func Parse(text string) (c Candidate, ufrag string, err error) {
	rest, ok := strings.CutPrefix(text, textPrefix)
	if !ok || len(text) > maxText {
		return Candidate{}, "", ErrSyntax
	}
	f := strings.Fields(rest)
	if len(f) < 8 || f[6] != "typ" {
		return Candidate{}, "", ErrSyntax
	}
	priority, err := strconv.ParseUint(f[3], 10, 32)
	if err != nil {
		return Candidate{}, "", fmt.Errorf("%w: priority", ErrSyntax)
	}
	if c.Kind, ok = kinds[f[7]]; !ok || f[1] != "1" || !strings.EqualFold(f[2], "udp") {
		return Candidate{}, "", ErrIgnored
	}
	c.Priority = uint32(priority)
	if c.Addr, err = parseAddr(f[4], f[5]); err != nil {
		return Candidate{}, "", err
	}
	if !Usable(c.Addr) {
		return Candidate{}, "", ErrAddress
	}
	ufrag, err = c.parseExtensions(f[8:])
	return c, ufrag, err
}

var kinds = map[string]Kind{"host": Host, "prflx": PeerReflexive, "srflx": ServerReflexive, "relay": Relayed}

// parseExtensions reads the key and value pairs after the type. Unknown keys
// are skipped; raddr and rport come both or not at all.
func (c *Candidate) parseExtensions(f []string) (ufrag string, err error) {
	var raddr, rport string
	for ; len(f) >= 2; f = f[2:] {
		switch f[0] {
		case "raddr":
			raddr = f[1]
		case "rport":
			rport = f[1]
		case "ufrag":
			ufrag = f[1]
		}
	}
	if raddr == "" && rport == "" {
		return ufrag, nil
	}
	c.Related, err = parseAddr(raddr, rport)
	return ufrag, err
}

func parseAddr(ip, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Zone() != "" {
		return netip.AddrPort{}, ErrAddress
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, ErrAddress
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}

// Text writes the candidate as peers expect it, with the sender's ufrag. Some
// of them parse by position: related address directly after the type, then
// the ufrag, one space between tokens.
func (c Candidate) Text(ufrag string) string {
	b := make([]byte, 0, 128)
	b = append(b, textPrefix...)
	b = fmt.Appendf(b, "%08x%016x 1 udp %d %s %d typ %s",
		bits.ReverseBytes32(c.Priority), c.fingerprint(), c.Priority, c.Addr.Addr(), c.Addr.Port(), c.Kind)
	if c.Related.IsValid() {
		b = fmt.Appendf(b, " raddr %s rport %d", c.Related.Addr(), c.Related.Port())
	}
	if ufrag != "" {
		b = append(b, " ufrag "...)
		b = append(b, ufrag...)
	}
	return string(b)
}

// fingerprint is the stable half of the foundation: any token will do, equal
// candidates should have equal ones.
func (c Candidate) fingerprint() uint64 {
	h := fnv.New64a()
	h.Write([]byte{byte(c.Kind)})
	h.Write(c.Addr.Addr().AsSlice())
	h.Write([]byte{byte(c.Addr.Port() >> 8), byte(c.Addr.Port())})
	h.Write(c.Base.Addr().AsSlice())
	return h.Sum64()
}

// matches reports whether an invalidation means this candidate: address, type
// and related address count; foundation, priority and ufrag differ between
// announcement and invalidation (connectivity.md 3.5).
func (c Candidate) matches(d Candidate) bool {
	return c.Addr == d.Addr && c.Kind == d.Kind && c.Related == d.Related
}
