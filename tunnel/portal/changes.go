package portal

import (
	"reflect"
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// Reconfigure replaces the account and tells the peers what that means for
// them (spec portal.md 4.7). On error nothing changes.
func (p *Portal) Reconfigure(account Account, now time.Time) error {
	rules, err := account.compile(p.zones)
	if err != nil {
		return err
	}
	old := p.rules
	p.rules = rules

	revoked := map[id.Client]set{}
	for _, a := range p.live.all() {
		if !rules.bears(a) {
			p.reject(a, now)
			revoked[a.Client] = revoked[a.Client].with(a.Resource)
		}
	}
	for _, g := range p.gateways.all() {
		p.reconfigureGateway(g, old, now)
	}
	for _, c := range p.clients.all() {
		if i := rules.tunnelOf(c); !reflect.DeepEqual(i, old.tunnelOf(c)) {
			p.push(c.conn, wire.ConfigChanged{Interface: i})
		}
		p.refresh(c, revoked[c.ID], now)
	}
	return nil
}

func (p *Portal) reconfigureGateway(g *gateway, old *rules, now time.Time) {
	if _, ok := p.rules.sites[g.Site]; !ok {
		p.emit(Close{g.conn})
		p.gateways.remove(g.ID, g.conn)
		return
	}
	if p.rules.Slug != old.Slug {
		p.initGateway(g, p.chooseRelays(&g.peer), now)
	}
	var told set
	for _, a := range p.live.ofGateway(g.ID) {
		was, is := old.resources[a.Resource], p.rules.resources[a.Resource]
		if was != nil && !told[a.Resource] && !slices.Equal(was.Filters, is.Filters) {
			told = told.with(a.Resource)
			p.push(g.conn, wire.GatewayResourceUpdated{GatewayResource: gatewayView(is)})
		}
	}
}

// Revoke makes a token worthless: whoever connected with it is signed out, and
// what was authorized on the strength of it ends (spec portal.md 4.11). A
// relay's connection is closed only; it is refused when it comes again.
func (p *Portal) Revoke(token id.Token, now time.Time) {
	p.revoked[token] = true
	for _, a := range p.live.all() {
		if a.Token == token {
			p.reject(a, now)
		}
	}
	for _, c := range p.clients.all() {
		if c.Token == token {
			p.signOut(c.conn)
			p.forgetClient(c)
		}
	}
	for _, g := range p.gateways.all() {
		if g.Token == token {
			p.signOut(g.conn)
			p.gateways.remove(g.ID, g.conn)
		}
	}
	for _, r := range p.relays.all() {
		if r.Token == token {
			p.emit(Close{r.conn})
			p.relays.remove(r.id, r.conn)
			p.relaysChanged(now)
		}
	}
}

// A set of resources; the nil set is empty.
type set map[id.Resource]bool

func (s set) with(r id.Resource) set {
	if s == nil {
		s = set{}
	}
	s[r] = true
	return s
}

// bears reports whether what a was based on is still so. Conditions are not
// looked at: they depend on where the client is.
func (r *rules) bears(a *Authorization) bool {
	p := r.policies[a.Policy]
	return p != nil && !p.Disabled && p.basis == a.Basis && p.group.has(a.Actor)
}

// reject ends an authorization.
func (p *Portal) reject(a *Authorization, now time.Time) {
	p.live.remove(a)
	p.emit(Drop{a.ID})
	if g := p.gateways.of(a.Gateway); g != nil && a.ExpiresAt > now.Unix() {
		p.push(g.conn, wire.RejectAccess{Client: a.Client, Resource: a.Resource})
	}
	if c := p.clients.of(a.Client); c != nil {
		p.forgetRequest(c.asked[a.Resource])
	}
}

// revokeUnfounded ends the authorizations of c that its actor, its network or
// its device's state no longer justify, and returns what they were for.
func (p *Portal) revokeUnfounded(c *client, now time.Time) set {
	var revoked set
	for _, a := range p.live.ofClient(c.ID) {
		a.Actor = c.Actor
		if p.rules.bears(a) {
			if g, _ := p.rules.policies[a.Policy].conforms(c.At, now); g.policy != nil {
				continue
			}
		}
		p.reject(a, now)
		revoked = revoked.with(a.Resource)
	}
	return revoked
}

// refresh brings what c may reach up to date; revoked are resources whose
// authorization has just ended.
func (p *Portal) refresh(c *client, revoked set, now time.Time) {
	for r := range p.revokeUnfounded(c, now) {
		revoked = revoked.with(r)
	}
	p.show(c, p.view(c, now), revoked)
}

// view is what c may reach now, as far as its release can handle it.
func (p *Portal) view(c *client, now time.Time) []wire.Resource {
	var list []wire.Resource
	for _, res := range p.rules.visible(c.Actor, c.At, now) {
		if supports(c.Agent.Version, res) {
			list = append(list, p.rules.clientView(res))
		}
	}
	return list
}

// show tells c the difference between what it knows and next. A resource whose
// authorization was revoked is deleted and made anew unless the client will
// see by itself that it is another, or the client would go on sending to a
// gateway that refuses (spec portal.md 4.7).
func (p *Portal) show(c *client, next []wire.Resource, revoked set) {
	had := map[id.Resource]*wire.Resource{}
	for i := range c.seen {
		had[c.seen[i].ID] = &c.seen[i]
	}
	var gone, upserts []wire.Message
	for i := range next {
		is := &next[i]
		was := had[is.ID]
		delete(had, is.ID)
		anew := was != nil && (revoked[is.ID] && !c.tearsDown(was, is) || !sameSites(was, is) && !movesSites.has(c.Agent))
		if anew {
			gone = append(gone, wire.ResourceDeleted{ID: is.ID})
		}
		if was == nil || anew || !reflect.DeepEqual(was, is) {
			upserts = append(upserts, wire.ResourceUpserted{Resource: *is})
		}
	}
	for _, was := range c.seen {
		if had[was.ID] != nil {
			gone = append(gone, wire.ResourceDeleted{ID: was.ID})
			p.forgetRequest(c.asked[was.ID])
		}
	}
	c.seen = next
	for _, m := range append(gone, upserts...) {
		p.push(c.conn, m)
	}
}

// tearsDown reports whether c takes an update from was to is for another
// resource and so forgets its authorization, whatever release it is.
func (c *client) tearsDown(was, is *wire.Resource) bool {
	return was.Type != is.Type || was.Address != is.Address || !sameSites(was, is) && movesSites.has(c.Agent)
}

// sameSites reports whether two views differ at most in a site's name.
func sameSites(a, b *wire.Resource) bool {
	return slices.EqualFunc(a.Sites, b.Sites, func(a, b wire.Site) bool { return a.ID == b.ID })
}

// noteExpiry remembers when the next token expires; 0: never.
func (p *Portal) noteExpiry(unix int64) {
	at := time.Unix(unix, 0)
	if unix != 0 && (p.expiry.IsZero() || at.Before(p.expiry)) {
		p.expiry = at
	}
}

// expireTokens signs out the peers whose token has expired; a relay is refused
// when it comes again.
func (p *Portal) expireTokens(now time.Time) {
	p.expiry = time.Time{}
	expired := func(at int64) bool {
		if at != 0 && at <= now.Unix() {
			return true
		}
		p.noteExpiry(at)
		return false
	}
	for _, c := range p.clients.all() {
		if expired(c.TokenExpires) {
			p.signOut(c.conn)
			p.forgetClient(c)
		}
	}
	for _, g := range p.gateways.all() {
		if expired(g.TokenExpires) {
			p.signOut(g.conn)
			p.gateways.remove(g.ID, g.conn)
		}
	}
	for _, r := range p.relays.all() {
		if expired(r.TokenExpires) {
			p.emit(Close{r.conn})
			p.relays.remove(r.id, r.conn)
			p.relaysChanged(now)
		}
	}
}

// expireAuthorizations forgets what gateways have ended by themselves.
func (p *Portal) expireAuthorizations(now time.Time) {
	for _, a := range p.live.all() {
		if a.ExpiresAt <= now.Unix() {
			p.live.remove(a)
			p.emit(Drop{a.ID})
		}
	}
}
