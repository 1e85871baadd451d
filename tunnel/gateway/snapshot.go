package gateway

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/nat"
	"stile/tunnel/policy"
)

// A gateway that ends in order writes its sessions down, and the next one takes
// them up (option O3): what is open goes on, whatever DNS says by then. Nothing
// passes before the portal authorizes the client again, for the same tunnel
// addresses.

const (
	// RestoreFor is how long sessions wait: between two gateways for the next
	// one, and in that for their clients.
	RestoreFor = 120 * time.Second

	snapshotMagic   = "stile gateway 1\n"
	maxSnapshotSize = 1 << 30
)

// ErrSnapshot means that a snapshot cannot be read: begin without it.
var ErrSnapshot = errors.New("not a snapshot of a gateway")

// AppendSnapshot appends to dst what the next gateway's Restore needs:
//
//	"stile gateway 1\n", Unix milliseconds of the wall clock i64,
//	then for each client: id [16], IPv4 [4], IPv6 [16], length u32, nat.AppendSnapshot
func (c *Core) AppendSnapshot(dst []byte, now time.Time) []byte {
	dst = append(dst, snapshotMagic...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.wall.Add(now.Sub(c.born)).UnixMilli()))
	for _, k := range c.sortedClients() {
		if k.nat.Len() == 0 || !k.addr4.Is4() || !k.addr6.Is6() {
			continue
		}
		a4, a6 := k.addr4.As4(), k.addr6.As16()
		dst = append(append(append(dst, k.id[:]...), a4[:]...), a6[:]...)
		at := len(dst)
		dst = k.nat.AppendSnapshot(append(dst, 0, 0, 0, 0), now)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst
}

// Sessions returns how many connections there are to write down.
func (c *Core) Sessions() (n int) {
	for _, k := range c.clients {
		n += k.nat.Len()
	}
	return n
}

// Restore takes up what a gateway before this one wrote down, and returns how
// many clients and sessions that are. It is for a new Core. What cannot be read
// is left out, and clients with sessions that may not be; the error, if any, is
// ErrSnapshot.
func (c *Core) Restore(b []byte, now time.Time) (clients, sessions int, err error) {
	head := len(snapshotMagic)
	if len(b) < head+8 || len(b) > maxSnapshotSize || string(b[:head]) != snapshotMagic || len(c.clients) > 0 {
		return 0, 0, ErrSnapshot
	}
	written := time.UnixMilli(int64(binary.BigEndian.Uint64(b[head:])))
	gap := c.wall.Add(now.Sub(c.born)).Sub(written)
	if gap > RestoreFor {
		return 0, 0, nil // too long ago: nobody waits for it any more
	}
	gap = max(gap, 0) // a wall clock that was set back
	for b = b[head+8:]; len(b) > 0; {
		if len(b) < 16+4+16+4 {
			return clients, sessions, ErrSnapshot
		}
		who, a4, a6 := id.Client(b[:16]), netip.AddrFrom4([4]byte(b[16:20])), netip.AddrFrom16([16]byte(b[20:36]))
		n := binary.BigEndian.Uint32(b[36:])
		if b = b[40:]; int64(n) > int64(len(b)) {
			return clients, sessions, ErrSnapshot
		}
		if e := c.restoreClient(who, a4, a6, b[:n], gap, now); e != nil {
			err = e
		} else {
			clients, sessions = clients+1, sessions+c.clients[who].nat.Len()
		}
		b = b[n:]
	}
	return clients, sessions, err
}

// restoreClient parks a client with its sessions.
func (c *Core) restoreClient(who id.Client, a4, a6 netip.Addr, b []byte, gap time.Duration, now time.Time) error {
	if c.clients[who] != nil || c.byAddr[a4] != nil || c.byAddr[a6] != nil || !policy.IsPeer(a4) || !policy.IsPeer(a6) {
		return ErrSnapshot
	}
	k := c.newClient(who, a4, a6, now)
	if err := k.nat.Restore(b, gap, now); err != nil {
		return ErrSnapshot
	}
	c.enroll(k)
	k.parked = now.Add(RestoreFor - parkFor) // so that it is over in time
	c.remind(now.Add(RestoreFor))
	return nil
}

// newClient makes a client that nobody knows yet.
func (c *Core) newClient(who id.Client, addr4, addr6 netip.Addr, now time.Time) *client {
	k := &client{
		id:     who,
		peer:   id.PeerOf(who),
		addr4:  addr4,
		addr6:  addr6,
		grants: make(map[id.Resource]*grant),
		known:  make(map[id.Resource]*core.Grant),
		nat:    nat.New(nat.Config{Rand: c.rng, Flows: c.flows.on, Spread: c.spread(who), Usable: c.usable, Answered: c.answers.add, Memory: c.c.Memory}, now),
	}
	k.nat.SetHost(c.own4, c.own6)
	return k
}

// spread is a number that is a client's own, and the same whenever it comes; 0
// if clients shall not spread.
func (c *Core) spread(who id.Client) uint64 {
	if !c.c.Spread {
		return 0
	}
	return binary.BigEndian.Uint64(who[:8]) ^ binary.BigEndian.Uint64(who[8:]) | 1<<63
}

// enroll makes a client known by its ID and its addresses.
func (c *Core) enroll(k *client) {
	c.clients[k.id] = k
	c.byAddr[k.addr4], c.byAddr[k.addr6] = k, k
	c.remindSweep()
}
