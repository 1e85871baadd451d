package cause

import (
	"net/netip"
	"slices"

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

// Join is what two lookups of one name say together, for one family each. What
// one found out counts more than what the other did not.
func Join(a, b Lookup) Lookup {
	order := []Answer{Found, NoAddress, NoName, Failed, NoAnswer, NotAsked}
	if slices.Index(order, b.Outcome) < slices.Index(order, a.Outcome) {
		a, b = b, a
	}
	return Lookup{a.Outcome, append(slices.Clone(a.Addrs), b.Addrs...)}
}
