package sim

import (
	"math/rand/v2"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
	"stile/tunnel/turn"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// A Role is a whole client or gateway on a host: a core.Role with the engine's
// work done at once and on virtual time, sealing included.
type Role struct {
	Core core.Role
	Host *Host
	// TUN takes each packet for the TUN device, and owns it.
	TUN func(p []byte)
	// Act takes what the role wants done that is no packet.
	Act func(a core.Action)

	internet *Internet
	sent     []core.Datagram
	out      core.Output
}

// Role makes a role at a site. make is given its private key, and chance that
// repeats itself with the world's seed.
func (i *Internet) Role(s *Site, make func(private wire.Key, chance *rand.ChaCha8) core.Role) *Role {
	var seed [32]byte
	for n := range seed {
		seed[n] = byte(i.Chance.Uint32())
	}
	r := &Role{internet: i, TUN: func([]byte) {}, Act: func(core.Action) {}}
	chance := rand.NewChaCha8(seed)
	r.Core = make(newKey(chance), chance)
	r.Host = s.Add(r, Port)
	return r
}

func newKey(chance *rand.ChaCha8) (k wire.Key) {
	_, _ = chance.Read(k[:]) // never fails
	return k
}

// Do feeds the role an input and does what it asks for.
func (r *Role) Do(input func(c core.Role, now time.Time)) {
	input(r.Core, r.internet.now)
	r.drain()
}

// Send is a packet from an application. It becomes the role's.
func (r *Role) Send(raw []byte) error {
	p, err := packet.ParseFragment(raw)
	if err != nil {
		return err
	}
	r.Do(func(c core.Role, now time.Time) {
		if route := c.Outbound(p, now); route.Keys != nil {
			r.seal(route, p.Bytes())
		}
	})
	return nil
}

// Receive implements Machine.
func (r *Role) Receive(d core.Datagram, now time.Time) {
	sealed := r.Core.Datagram(d, now)
	r.drain()
	if sealed.Keys == nil {
		return
	}
	if plain, counter, ok := sealed.Keys.Open(sealed.Message); ok {
		if p := r.Core.Inbound(sealed.Keys, counter, plain, now); len(p) > 0 {
			r.TUN(p)
		}
		r.drain()
	}
}

// Advance implements Machine.
func (r *Role) Advance(now time.Time) {
	r.Core.Advance(now)
	r.drain()
}

// Next implements Machine.
func (r *Role) Next() time.Time { return r.Core.Next() }

// Collect implements Machine.
func (r *Role) Collect() []core.Datagram {
	r.drain()
	sent := r.sent
	r.sent = nil
	return sent
}

func (r *Role) drain() {
	for {
		r.out.Reset()
		r.Core.Drain(&r.out)
		if r.out.Empty() {
			return
		}
		out := r.out
		r.out = core.Output{} // what follows may come back here
		r.sent = append(r.sent, out.Datagrams...)
		for _, h := range out.Held {
			r.seal(h.Route, h.Packet)
		}
		for _, p := range out.Packets {
			r.TUN(p)
		}
		for _, a := range out.Actions {
			r.Act(a)
		}
	}
}

// seal queues a packet as the engine does: sealed, with a ChannelData header
// if its way leads over a relay.
func (r *Role) seal(route core.Route, plain []byte) {
	buf := make([]byte, wg.HeaderLen+len(plain)+wg.TagLen)
	copy(buf[wg.HeaderLen:], plain)
	msg := route.Keys.Seal(buf, len(plain))
	if route.Way.Channel != 0 {
		msg = turn.AppendChannelData(nil, route.Way.Channel, msg)
	}
	r.sent = append(r.sent, core.Datagram{Local: route.Way.Local, Remote: route.Way.Remote, Payload: msg})
}
