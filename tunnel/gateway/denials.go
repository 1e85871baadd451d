package gateway

import (
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/policy"
)

const (
	// repeatAfter is how long further packets that are denied like one that was
	// told of are only counted, before that is told.
	repeatAfter = time.Minute
	// maxDenied bounds the kinds of denials that are told apart, per client.
	maxDenied = 64
)

// Directions of a denied packet.
const (
	outwards = false // from the client
	inwards  = true
)

// A denialKey is what equal denials have in common. Without a protocol it
// stands for all kinds that have no room of their own.
type denialKey struct {
	reason  counter
	inbound bool
	proto   packet.Proto
	port    uint16     // the resource's
	addr    netip.Addr // of the resource's end
}

// denials are the kinds of a client's denials in the last minute.
type denials struct {
	by    map[denialKey]*denial
	order []*denial // by the time when they are told next
}

// A denial is one of them, with the packets that were not told of yet.
type denial struct {
	key   denialKey
	flow  core.Flow
	until time.Time // then it is told
}

// deny tells of a packet that was dropped: at once if it is the first of its
// kind, later, as a number, if it is not. r is the resource that might have
// permitted it, if there is one.
func (c *Core) deny(k *client, r id.Resource, p packet.Packet, inbound bool, reason counter, now time.Time) {
	if !c.flows.on {
		return
	}
	key := denialKey{reason, inbound, p.Proto(), p.DstPort(), p.Dst()}
	if inbound {
		key.port, key.addr = p.SrcPort(), p.Src()
	}
	d := k.denied.by[key]
	if d == nil && len(k.denied.by) >= maxDenied {
		key = denialKey{reason: reason, inbound: inbound}
		d = k.denied.by[key]
	}
	first := d == nil
	if first {
		d = k.denied.watch(key, now)
		c.remind(d.until)
	}
	d.add(k, r, p, now)
	if first {
		c.tellFlow(d.flow)
		d.flow = core.Flow{}
	}
}

func (l *denials) watch(key denialKey, now time.Time) *denial {
	if l.by == nil {
		l.by = make(map[denialKey]*denial)
	}
	d := &denial{key: key, until: now.Add(repeatAfter)}
	l.by[key] = d
	l.order = append(l.order, d)
	return d
}

// add counts a packet. The first since it was told is the one described.
func (d *denial) add(k *client, r id.Resource, p packet.Packet, now time.Time) {
	f := &d.flow
	if f.Started.IsZero() {
		*f = core.Flow{
			Kind:       core.FlowDenied,
			Reason:     d.key.reason.String(),
			Inbound:    d.key.inbound,
			Client:     k.id,
			ClientAddr: k.addrLike(p.Version() == 4),
			Proto:      d.key.proto,
			Port:       d.key.port,
			Started:    now,
		}
		switch {
		case d.key.proto == 0:
		case d.key.inbound:
			f.Real, f.Outside = d.key.addr, p.DstPort()
		default:
			f.Proxy, f.ClientAddr, f.ClientPort, f.Grant = d.key.addr, p.Src(), p.SrcPort(), k.grantFor(r)
			if !policy.IsProxy(f.Proxy) {
				f.Real = f.Proxy
			}
		}
	}
	f.At = now
	if d.key.inbound {
		f.PacketsIn++
		f.BytesIn += uint64(len(p.Bytes()))
		return
	}
	f.PacketsOut++
	f.BytesOut += uint64(len(p.Bytes()))
}

// repeat tells of the kinds of denials whose minute is over. Those that were
// silent for it are forgotten.
func (c *Core) repeat(k *client, now time.Time) {
	l := &k.denied
	for len(l.order) > 0 && due(l.order[0].until, now) {
		d := l.order[0]
		l.order[0], l.order = nil, l.order[1:]
		if d.flow.Started.IsZero() {
			delete(l.by, d.key)
			continue
		}
		c.tellFlow(d.flow)
		d.flow, d.until = core.Flow{}, now.Add(repeatAfter)
		l.order = append(l.order, d)
	}
	if len(l.order) > 0 {
		c.remind(l.order[0].until)
	}
}

// repeatAll tells all that was not told of a client's denials.
func (c *Core) repeatAll(k *client) {
	for _, d := range k.denied.order {
		if !d.flow.Started.IsZero() {
			c.tellFlow(d.flow)
		}
	}
	k.denied = denials{}
}
