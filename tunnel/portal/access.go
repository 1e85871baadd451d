package portal

import (
	"encoding/hex"
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// A request is a client's question that waits for a gateway's word.
type request struct {
	ref     string // unguessable: who answers it was asked
	client  *client
	gateway *gateway
	answer  wire.AuthorizationCreated
	due     time.Time // when the gateway counts as offline
}

// authorize answers a client's request: with a refusal at once, or through a
// gateway that is told first, which may have to come back before (spec portal.md 4.4).
func (p *Portal) authorize(c *client, m wire.RequestAuthorization, now time.Time) {
	refuse := func(reason string, violated ...string) {
		p.push(c.conn, wire.AuthorizationFailed{Resource: m.Resource, Reason: reason, Violated: violated})
	}
	granted, violated, known := p.rules.decide(m.Resource, c.Actor, c.At, now)
	if !known || !supports(c.Agent.Version, p.rules.resources[m.Resource]) {
		refuse(wire.ReasonNotFound)
		return
	}
	if granted.policy == nil {
		var names []string
		for _, property := range violated {
			names = append(names, string(property))
		}
		refuse(wire.ReasonForbidden, names...)
		return
	}
	g, reason := p.chooseGateway(c, granted.policy.resource, m.ConnectedGateways)
	switch {
	case g != nil:
	case reason == wire.ReasonOffline && p.wait(c, m, granted.policy.resource.Site, now):
		return
	default:
		refuse(reason)
		return
	}
	p.forgetRequest(c.asked[m.Resource])
	p.ask(c, g, granted, now)
}

// ask stores the permission, tells the gateway, and waits for its word before
// the client hears of it.
func (p *Portal) ask(c *client, g *gateway, granted grant, now time.Time) {
	res := granted.policy.resource
	a := p.permit(c, g, granted, now)
	claims := p.claims(c, a)
	ref := p.random16()
	r := &request{ref: hex.EncodeToString(ref[:]), client: c, gateway: g, due: now.Add(ackTime)}
	psk := presharedKey(c.end, g.end)
	clientICE, gatewayICE := iceCredentials(c.end, g.end)
	r.answer = wire.AuthorizationCreated{
		Resource: res.ID, Gateway: g.ID, GatewayKey: g.Key, GatewayIPv4: g.IPv4, GatewayIPv6: g.IPv6, Site: res.Site,
		PresharedKey: psk, ClientICE: clientICE, GatewayICE: gatewayICE, IngestToken: claims.sign("initiator", p.ingestKey),
	}
	c.asked[res.ID] = r
	p.asked = append(p.asked, r)
	p.push(g.conn, wire.CreateAuthorization{
		Ref: r.ref, Resource: gatewayView(res), Client: c.ID, ClientKey: c.Key, PresharedKey: psk,
		ClientIPv4: c.IPv4, ClientIPv6: c.IPv6, ClientICE: clientICE, GatewayICE: gatewayICE,
		ExpiresAt: a.ExpiresAt, IngestToken: claims.sign("responder", p.ingestKey),
	})
}

// permit stores an authorization that lasts as long as the policy and the
// client's token do (spec portal.md 5.8).
func (p *Portal) permit(c *client, g *gateway, granted grant, now time.Time) *Authorization {
	expires := orForever(c.TokenExpires)
	if !granted.until.IsZero() {
		expires = min(expires, granted.until.Unix())
	}
	a := &Authorization{
		ID: AuthorizationID(id.New[authorization](p.random16())), Client: c.ID, Gateway: g.ID,
		Resource: granted.policy.Resource, Policy: granted.policy.ID, Token: c.Token, Actor: c.Actor,
		Basis: granted.policy.basis, CreatedAt: now.Unix(), ExpiresAt: expires,
	}
	p.live.put(a)
	p.emit(Save{*a})
	return a
}

// claims describes a for the ingest tokens of both its ends.
func (p *Portal) claims(c *client, a *Authorization) ingestClaims {
	res := p.rules.resources[a.Resource]
	claims := ingestClaims{
		AccountID: p.rules.ID, Authorization: a.ID, Policy: a.Policy, Resource: a.Resource,
		ResourceName: res.Name, ResourceAddress: res.Address, Initiator: a.Client, Responder: a.Gateway,
		Actor: c.Actor.ID, ActorName: c.Actor.Name, ActorEmail: c.Actor.Email, ClientVersion: c.Agent.Version.String(),
	}
	claims.stamp(a.CreatedAt, a.ExpiresAt)
	return claims
}

// chooseGateway picks a gateway of the resource's site, or says why there is
// none (spec portal.md 5.7). Of those the client knows it prefers the one that
// serves the resource already, then the client's own order: some releases
// cannot bear to be sent to another while the tunnel to the first still stands.
func (p *Portal) chooseGateway(c *client, res *Resource, connected []id.Gateway) (*gateway, string) {
	var online, fit []*gateway
	for _, g := range p.gateways.all() {
		if g.Site != res.Site {
			continue
		}
		online = append(online, g)
		if compatible(c.Agent.Version, g.Agent.Version) && supports(g.Agent.Version, res) {
			fit = append(fit, g)
		}
	}
	if len(online) == 0 {
		return nil, wire.ReasonOffline
	}
	if len(fit) == 0 {
		return nil, wire.ReasonVersionMismatch
	}
	var first *gateway
	for _, known := range connected {
		i := slices.IndexFunc(fit, func(g *gateway) bool { return g.ID == known })
		if i < 0 {
			continue
		}
		if p.live.byClient[c.ID][target{res.ID, known}] != nil {
			return fit[i], ""
		}
		if first == nil {
			first = fit[i]
		}
	}
	if first != nil {
		return first, ""
	}
	return fit[p.seed.IntN(len(fit))], ""
}

// accepted takes a gateway's word and passes it on. A word that comes too
// late, or from another gateway than was asked, counts for nothing.
func (p *Portal) accepted(g *gateway, ref string, now time.Time) {
	i := slices.IndexFunc(p.asked, func(r *request) bool { return r.ref == ref })
	if i < 0 || p.asked[i].gateway != g || due(p.asked[i].due, now) {
		return
	}
	r := p.asked[i]
	p.forgetRequest(r)
	p.push(r.client.conn, r.answer)
}

// expireRequests tells clients whose gateway did not answer that it is
// offline.
func (p *Portal) expireRequests(now time.Time) {
	for len(p.asked) > 0 && due(p.asked[0].due, now) {
		r := p.asked[0]
		p.forgetRequest(r)
		p.push(r.client.conn, wire.AuthorizationFailed{Resource: r.answer.Resource, Reason: wire.ReasonOffline})
	}
}

// forgetRequest stops waiting; r may be nil.
func (p *Portal) forgetRequest(r *request) {
	if r == nil {
		return
	}
	delete(r.client.asked, r.answer.Resource)
	p.asked = slices.DeleteFunc(p.asked, func(other *request) bool { return other == r })
}
