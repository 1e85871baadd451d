package relay

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// software names us to clients.
const software = "stile-relay"

// reasons are the error codes in use and their texts (RFC 8489 §14.8, RFC 8656
// §19).
var reasons = map[stun.ErrorCode]string{
	400: "Bad Request",
	401: "Unauthorized",
	403: "Forbidden",
	437: "Allocation Mismatch",
	438: "Stale Nonce",
	440: "Address Family not Supported",
	443: "Peer Address Family Mismatch",
	486: "Allocation Quota Reached",
	508: "Insufficient Capacity",
}

// An answer is a response being written. Attributes go in the order of
// connectivity.md 4.7.
type answer struct {
	message *stun.Message
	local   netip.AddrPort
	remote  netip.AddrPort
}

func newAnswer(r *request, class stun.MessageClass) answer {
	m := stun.New()
	m.Type, m.TransactionID = stun.NewType(r.method, class), r.id
	m.WriteHeader()
	m.Add(stun.AttrSoftware, []byte(software))
	return answer{m, r.from.Local, r.from.Remote}
}

func (a answer) address(t stun.AttrType, addr netip.AddrPort) {
	x := stun.XORMappedAddress{IP: addr.Addr().AsSlice(), Port: int(addr.Port())}
	if err := x.AddToAs(a.message, t); err != nil {
		panic(err) // only for an address that is none
	}
}

func (a answer) lifetime(d time.Duration) {
	a.message.Add(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, uint32(d/time.Second)))
}

// send ends the answer with its integrity; key is nil if there is none.
func (s *Server) send(a answer, key stun.MessageIntegrity) {
	if key != nil {
		_ = key.AddTo(a.message) // fails only behind a FINGERPRINT
	}
	s.stats.Answers++
	s.out.Datagrams = append(s.out.Datagrams, Datagram{a.local, a.remote, a.message.Raw})
}

// refuse answers with an error.
func (s *Server) refuse(r *request, code stun.ErrorCode, key stun.MessageIntegrity) {
	a := newAnswer(r, stun.ClassErrorResponse)
	e := stun.ErrorCodeAttribute{Code: code, Reason: []byte(reasons[code])}
	if err := e.AddTo(a.message); err != nil {
		panic(err) // only for a code or reason out of range
	}
	if code == 401 || code == 438 {
		a.message.Add(stun.AttrRealm, []byte(Realm))
		a.message.Add(stun.AttrNonce, []byte(s.nonces.current(r.from.Remote)))
	}
	s.stats.Errors++
	s.send(a, key)
}
