package portal

import (
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// A Client is a client device at one of its connects, as the shell
// authenticated it.
type Client struct {
	ID           id.Client
	Name         string
	Key          wire.Key // WireGuard public key of this connect
	PSKBase      wire.Key
	IPv4, IPv6   netip.Addr // tunnel addresses
	Actor        Actor
	Token        id.Token
	TokenExpires int64 // Unix seconds; 0: never
	At           Circumstances
	Agent        Agent
}

// A Gateway is a gateway device at one of its connects.
type Gateway struct {
	ID           id.Gateway
	Name         string
	Site         id.Site
	Key          wire.Key
	PSKBase      wire.Key
	IPv4, IPv6   netip.Addr
	Token        id.Token
	TokenExpires int64 // Unix seconds; 0: never
	RemoteIP     netip.Addr
	Agent        Agent
}

// A Relay is a relay process at one of its connects.
type Relay struct {
	Name         string
	IPv4, IPv6   netip.Addr // public; one of them may be missing
	Port         uint16
	StampSecret  wire.Secret
	Token        id.Token
	TokenExpires int64 // Unix seconds; 0: never
}

// ID names the process, for as long as it runs (spec portal.md 5.5).
func (r *Relay) ID() id.Relay { return relayID(r.StampSecret.Reveal()) }

// A peer is what clients and gateways have in common.
type peer struct {
	conn        Conn
	end         end
	relayExpiry int64      // of its relay credentials
	given       []id.Relay // the relays it was told and may still use
}

type client struct {
	Client
	peer
	seen  []wire.Resource          // what it was told that it may reach, in order
	asked map[id.Resource]*request // unanswered
}

type gateway struct {
	Gateway
	peer
}

type relay struct {
	Relay
	id   id.Relay
	conn Conn
}

// JoinClient takes a client's join. An older connection of the same device is
// told to sign out and closed: two programs with one identity would throw each
// other out for ever (spec portal.md 4.10).
func (p *Portal) JoinClient(conn Conn, info Client, now time.Time) {
	if p.revoked[info.Token] {
		p.signOut(conn)
		return
	}
	if old := p.clients.of(info.ID); old != nil {
		p.signOut(old.conn)
		p.forgetClient(old)
	}
	c := &client{Client: info, asked: map[id.Resource]*request{}}
	c.peer = peer{conn: conn, end: end{info.ID.String(), info.Key, info.PSKBase}, relayExpiry: orForever(info.TokenExpires)}
	p.clients.put(info.ID, conn, c)
	p.noteExpiry(info.TokenExpires)
	revoked := p.revokeUnfounded(c, now)
	c.seen = p.view(c, now)
	p.push(conn, wire.ClientInit{
		Interface: p.rules.tunnelOf(c), Resources: c.seen, Relays: p.chooseRelays(&c.peer), FlowLogs: p.rules.flowLogs(),
	})
	p.show(c, c.seen, revoked)
}

// JoinGateway takes a gateway's join. The newest connection wins; the older one
// is closed without a word that would make its program exit. Clients that wait
// for the older one's answer will get the new one's.
func (p *Portal) JoinGateway(conn Conn, info Gateway, now time.Time) {
	if p.revoked[info.Token] {
		p.signOut(conn)
		return
	}
	if old := p.gateways.of(info.ID); old != nil {
		p.emit(Close{old.conn})
		p.gateways.remove(old.ID, old.conn)
	}
	g := &gateway{Gateway: info}
	g.peer = peer{conn: conn, end: end{info.ID.String(), info.Key, info.PSKBase}, relayExpiry: forever}
	p.gateways.put(info.ID, conn, g)
	p.noteExpiry(info.TokenExpires)
	p.initGateway(g, p.chooseRelays(&g.peer), now)
	for _, r := range slices.Clone(p.asked) {
		if r.gateway.ID == info.ID {
			p.authorize(r.client, wire.RequestAuthorization{Resource: r.answer.Resource, ConnectedGateways: []id.Gateway{info.ID}}, now)
		}
	}
	p.returned(g.Site, now)
}

// initGateway sends all that g shall know; what is not in it, g revokes.
func (p *Portal) initGateway(g *gateway, relays []wire.Relay, now time.Time) {
	init := wire.GatewayInit{
		IPv4: g.IPv4, IPv6: g.IPv6, Relays: relays, AccountSlug: p.rules.Slug, FlowLogs: p.rules.flowLogs(),
	}
	for _, a := range p.live.ofGateway(g.ID) {
		if a.ExpiresAt > now.Unix() {
			init.Authorizations = append(init.Authorizations, wire.Authorization{Client: a.Client, Resource: a.Resource, ExpiresAt: a.ExpiresAt})
		}
	}
	p.push(g.conn, init)
}

// JoinRelay takes a relay's join. It is offered to peers within a second, and at
// once to those who have none.
func (p *Portal) JoinRelay(conn Conn, info Relay, now time.Time) {
	if p.revoked[info.Token] {
		p.emit(Close{conn})
		return
	}
	r := &relay{Relay: info, id: info.ID(), conn: conn}
	if old := p.relays.of(r.id); old != nil {
		p.emit(Close{old.conn})
		p.relays.remove(old.id, old.conn)
	}
	p.relays.put(r.id, conn, r)
	p.noteExpiry(info.TokenExpires)
	p.push(conn, wire.RelayInit{})
	p.rescue()
	p.relaysChanged(now)
}

// Leave tells that a connection has ended, whoever ended it. Peers that never
// joined may leave as well.
func (p *Portal) Leave(conn Conn, now time.Time) {
	if c := p.clients.at(conn); c != nil {
		p.forgetClient(c)
	}
	if g := p.gateways.at(conn); g != nil {
		p.gateways.remove(g.ID, conn)
		p.abandoned(g, now)
	}
	if r := p.relays.at(conn); r != nil {
		p.relays.remove(r.id, conn)
		p.relaysChanged(now)
	}
}

// Joined returns the peers that are connected, each kind in the order of its
// joins.
func (p *Portal) Joined() (clients []Client, gateways []Gateway, relays []Relay) {
	for _, c := range p.clients.all() {
		clients = append(clients, c.Client)
	}
	for _, g := range p.gateways.all() {
		gateways = append(gateways, g.Gateway)
	}
	for _, r := range p.relays.all() {
		relays = append(relays, r.Relay)
	}
	return clients, gateways, relays
}

// Live returns the number of authorizations that gateways hold.
func (p *Portal) Live() int { return len(p.live.all()) }

func (p *Portal) forgetClient(c *client) {
	p.clients.remove(c.ID, c.conn)
	p.asked = slices.DeleteFunc(p.asked, func(r *request) bool { return r.client == c })
	p.stopWaiting(func(w *patient) bool { return w.client == c })
}

// signOut ends a session for good: the peer forgets its token (spec portal.md
// 2.5).
func (p *Portal) signOut(conn Conn) {
	p.push(conn, wire.Disconnect{Reason: wire.TokenExpired})
	p.emit(Close{conn})
}

// tunnelOf is the interface configuration of c.
func (r *rules) tunnelOf(c *client) wire.Interface {
	i := wire.Interface{IPv4: c.IPv4, IPv6: c.IPv6, SearchDomain: r.SearchDomain, UpstreamDo53: r.Do53}
	for _, server := range r.Do53 {
		i.UpstreamDNS = append(i.UpstreamDNS, netip.AddrPortFrom(server, 53))
	}
	if len(r.Do53) == 0 {
		i.UpstreamDoH = r.DoH
	}
	return i
}

// flowLogs switches uploads off, which newer peers must be told (spec
// portal.md 3.1.8).
func (r *rules) flowLogs() *wire.FlowLogs { return &wire.FlowLogs{APIURL: r.APIURL} }

func orForever(unix int64) int64 {
	if unix == 0 {
		return forever
	}
	return unix
}
