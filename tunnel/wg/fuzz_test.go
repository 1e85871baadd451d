package wg

import (
	"bytes"
	"slices"
	"testing"
)

// conversation returns genuine messages of every kind, and the pair that the
// last two are still waited for by.
func conversation(t testing.TB) (p *pair, initiation, response, cookie, data []byte) {
	p = newPair(t, 1)
	p.connect()
	data = p.b.session.Send().Seal(make([]byte, 100), 40)
	p.a.session.initiate(p.now)
	initiation = p.a.session.Drain(nil)[0]
	in, _, _ := p.b.identity.Initiator(initiation, p.a.addr, p.now)
	p.b.session.Accept(in, p.now)
	response = p.b.session.Drain(nil)[0]
	cookie = p.b.identity.cookies.reply(initiation, p.a.addr.Addr(), p.b.identity.rand, p.now)
	p.a.session.initiate(p.now)
	initiation = p.a.session.Drain(nil)[0]
	return p, initiation, response, cookie, data
}

// FuzzMessages throws datagrams at a connection, with MAC1 repaired so that
// the handshake itself is reached. Whatever is accepted must be one of the
// genuine messages.
func FuzzMessages(f *testing.F) {
	p, initiation, response, cookie, data := conversation(f)
	for _, m := range [][]byte{initiation, response, cookie, data, {}, {4}, data[:32], bytes.Repeat([]byte{4}, 40)} {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p.now = p.now.Add(sec) // never under load
		msg := slices.Clone(raw)
		switch Classify(msg) {
		case Invalid:
			if Index(msg) != 0 {
				t.Fatal("index of an invalid message")
			}
		case Initiation:
			n := len(msg) - macsLen
			msg = appendMACs(msg[:n], p.b.identity.mac1Key, nil)
			if _, _, ok := p.b.identity.Initiator(msg, p.a.addr, p.now); ok && !bytes.Equal(msg[8:n], initiation[8:n]) {
				t.Fatalf("accepted %x", msg)
			}
		case Response:
			n := len(msg) - macsLen
			msg = appendMACs(msg[:n], p.a.identity.mac1Key, nil)
			if p.a.session.Handle(msg, p.b.addr, p.now) {
				if !bytes.Equal(msg[8:n], response[8:n]) {
					t.Fatalf("accepted %x", msg)
				}
				p, initiation, response, cookie, data = conversation(t) // it waits no longer
			}
		case Cookie:
			if p.a.session.Handle(msg, p.b.addr, p.now) && !bytes.Equal(msg, cookie) {
				t.Fatalf("accepted %x", msg)
			}
		case Data:
			k := p.a.session.Find(Index(msg))
			if k == nil {
				return
			}
			if _, _, ok := k.Open(msg); ok && !bytes.Equal(raw, data) {
				t.Fatalf("accepted %x", raw)
			}
		}
		if p.a.session.Err() != nil || p.b.session.Err() != nil {
			t.Fatal("a datagram ended the connection")
		}
	})
}
