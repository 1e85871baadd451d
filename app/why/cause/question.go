package cause

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Canary is a name that the service answers by itself, whatever else works, and
// always with NoName.
const Canary = "use-application-dns.net"

// Question is a DNS query for a name's addresses, IPv4 ones or IPv6 ones.
func Question(id uint16, name string, v6 bool) ([]byte, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	q := dnsmessage.Question{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	if v6 {
		q.Type = dnsmessage.TypeAAAA
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{q}}
	return m.Pack()
}

// ParseReply reads the reply to a Question. With false it is none.
func ParseReply(id uint16, reply []byte) (Lookup, bool) {
	var m dnsmessage.Message
	if m.Unpack(reply) != nil || !m.Response || m.ID != id {
		return Lookup{}, false
	}
	switch m.RCode {
	case dnsmessage.RCodeSuccess:
	case dnsmessage.RCodeNameError:
		return Lookup{Outcome: NoName}, true
	default:
		return Lookup{Outcome: Failed}, true
	}
	l := Lookup{Outcome: NoAddress}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			l.Addrs = append(l.Addrs, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			l.Addrs = append(l.Addrs, netip.AddrFrom16(body.AAAA))
		}
	}
	if len(l.Addrs) > 0 {
		l.Outcome = Found
	}
	return l, true
}

// ParseAhosts reads what "getent ahosts" prints: an address at the begin of each
// line, each address several times.
func ParseAhosts(text string) (l Lookup) {
	for line := range strings.Lines(text) {
		first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if a, err := netip.ParseAddr(first); err == nil {
			if a = a.Unmap().WithZone(""); !slices.Contains(l.Addrs, a) {
				l.Addrs = append(l.Addrs, a)
			}
		}
	}
	if len(l.Addrs) > 0 {
		l.Outcome = Found
	}
	return l
}

// Prefer is what programs are told, if that was found out and is not just a
// part of what DNS says.
func Prefer(programs, dns Lookup) Lookup {
	other := slices.ContainsFunc(programs.Addrs, func(a netip.Addr) bool { return !slices.Contains(dns.Addrs, a) })
	if programs.Outcome == Found && other {
		return programs
	}
	return dns
}

// Join is what two lookups of one name say together, for one family each. What
// one found out counts more than what the other did not.
func Join(a, b Lookup) Lookup {
	order := []Answer{Found, NoAddress, NoName, Failed, NoAnswer, NotAsked}
	if slices.Index(order, b.Outcome) < slices.Index(order, a.Outcome) {
		a, b = b, a
	}
	return Lookup{a.Outcome, append(slices.Clone(a.Addrs), b.Addrs...)}
}
