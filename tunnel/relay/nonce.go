package relay

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"

	"stile/tunnel/id"
)

const (
	// nonceUses is how many authenticated requests one nonce is good for.
	nonceUses = 10_000
	// nonceMemory is for how long the uses of a silent client are remembered.
	nonceMemory = time.Hour
	// maxNonces bounds that memory. Beyond it uses are not counted.
	maxNonces = 1 << 17
)

var (
	errNotUUID = errors.New("nonce is not a UUID")
	errStale   = errors.New("nonce is unknown or used up")
)

// nonces gives each client socket its nonce: a UUID computed from the socket's
// address under a secret key, so that requests from forged addresses cost no
// memory. Only clients that authenticated are remembered, to count.
type nonces struct {
	key  [32]byte
	used map[netip.AddrPort]*uses
}

type uses struct {
	generation uint32 // how many nonces were used up
	count      int    // of this one
	last       time.Time
}

func newNonces(rng io.Reader) nonces {
	n := nonces{used: map[netip.AddrPort]*uses{}}
	if _, err := io.ReadFull(rng, n.key[:]); err != nil {
		panic("relay: no randomness: " + err.Error())
	}
	return n
}

// current returns the nonce that client has to use.
func (n *nonces) current(client netip.AddrPort) string {
	var generation uint32
	if u := n.used[client]; u != nil {
		generation = u.generation
	}
	var text [32 + 16 + 2 + 4]byte
	copy(text[:], n.key[:])
	addr := client.Addr().As16()
	copy(text[32:], addr[:])
	binary.BigEndian.PutUint16(text[48:], client.Port())
	binary.BigEndian.PutUint32(text[50:], generation)
	sum := sha256.Sum256(text[:])
	return id.New[struct{}]([16]byte(sum[:])).String()
}

// check says whether client may use nonce.
func (n *nonces) check(client netip.AddrPort, nonce string) error {
	if _, err := id.Parse[struct{}](nonce); err != nil {
		return errNotUUID
	}
	if nonce != n.current(client) {
		return errStale
	}
	return nil
}

// use counts one authenticated request of client.
func (n *nonces) use(client netip.AddrPort, now time.Time) {
	u := n.used[client]
	if u == nil {
		if len(n.used) >= maxNonces {
			return
		}
		u = &uses{}
		n.used[client] = u
	}
	u.last = now
	if u.count++; u.count >= nonceUses {
		u.generation, u.count = u.generation+1, 0
	}
}

// clear forgets clients that have been silent for long.
func (n *nonces) clear(now time.Time) {
	for client, u := range n.used {
		if now.Sub(u.last) >= nonceMemory {
			delete(n.used, client)
		}
	}
}
