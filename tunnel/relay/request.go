package relay

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"

	"stile/tunnel/turn"
)

// attrAdditionalAddressFamily is ADDITIONAL-ADDRESS-FAMILY (RFC 8656 §18.11).
const attrAdditionalAddressFamily = stun.AttrType(0x8000)

// A family is an address family as attributes number it (RFC 8656 §18.6).
type family byte

const (
	noFamily family = 0 // no attribute
	ipv4     family = 1
	ipv6     family = 2
)

const udp = 17 // in REQUESTED-TRANSPORT

// A request is a decoded request with what its method needs.
type request struct {
	from    Datagram
	message *stun.Message
	id      [stun.TransactionIDSize]byte
	method  stun.Method

	integrity          bool
	username, nonce    string
	named, nonced      bool // whether they are present
	lifetime           time.Duration
	timed              bool // whether lifetime is present
	transport          byte
	requested, another family // REQUESTED- and ADDITIONAL-ADDRESS-FAMILY
	channel            uint16
	peer               netip.AddrPort
}

// errUninterpretable means that a request is not understood at all. The answer
// is 400 without integrity.
var errUninterpretable = errors.New("request not understood")

// read takes the attributes that matter. Those behind MESSAGE-INTEGRITY are not
// protected by it and do not count.
func (r *request) read() error {
	for i, a := range r.message.Attributes {
		if a.Type == stun.AttrMessageIntegrity {
			r.integrity = true
			r.message.Attributes = r.message.Attributes[:i+1]
			break
		}
	}
	r.username, r.named = r.text(stun.AttrUsername)
	r.nonce, r.nonced = r.text(stun.AttrNonce)
	if len(r.username) > maxUsername {
		return errUninterpretable
	}
	if v, ok, err := r.word(stun.AttrLifetime); err != nil {
		return err
	} else if ok {
		r.lifetime, r.timed = time.Duration(binary.BigEndian.Uint32(v))*time.Second, true
	}
	switch r.method {
	case stun.MethodAllocate:
		return r.readAllocate()
	case stun.MethodChannelBind:
		return r.readChannelBind()
	case stun.MethodRefresh, stun.MethodCreatePermission:
		return nil
	}
	return errUninterpretable
}

func (r *request) readAllocate() error {
	v, ok, err := r.word(stun.AttrRequestedTransport)
	if err != nil || !ok {
		return errUninterpretable
	}
	r.transport = v[0]
	if r.requested, err = r.family(stun.AttrRequestedAddressFamily); err != nil {
		return err
	}
	r.another, err = r.family(attrAdditionalAddressFamily)
	return err
}

func (r *request) readChannelBind() error {
	v, ok, err := r.word(stun.AttrChannelNumber)
	if err != nil || !ok {
		return errUninterpretable
	}
	r.channel = binary.BigEndian.Uint16(v)
	if r.channel < turn.MinChannel || r.channel > turn.MaxChannel {
		return errUninterpretable
	}
	r.peer, err = r.address(stun.AttrXORPeerAddress)
	return err
}

func (r *request) text(t stun.AttrType) (string, bool) {
	v, err := r.message.Get(t)
	return string(v), err == nil
}

// word returns an attribute whose value is four bytes.
func (r *request) word(t stun.AttrType) (v []byte, ok bool, err error) {
	v, err = r.message.Get(t)
	if err != nil {
		return nil, false, nil
	}
	if len(v) != 4 {
		return nil, false, errUninterpretable
	}
	return v, true, nil
}

func (r *request) family(t stun.AttrType) (family, error) {
	v, ok, err := r.word(t)
	if err != nil || !ok {
		return noFamily, err
	}
	if f := family(v[0]); f == ipv4 || f == ipv6 {
		return f, nil
	}
	return noFamily, errUninterpretable
}

// address returns an address attribute: family, port and address, the latter
// two exclusive-ored with cookie and transaction ID (RFC 8489 §14.2).
func (r *request) address(t stun.AttrType) (netip.AddrPort, error) {
	v, err := r.message.Get(t)
	if err != nil || len(v) != 8 && len(v) != 20 {
		return netip.AddrPort{}, errUninterpretable
	}
	var x stun.XORMappedAddress
	if err := x.GetFromAs(r.message, t); err != nil || len(x.IP) != len(v)-4 {
		return netip.AddrPort{}, errUninterpretable
	}
	addr, ok := netip.AddrFromSlice(x.IP)
	if !ok {
		return netip.AddrPort{}, errUninterpretable
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(x.Port)), nil
}
