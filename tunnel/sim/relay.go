package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/relay"
	"stile/tunnel/wire"
)

// Relay is a relay server and the host it runs on.
type Relay struct {
	Host   *Host
	secret string
	server *relay.Server
	out    []core.Datagram
}

// Relay adds a relay with public addresses.
func (i *Internet) Relay(f Families, l Link) *Relay {
	r := &Relay{}
	r.Host = i.Site(Public, f, l).Add(r, 0)
	r.Restart(i)
	return r
}

// Restart forgets all allocations and credentials, as a relay does that was
// started anew: it has another ID.
func (r *Relay) Restart(i *Internet) {
	r.secret = fmt.Sprintf("%064x", i.Chance.Uint64())
	var seed [32]byte
	seed[0] = byte(i.Chance.Uint32())
	r.server = relay.New(relay.Config{
		StampSecret: r.secret,
		PublicV4:    r.Host.V4,
		PublicV6:    r.Host.V6,
		Rand:        rand.NewChaCha8(seed),
	}, i.now)
	r.out = nil
}

// ID returns the relay's ID.
func (r *Relay) ID() id.Relay { return r.server.ID() }

// Describe returns what the portal tells a device about the relay, valid for
// credentials until a time.
func (r *Relay) Describe(device string, until time.Time) []wire.Relay {
	username, password := relay.Credentials(r.secret, until.Unix(), device)
	var list []wire.Relay
	for _, a := range []netip.Addr{r.Host.V4, r.Host.V6} {
		if a.IsValid() {
			list = append(list, wire.Relay{
				ID: r.ID(), Addr: netip.AddrPortFrom(a, relay.DefaultPort),
				Username: username, Password: password, ExpiresAt: until.Unix(),
			})
		}
	}
	return list
}

// Stats returns the server's counters.
func (r *Relay) Stats() relay.Stats { return r.server.Stats() }

// Receive implements Machine.
func (r *Relay) Receive(d core.Datagram, now time.Time) {
	if f, ok := r.server.Datagram(relay.Datagram(d), now); ok {
		r.out = append(r.out, core.Datagram{Local: r.from(f.Local, f.Remote), Remote: f.Remote, Payload: f.Append(nil)})
	}
	r.drain(now)
}

func (r *Relay) drain(now time.Time) {
	for r.server.Pending() {
		var o relay.Output
		r.server.Drain(&o)
		for _, d := range o.Datagrams {
			r.out = append(r.out, core.Datagram{Local: r.from(d.Local, d.Remote), Remote: d.Remote, Payload: d.Payload})
		}
		for _, p := range o.Open {
			r.server.Opened(p.Number, true, now)
		}
	}
}

// from is the host's address of the family of to, with the port that the
// server sends from.
func (r *Relay) from(local, to netip.AddrPort) netip.AddrPort {
	a := r.Host.V6
	if to.Addr().Is4() {
		a = r.Host.V4
	}
	return netip.AddrPortFrom(a, local.Port())
}

// Advance implements Machine.
func (r *Relay) Advance(now time.Time) {
	r.server.Advance(now)
	r.drain(now)
}

// Next implements Machine.
func (r *Relay) Next() time.Time { return r.server.Next() }

// Collect implements Machine.
func (r *Relay) Collect() []core.Datagram {
	out := r.out
	r.out = nil
	return out
}
