package nat

import (
	"time"

	"stile/tunnel/packet"
)

// An Account says to which session's traffic a datagram counts. Of a datagram in
// fragments only the first shows that; the others are charged to it, and neither
// make a session nor refresh one (N41). An Account is a value: the session may
// be gone when the next fragment comes.
type Account struct {
	inside  key
	inbound bool
}

// AccountOf returns the Account of a packet as the client sends or, inbound,
// receives it.
func (t *Table) AccountOf(p packet.Packet, inbound bool) Account {
	a := Account{inbound: inbound}
	if inbound {
		a.inside, _, _ = t.inboundKey(p)
	} else {
		a.inside, _, _ = t.outboundKey(p)
	}
	return a
}

// Charge counts a later fragment, if its session exists.
func (t *Table) Charge(a Account, p packet.Packet, now time.Time) {
	s := t.byInside(a.inside)
	switch {
	case s == nil || !s.exists(t.at(now)):
	case a.inbound:
		s.received.add(p)
	default:
		s.sent.add(p)
	}
}
