package portal

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// chooseRelays gives a peer two relays, those it has already first, as any
// other choice would make it move; the rest by chance (spec portal.md 5.6).
func (p *Portal) chooseRelays(to *peer) []wire.Relay {
	var kept, others []*relay
	for _, r := range p.relays.all() {
		if slices.Contains(to.given, r.id) {
			kept = append(kept, r)
		} else {
			others = append(others, r)
		}
	}
	p.seed.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	chosen := append(kept, others...)
	chosen = chosen[:min(len(chosen), relaysPerPeer)]

	to.given = nil
	var list []wire.Relay
	for _, r := range chosen {
		to.given = append(to.given, r.id)
		list = append(list, r.entries(to)...)
	}
	return list
}

// entries describes r with the credentials of one peer: one entry for each
// address family, next to each other (spec portal.md 3.1.2).
func (r *relay) entries(to *peer) []wire.Relay {
	user, password := relayCredentials(r.StampSecret.Reveal(), to.end.key, to.relayExpiry)
	var list []wire.Relay
	for _, addr := range []netip.Addr{r.IPv4, r.IPv6} {
		if addr.IsValid() {
			list = append(list, wire.Relay{
				ID: r.id, Addr: netip.AddrPortFrom(addr, r.Port), Username: user, Password: password, ExpiresAt: to.relayExpiry,
			})
		}
	}
	return list
}

// offerRelays answers a peer that says it has no relay that works: any two may
// be better than those it was given. It still hears when one of these goes.
func (p *Portal) offerRelays(to *peer) {
	had := to.given
	to.given = nil
	p.push(to.conn, wire.RelaysPresence{Connected: p.chooseRelays(to)})
	for _, r := range had {
		if !slices.Contains(to.given, r) {
			to.given = append(to.given, r)
		}
	}
}

// relaysChanged has the peers told in a second: a relay that reconnects, or
// several that start together, are one piece of news. See rescue.
func (p *Portal) relaysChanged(now time.Time) {
	if p.presence.IsZero() {
		p.presence = now.Add(presenceDelay)
	}
}

// rescue tells those peers at once who have no relay, when one has come: there
// is nothing that the news could disturb, and no tunnel without it.
func (p *Portal) rescue() {
	online := func(r id.Relay) bool { return p.relays.of(r) != nil }
	for _, to := range p.peers() {
		if !slices.ContainsFunc(to.given, online) {
			p.tellRelays(to)
		}
	}
}

// tellPresence tells those peers whom the news concerns: they lost a relay, or
// have too few and could have more (spec portal.md 4.8).
func (p *Portal) tellPresence() {
	for _, to := range p.peers() {
		p.tellRelays(to)
	}
}

// peers returns who uses relays: clients, then gateways.
func (p *Portal) peers() (all []*peer) {
	for _, c := range p.clients.all() {
		all = append(all, &c.peer)
	}
	for _, g := range p.gateways.all() {
		all = append(all, &g.peer)
	}
	return all
}

func (p *Portal) tellRelays(to *peer) {
	had := to.given
	gone := slices.DeleteFunc(slices.Clone(had), func(r id.Relay) bool { return p.relays.of(r) != nil })
	kept := len(had) - len(gone)
	more := kept < relaysPerPeer && len(p.relays.conns) > kept
	if len(gone) > 0 || more {
		p.push(to.conn, wire.RelaysPresence{Disconnected: gone, Connected: p.chooseRelays(to)})
	}
}
