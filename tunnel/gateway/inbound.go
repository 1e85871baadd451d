package gateway

import (
	"errors"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// dnsPort is where the gateway's own tunnel address may be asked for SRV and
// TXT records (1.1).
const dnsPort = 53535

// Inbound decides about a decrypted message of a client, in the order of 1.2.
// What comes back goes to the TUN: it is plain, translated in place.
func (c *Core) Inbound(keys *wg.Keys, counter uint64, plain []byte, now time.Time) []byte {
	c.now = now
	peer, ok := c.paths.Received(keys, counter, len(plain), now)
	if !ok {
		c.count(dropReplay)
		return nil
	}
	if len(plain) == 0 { // a keepalive
		return nil
	}
	p, err := packet.ParseFragment(packet.Trim(plain))
	if err != nil {
		c.count(malformed(err))
		return nil
	}
	k := c.clients[id.ClientOf(peer)]
	if k == nil {
		c.count(dropNoPeer)
		return nil
	}
	c.touch(k)
	if event, payload, ok := p.Control(); ok {
		c.control(k, event, payload, now)
		return nil
	}
	if p.IsFragment() {
		return c.inboundFragment(k, p, now)
	}
	if r, reason := c.forward(k, p, now); reason != passed {
		c.refuse(k, r, p, reason, now)
		return nil
	}
	return p.Bytes()
}

// refuse drops a client's packet and tells whom it concerns. r is the resource
// that might have permitted it, if there is one.
func (c *Core) refuse(k *client, r id.Resource, p packet.Packet, reason counter, now time.Time) {
	c.count(reason)
	c.deny(k, r, p, outwards, reason, now)
	c.answer(k, p, reason, now)
}

// forward passes a client's packet on, or says why not. The resource is the one
// that decided, if one did.
func (c *Core) forward(k *client, p packet.Packet, now time.Time) (r id.Resource, reason counter) {
	dst := p.Dst()
	switch {
	case dst.IsMulticast():
		return r, dropMulticast
	case !k.is(p.Src()):
		return r, dropSpoofed
	case p.IsICMPError():
		return r, c.forwardError(k, p, now)
	case dst == c.own4, dst == c.own6:
		if !k.authorized(now) {
			return r, dropExpired
		}
		if !c.serves(p) && !k.nat.Has(p, now) {
			return r, dropHost
		}
	default:
		if r, reason = k.judge(dst, p.Proto(), p.DstPort(), now); reason != passed {
			return r, reason
		}
	}
	if verdict := k.nat.OutFor(r, p, now); verdict != nat.Forward {
		return r, fromNAT[verdict]
	}
	return r, passed
}

// forwardError passes on a client's ICMP error about a packet of one of its
// sessions, as long as that is authorized; filters do not apply (N36).
func (c *Core) forwardError(k *client, p packet.Packet, now time.Time) counter {
	s := k.nat.MatchErrorOut(p, now)
	if s == nil {
		return dropErrorOut
	}
	if !c.mayTalk(k, s, now) {
		return dropExpired
	}
	k.nat.OutError(s, p)
	return passed
}

// serves reports whether a packet is for a service of the gateway host that
// clients may use: its resolver, echo, and what the administrator says (N45).
func (c *Core) serves(p packet.Packet) bool {
	if proto := p.Proto(); proto == packet.TCP || proto == packet.UDP {
		port := p.DstPort()
		return port == dnsPort || len(c.c.HostPorts) > 0 && c.c.HostPorts.Permits(proto, port)
	}
	_, request, ok := p.Echo()
	return ok && request
}

// control takes an in-tunnel control packet (spec connectivity.md 5.2). What
// cannot be read is not answered.
func (c *Core) control(k *client, event byte, payload []byte, now time.Time) {
	switch event {
	case wire.EventAssignedIPs:
		// Before it is read: reading costs more than all else.
		if !k.announced.take(announceRate, now) {
			c.count(announcementsDropped) // the client repeats it
			return
		}
		a, err := wire.ParseAssignedIPs(payload)
		if err != nil {
			c.count(controlMalformed)
			return
		}
		c.assigned(k, a, now)
	case wire.EventGoodbye:
		c.count(goodbyes)
		c.park(k, false, now)
	default:
		c.count(controlUnknown)
	}
}

// malformed counts what Parse refuses.
func malformed(err error) counter {
	if errors.Is(err, packet.ErrFragment) {
		return dropFragment
	}
	return dropMalformed
}
