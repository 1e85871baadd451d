package client

import (
	"fmt"
	"strings"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// Message takes a message of the portal.
func (c *Core) Message(m wire.Message, now time.Time) {
	c.now = now
	switch m := m.(type) {
	case wire.ClientInit:
		c.note(core.Note{What: "told everything by the portal", Reason: fmt.Sprintf("%d resources, %d addresses of relays", len(m.Resources), len(m.Relays))})
		c.setInterface(m.Interface, now)
		c.setResources(m.Resources, now)
		c.counts[resourcesSkipped] += uint64(m.Skipped)
		c.paths.Relays(nil, m.Relays, now)
		c.retryGranted(now)
		c.askAgain(now)
	case wire.ConfigChanged:
		c.note(core.Note{What: "interface changed by the portal"})
		c.setInterface(m.Interface, now)
	case wire.ResourceUpserted:
		c.note(core.Note{What: "resource changed by the portal", Resource: m.Resource.ID})
		c.upsertResource(m.Resource, now)
	case wire.ResourceDeleted:
		c.note(core.Note{What: "resource withdrawn by the portal", Resource: m.ID})
		if r := c.resources[m.ID]; r != nil {
			c.removeResource(r, now)
		}
	case wire.RelaysPresence:
		c.note(core.Note{What: "relays changed by the portal", Reason: fmt.Sprintf("%d gone, %d addresses new", len(m.Disconnected), len(m.Connected))})
		c.paths.Relays(m.Disconnected, m.Connected, now)
		c.retryGranted(now)
	case wire.AuthorizationCreated:
		c.created(m, now)
	case wire.AuthorizationFailed:
		c.failed(m, now)
	case wire.GatewayCandidates:
		if m.Invalidate {
			c.paths.RemoveCandidates(id.PeerOf(m.Gateway), m.Candidates, now)
		} else {
			c.paths.AddCandidates(id.PeerOf(m.Gateway), m.Candidates, now)
		}
	default:
		c.count(messagesIgnored)
	}
}

// setInterface takes tunnel addresses and resolvers. Gateways know us by our
// addresses: if those change, all authorizations are void.
func (c *Core) setInterface(i wire.Interface, now time.Time) {
	if c.own4.IsValid() && (i.IPv4 != c.own4 || i.IPv6 != c.own6) {
		for _, g := range c.sortedGateways() {
			c.close(g, true, now)
		}
		c.dropRequests() // packets with the former source
	}
	c.own4, c.own6 = i.IPv4, i.IPv6
	c.tun.search = i.SearchDomain
	c.resolver.SetPortal(i, now)
	c.tun.changed = true
}

// lower folds a name as the resolver does.
func lower(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
