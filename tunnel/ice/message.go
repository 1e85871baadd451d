package ice

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"github.com/pion/stun/v3"
)

// A TransactionID names one request; each request has a new one.
type TransactionID = [stun.TransactionIDSize]byte

// ErrMessage means a STUN message that is no well-formed check and no
// well-formed success response: drop it.
var ErrMessage = errors.New("not a connectivity check")

const (
	headerLen   = 20
	magicCookie = 0x2112A442
)

// IsSTUN reports whether b is framed as one STUN message, exactly. A
// WireGuard message never is: its bytes 2 and 3 are zero, which would make it
// 20 bytes long.
func IsSTUN(b []byte) bool {
	return len(b) >= headerLen && b[0] < 4 && len(b)%4 == 0 &&
		binary.BigEndian.Uint32(b[4:]) == magicCookie && int(binary.BigEndian.Uint16(b[2:])) == len(b)-headerLen
}

// A Message is a connectivity check, or the success response to one. Its
// integrity is not yet verified: the agent it belongs to has the password.
type Message struct {
	ID       TransactionID
	Response bool

	// Of a request.
	To, From     string // ufrags of receiver and sender
	Priority     uint32
	UseCandidate bool

	// Of a response: where the peer saw our request come from.
	Mapped netip.AddrPort

	raw *stun.Message
}

// ParseMessage reads a BINDING request or success response by the rules of
// connectivity.md 3.8. b is borrowed until return.
func ParseMessage(b []byte) (Message, error) {
	if !IsSTUN(b) {
		return Message{}, ErrMessage
	}
	// Strict: what follows MESSAGE-INTEGRITY is not protected by it. The copy
	// matters: verifying writes into the message and behind its end.
	raw := stun.NewWithOptions(stun.WithStrict(true))
	if _, err := raw.Write(b); err != nil {
		return Message{}, ErrMessage
	}
	if mac, err := raw.Get(stun.AttrMessageIntegrity); err != nil || len(mac) != 20 {
		return Message{}, ErrMessage
	}
	m := Message{ID: raw.TransactionID, raw: raw}
	switch raw.Type {
	case stun.BindingRequest:
		return m, m.parseRequest()
	case stun.BindingSuccess:
		m.Response = true
		return m, m.parseResponse()
	}
	return Message{}, ErrMessage
}

func (m *Message) parseRequest() error {
	name, err := m.raw.Get(stun.AttrUsername)
	if err != nil {
		return ErrMessage
	}
	var ok bool
	if m.To, m.From, ok = strings.Cut(string(name), ":"); !ok || m.From == "" {
		return ErrMessage
	}
	value, err := m.raw.Get(stun.AttrPriority)
	if err != nil || len(value) != 4 {
		return ErrMessage
	}
	m.Priority = binary.BigEndian.Uint32(value)
	m.UseCandidate = m.raw.Contains(stun.AttrUseCandidate)
	return nil
}

func (m *Message) parseResponse() error {
	var a stun.XORMappedAddress
	if err := a.GetFrom(m.raw); err != nil {
		return ErrMessage
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return ErrMessage
	}
	m.Mapped = netip.AddrPortFrom(ip.Unmap(), uint16(a.Port))
	return nil
}

// verify checks the integrity against a password. FINGERPRINT is not
// checked; it adds nothing to an HMAC.
func (m Message) verify(password string) bool {
	return m.raw != nil && stun.MessageIntegrity(password).Check(m.raw) == nil
}

// A request holds what goes into a check, in the order of connectivity.md 3.8.
type request struct {
	id            TransactionID
	username      string
	controlling   bool
	tieBreaker    uint64
	priority      uint32
	useCandidate  bool
	peersPassword string
}

func (r request) encode() []byte {
	m := start(stun.BindingRequest, r.id)
	m.Add(stun.AttrUsername, []byte(r.username))
	role := stun.AttrICEControlled
	if r.controlling {
		role = stun.AttrICEControlling
	}
	m.Add(role, binary.BigEndian.AppendUint64(nil, r.tieBreaker))
	m.Add(stun.AttrPriority, binary.BigEndian.AppendUint32(nil, r.priority))
	if r.useCandidate {
		m.Add(stun.AttrUseCandidate, nil)
	}
	return seal(m, r.peersPassword)
}

// encodeResponse answers a check: mapped is where it came from, password our
// own.
func encodeResponse(id TransactionID, mapped netip.AddrPort, password string) []byte {
	m := start(stun.BindingSuccess, id)
	addr := stun.XORMappedAddress{IP: mapped.Addr().AsSlice(), Port: int(mapped.Port())}
	if err := addr.AddTo(m); err != nil {
		panic(err) // mapped was a real datagram's source
	}
	return seal(m, password)
}

func start(t stun.MessageType, id TransactionID) *stun.Message {
	m := stun.New()
	m.Type, m.TransactionID = t, id
	m.WriteHeader()
	return m
}

func seal(m *stun.Message, password string) []byte {
	// Neither can fail: integrity goes before the fingerprint.
	_ = stun.MessageIntegrity(password).AddTo(m)
	_ = stun.Fingerprint.AddTo(m)
	return m.Raw
}
