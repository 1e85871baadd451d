package gateway

import (
	"cmp"
	"net/netip"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/wire"
)

// Bounds of what is told about flows.
const (
	maxFlows  = 1 << 16 // between two Drains; of more, the latest are lost
	keepFlows = 1024    // for so many room is kept
)

// flows is what the core needs to tell of sessions and denials. Nothing is
// collected unless it is on.
type flows struct {
	on      bool
	touched []*client   // whose sessions may have begun or ended since collect
	events  []nat.Event // scratch of collect
	lost    uint64
}

// touch notes that k's sessions may begin or end by what comes next.
func (c *Core) touch(k *client) {
	if c.flows.on && !k.touched {
		k.touched = true
		c.flows.touched = append(c.flows.touched, k)
	}
}

// collect turns what happened to sessions into flows.
func (c *Core) collect() {
	for i, k := range c.flows.touched {
		c.flows.touched[i], k.touched = nil, false
		c.flows.events = k.nat.Events(c.flows.events[:0])
		for i := range c.flows.events {
			c.tellFlow(k.event(&c.flows.events[i]))
		}
		clear(c.flows.events)
	}
	c.flows.touched = c.flows.touched[:0]
}

// farewell ends all sessions of a client that is about to be forgotten.
func (c *Core) farewell(k *client) {
	if !c.flows.on {
		return
	}
	c.repeatAll(k)
	k.nat.Clear(c.now)
	c.touch(k)
	c.collect() // nobody asks for its events later
	c.flows.lost += k.nat.LostEvents()
}

func (c *Core) tellFlow(f core.Flow) {
	if len(c.out.Flows) >= maxFlows {
		c.flows.lost++
		return
	}
	c.out.Flows = append(c.out.Flows, f)
}

// trim gives memory back after many sessions ended at once.
func (f *flows) trim(o *core.Output) {
	if cap(o.Flows) > keepFlows {
		o.Flows = nil
	}
	if cap(f.events) > keepFlows {
		f.events = nil
	}
}

// lostFlows counts what was decided and never told.
func (c *Core) lostFlows() uint64 {
	lost := c.flows.lost
	for _, k := range c.clients {
		lost += k.nat.LostEvents()
	}
	return lost
}

// event tells of a session's start or end.
func (k *client) event(e *nat.Event) core.Flow {
	s := &e.Flow
	f := core.Flow{
		Kind:       core.FlowStarted,
		At:         s.Started,
		Client:     k.id,
		ClientAddr: k.addrLike(s.Proxy.Is4()),
		Grant:      k.grantFor(s.Resource),
		Proto:      s.Proto,
		ClientPort: s.Client,
		Proxy:      s.Proxy,
		Real:       s.Real,
		Port:       s.Port,
		Outside:    s.Outside,
		Name:       s.Name,
		Started:    s.Started,
		PacketsOut: s.PacketsOut,
		PacketsIn:  s.PacketsIn,
		BytesOut:   s.BytesOut,
		BytesIn:    s.BytesIn,
	}
	if e.Kind == nat.Ended {
		f.Kind, f.At, f.Reason = core.FlowEnded, e.At, e.Reason.String()
	}
	return f
}

// grantFor returns what is known of a resource, nil if it is none.
func (k *client) grantFor(r id.Resource) *core.Grant {
	if r.IsZero() {
		return nil
	}
	if g := k.known[r]; g != nil {
		return g
	}
	return &core.Grant{Resource: r} // of a session that was restored
}

// addrLike is the tunnel address of a family.
func (k *client) addrLike(is4 bool) netip.Addr {
	if is4 {
		return k.addr4
	}
	return k.addr6
}

// grantOf keeps what an authorization says of whom it is for.
func grantOf(m wire.CreateAuthorization) *core.Grant {
	in := wire.ReadIngestToken(m.IngestToken)
	return &core.Grant{
		Resource:     m.Resource.ID,
		ResourceName: m.Resource.Name,
		Actor:        in.Actor,
		ActorName:    cmp.Or(in.ActorEmail, in.ActorName),
		Policy:       in.Policy,
	}
}
