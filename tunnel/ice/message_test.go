package ice

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pion/stun/v3"
)

const gatewayPassword = "gggggggggggggggggggggg"

// B.4 and B.5 of connectivity.md.
var (
	vectorID       = TransactionID(unhex("a0a1a2a3a4a5a6a7a8a9aaab"))
	vectorRequest  = unhex("00010048 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00060009 7778797a 3a616263 64000000 802a0008 01020304 05060708 00240004 6efffeff 00250000 00080014 72c45c5c 0fd077e3 df3c2a28 5b50eae9 670090c1 80280004 d526b10c")
	vectorResponse = unhex("0101002c 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 00200008 0001ec83 ea12d545 00080014 7d368b84 0503e4d3 753fbe3d 4d293753 5f65873e 80280004 9cee6367")
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	got := request{
		id: vectorID, username: "wxyz:abcd", controlling: true, tieBreaker: 0x0102030405060708,
		priority: 0x6EFFFEFF, useCandidate: true, peersPassword: gatewayPassword,
	}.encode()
	if !bytes.Equal(got, vectorRequest) {
		t.Errorf("B.4:\ngot  %x\nwant %x", got, vectorRequest)
	}
	if got := encodeResponse(vectorID, ap("203.0.113.7:52625"), gatewayPassword); !bytes.Equal(got, vectorResponse) {
		t.Errorf("B.5:\ngot  %x\nwant %x", got, vectorResponse)
	}

	m, err := ParseMessage(vectorRequest)
	if err != nil || m.Response || m.ID != vectorID || m.To != "wxyz" || m.From != "abcd" || m.Priority != 0x6EFFFEFF || !m.UseCandidate {
		t.Errorf("B.4 parsed: %+v, %v", m, err)
	}
	if !m.verify(gatewayPassword) || m.verify("g") {
		t.Error("B.4: integrity")
	}
	if m, err = ParseMessage(vectorResponse); err != nil || !m.Response || m.Mapped != ap("203.0.113.7:52625") || !m.verify(gatewayPassword) {
		t.Errorf("B.5 parsed: %+v, %v", m, err)
	}
}

func TestParseMessageRejects(t *testing.T) {
	without := func(drop stun.AttrType) []byte {
		m := start(stun.BindingRequest, vectorID)
		for _, a := range []stun.RawAttribute{
			{Type: stun.AttrUsername, Value: []byte("wxyz:abcd")},
			{Type: stun.AttrPriority, Value: []byte{0, 0, 0, 1}},
		} {
			if a.Type != drop {
				m.Add(a.Type, a.Value)
			}
		}
		if drop == stun.AttrMessageIntegrity {
			return m.Raw
		}
		return seal(m, "x")
	}
	named := func(username string) []byte {
		return request{id: vectorID, username: username, peersPassword: "x"}.encode()
	}
	longer := append(bytes.Clone(vectorRequest), 0, 0, 0, 0)
	cookie := bytes.Clone(vectorRequest)
	cookie[4]++
	noAddress := seal(start(stun.BindingSuccess, vectorID), "x")
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"longer than it says":     longer,
		"shorter than it says":    vectorRequest[:len(vectorRequest)-4],
		"other cookie":            cookie,
		"request without MAC":     without(stun.AttrMessageIntegrity),
		"request without name":    without(stun.AttrUsername),
		"request without rank":    without(stun.AttrPriority),
		"name without colon":      named("wxyz"),
		"name without right half": named("wxyz:"),
		"response without mapped": noAddress,
		"error response":          seal(start(stun.BindingError, vectorID), "x"),
		"indication":              seal(start(stun.NewType(stun.MethodBinding, stun.ClassIndication), vectorID), "x"),
	} {
		if m, err := ParseMessage(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

// Attributes behind the integrity are not protected by it.
func TestAttributesAfterIntegrityAreIgnored(t *testing.T) {
	m := start(stun.BindingRequest, vectorID)
	m.Add(stun.AttrUsername, []byte("wxyz:abcd"))
	m.Add(stun.AttrPriority, []byte{0, 0, 0, 1})
	_ = stun.MessageIntegrity(gatewayPassword).AddTo(m)
	m.Add(stun.AttrUseCandidate, nil)
	got, err := ParseMessage(m.Raw)
	if err != nil || got.UseCandidate || !got.verify(gatewayPassword) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Verifying must not touch what lies behind the message in a batch buffer.
func TestParseMessageBorrows(t *testing.T) {
	buf := append(bytes.Clone(vectorRequest), bytes.Repeat([]byte{0x55}, 64)...)
	want := bytes.Clone(buf)
	m, err := ParseMessage(buf[:len(vectorRequest)])
	if err != nil || !m.verify(gatewayPassword) || !bytes.Equal(buf, want) {
		t.Errorf("%v; buffer changed: %v", err, !bytes.Equal(buf, want))
	}
}

// A WireGuard initiation whose sender index looks like the magic cookie.
func TestWireGuardIsNotSTUN(t *testing.T) {
	b := make([]byte, 148)
	b[0] = 1
	binary.BigEndian.PutUint32(b[4:], magicCookie)
	if IsSTUN(b) {
		t.Error("taken for STUN")
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(vectorRequest)
	f.Add(vectorResponse)
	f.Add(unhex("0001000c 2112a442 a0a1a2a3 a4a5a6a7 a8a9aaab 80220007 736e6f77 6e657400"))
	f.Fuzz(func(t *testing.T, b []byte) {
		agent, _ := paired(start0)
		agent.Handle(Message{}, ap("10.0.0.1:1"), ap("10.0.0.2:2"), start0)
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		if m.Response != (b[0] == 1) || !m.Response && m.From == "" || m.Response && !m.Mapped.IsValid() {
			t.Fatalf("%x parsed as %+v", b, m)
		}
		agent.Handle(m, ap("10.0.0.1:1"), ap("10.0.0.2:2"), start0)
		m.verify("x")
	})
}
