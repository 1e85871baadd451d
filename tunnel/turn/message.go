package turn

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/pion/stun/v3"
)

const (
	realm    = "firezone"
	software = "snownet" // what relays of this network expect and log

	attrAdditionalAddressFamily = stun.AttrType(0x8000) // RFC 8656 §18.11
)

// Method of a request.
type method uint8

const (
	binding method = iota
	allocate
	refresh
	remove // a REFRESH with LIFETIME 0
	channelBind
)

var requestType = [...]stun.MessageType{
	binding:     stun.BindingRequest,
	allocate:    stun.NewType(stun.MethodAllocate, stun.ClassRequest),
	refresh:     stun.NewType(stun.MethodRefresh, stun.ClassRequest),
	remove:      stun.NewType(stun.MethodRefresh, stun.ClassRequest),
	channelBind: stun.NewType(stun.MethodChannelBind, stun.ClassRequest),
}

// credentials sign all but BINDING, from the first request on: what the first
// ALLOCATE lacks is only the nonce.
type credentials struct {
	username string
	key      stun.MessageIntegrity // MD5(username:realm:password)
}

// encode writes a request, attributes in the order of connectivity.md 4.2:
// relays verify the integrity of a re-encoded message.
func (r *request) encode(c credentials, nonce string) []byte {
	m := stun.New()
	m.Type, m.TransactionID = requestType[r.method], r.id
	m.WriteHeader()
	switch r.method {
	case allocate, refresh, remove:
		m.Add(stun.AttrRequestedTransport, []byte{17, 0, 0, 0}) // UDP
		m.Add(attrAdditionalAddressFamily, []byte{2, 0, 0, 0})  // IPv6
	case channelBind:
		addXORAddress(m, stun.AttrXORPeerAddress, r.channel.peer)
		n := r.channel.number
		m.Add(stun.AttrChannelNumber, []byte{byte(n >> 8), byte(n), 0, 0})
	}
	m.Add(stun.AttrSoftware, []byte(software))
	if r.method == binding {
		return m.Raw
	}
	if r.method == remove {
		m.Add(stun.AttrLifetime, []byte{0, 0, 0, 0})
	}
	m.Add(stun.AttrUsername, []byte(c.username))
	m.Add(stun.AttrRealm, []byte(realm))
	if nonce != "" {
		m.Add(stun.AttrNonce, []byte(nonce))
	}
	_ = c.key.AddTo(m) // fails only behind a FINGERPRINT
	return m.Raw
}

func addXORAddress(m *stun.Message, t stun.AttrType, a netip.AddrPort) {
	x := stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}
	if err := x.AddToAs(m, t); err != nil {
		panic(err) // callers check for an IP address
	}
}

// A response is a decoded answer of a relay.
type response struct {
	id       transactionID
	method   stun.Method
	code     int // 0: success
	nonce    string
	realm    string
	lifetime time.Duration
	hasLife  bool
	mapped   netip.AddrPort
	relayed  []netip.AddrPort
	raw      *stun.Message
}

type transactionID = [stun.TransactionIDSize]byte

var errResponse = errors.New("not a response of a relay")

// parseResponse reads a success or error response of any method. b is
// borrowed until return.
func parseResponse(b []byte) (response, error) {
	if len(b) < 20 || b[0] >= 4 || int(binary.BigEndian.Uint16(b[2:])) != len(b)-20 {
		return response{}, errResponse
	}
	m := stun.NewWithOptions(stun.WithStrict(true))
	if _, err := m.Write(b); err != nil { // a copy: verifying writes into it
		return response{}, errResponse
	}
	r := response{id: m.TransactionID, method: m.Type.Method, raw: m}
	switch m.Type.Class {
	case stun.ClassSuccessResponse:
	case stun.ClassErrorResponse:
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(m); err != nil || code.Code < 300 || code.Code > 599 {
			return response{}, errResponse
		}
		r.code = int(code.Code)
	default:
		return response{}, errResponse
	}
	return r, r.parseAttributes()
}

func (r *response) parseAttributes() error {
	for _, a := range r.raw.Attributes {
		ok := true
		switch a.Type {
		case stun.AttrNonce:
			r.nonce, ok = text(a.Value)
		case stun.AttrRealm:
			r.realm, ok = text(a.Value)
		case stun.AttrSoftware:
			_, ok = text(a.Value)
		case stun.AttrLifetime:
			if ok = len(a.Value) == 4; ok {
				r.lifetime, r.hasLife = time.Duration(binary.BigEndian.Uint32(a.Value))*time.Second, true
			}
		case stun.AttrXORMappedAddress:
			r.mapped, ok = xorAddress(a.Value, r.id)
		case stun.AttrXORRelayedAddress:
			var addr netip.AddrPort
			addr, ok = xorAddress(a.Value, r.id)
			r.relayed = append(r.relayed, addr)
		}
		if !ok {
			return errResponse
		}
	}
	return nil
}

func text(b []byte) (string, bool) {
	return string(b), utf8.Valid(b) && utf8.RuneCount(b) < 128
}

// xorAddress decodes XOR-RELAYED-ADDRESS, of which one message can hold two,
// and its like (RFC 8489 §14.2).
func xorAddress(v []byte, id transactionID) (netip.AddrPort, bool) {
	if len(v) != 8 && len(v) != 20 || v[1] != 1 && v[1] != 2 || (v[1] == 1) != (len(v) == 8) {
		return netip.AddrPort{}, false
	}
	mask := append(binary.BigEndian.AppendUint32(nil, 0x2112A442), id[:]...)
	ip := make([]byte, len(v)-4)
	for i := range ip {
		ip[i] = v[4+i] ^ mask[i]
	}
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(v[2:])^0x2112), true
}

// signedBy reports whether the response carries our key's integrity.
func (r response) signedBy(c credentials) bool { return c.key.Check(r.raw) == nil }
