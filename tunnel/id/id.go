// Package id gives each kind of identifier its own type, so that the compiler
// refuses a gateway where a resource is meant.
//
// All of them are UUIDs: 16 bytes, written as 36 lower-case hexadecimal
// characters with hyphens (spec portal.md 0.3).
package id

import (
	"encoding/hex"
	"fmt"
)

// An ID is a UUID of one kind. The zero value means "none". IDs are
// comparable and may be map keys.
type ID[K any] [16]byte

type (
	account  struct{}
	actor    struct{}
	client   struct{}
	gateway  struct{}
	group    struct{}
	peer     struct{}
	policy   struct{}
	relay    struct{}
	resource struct{}
	site     struct{}
	token    struct{}
)

type (
	Account  = ID[account]  // a tenant of the portal
	Actor    = ID[actor]    // a user or service account
	Client   = ID[client]   // a device that asks for access
	Gateway  = ID[gateway]  // a device that gives access to a site
	Group    = ID[group]    // a set of actors
	Peer     = ID[peer]     // the other end of a connection, client or gateway
	Policy   = ID[policy]   // a group's permission on a resource
	Relay    = ID[relay]    // a STUN/TURN server
	Resource = ID[resource] // something private that can be reached
	Site     = ID[site]     // a set of gateways
	Token    = ID[token]    // a stored credential, not its secret
)

// PeerOf names a client or a gateway as the other end of a connection.
func PeerOf[K client | gateway](i ID[K]) Peer { return Peer(i) }

// ClientOf is the reverse of PeerOf on a gateway.
func ClientOf(p Peer) Client { return Client(p) }

// GatewayOf is the reverse of PeerOf on a client.
func GatewayOf(p Peer) Gateway { return Gateway(p) }

// New makes a random (version 4) UUID from 16 bytes of randomness, which the
// caller takes from crypto/rand: pure packages have no source of chance.
func New[K any](random [16]byte) ID[K] {
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	return ID[K](random)
}

// Parse reads the hyphenated form in either case; nothing else is accepted.
func Parse[K any](s string) (ID[K], error) {
	var i ID[K]
	err := i.UnmarshalText([]byte(s))
	return i, err
}

// IsZero reports whether i is "none".
func (i ID[K]) IsZero() bool { return i == ID[K]{} }

// String returns the 36-character lower-case form.
func (i ID[K]) String() string {
	b, _ := i.AppendText(make([]byte, 0, 36))
	return string(b)
}

// AppendText appends the 36-character lower-case form; it never fails.
func (i ID[K]) AppendText(b []byte) ([]byte, error) {
	b = hex.AppendEncode(b, i[0:4])
	b = append(b, '-')
	b = hex.AppendEncode(b, i[4:6])
	b = append(b, '-')
	b = hex.AppendEncode(b, i[6:8])
	b = append(b, '-')
	b = hex.AppendEncode(b, i[8:10])
	b = append(b, '-')
	return hex.AppendEncode(b, i[10:16]), nil
}

// MarshalText is AppendText for encoding/json.
func (i ID[K]) MarshalText() ([]byte, error) { return i.AppendText(make([]byte, 0, 36)) }

// UnmarshalText is Parse for encoding/json. i is unchanged on error.
func (i *ID[K]) UnmarshalText(text []byte) error {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return fmt.Errorf("%.40q is not a UUID", text)
	}
	var digits [32]byte
	n := copy(digits[:], text[0:8])
	for _, part := range [][]byte{text[9:13], text[14:18], text[19:23], text[24:36]} {
		n += copy(digits[n:], part)
	}
	var parsed ID[K]
	if _, err := hex.Decode(parsed[:], digits[:]); err != nil {
		return fmt.Errorf("%.40q is not a UUID", text)
	}
	*i = parsed
	return nil
}

// Compare orders IDs by their bytes, which is also the order of their texts.
// Its result is that of cmp.Compare.
func (i ID[K]) Compare(j ID[K]) int {
	for n := range i {
		if i[n] != j[n] {
			if i[n] < j[n] {
				return -1
			}
			return 1
		}
	}
	return 0
}
