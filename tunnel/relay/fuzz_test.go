package relay

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"
)

// FuzzListeningPort sends anything to the listening port of a relay that has
// one client: nobody else may get an allocation or a channel, and every answer
// must be a message that decodes.
func FuzzListeningPort(f *testing.F) {
	for _, v := range []string{b6, b7, b8, b9, b10} {
		f.Add(bytesOf(f, v))
	}
	f.Add([]byte{0x40, 0, 0, 8, 'h', 'e', 'l', 'l', 'o'})
	w := dual(f)
	c := w.client(alice, "alice")
	c.allocate()
	c.bind(0x4000, peerA)
	f.Add(c.sign(c.request(stun.MethodRefresh, seconds(0))).Raw)
	f.Add(c.sign(c.request(stun.MethodChannelBind, attr{stun.AttrXORPeerAddress, []byte(peer6.String())}, number(0x4001))).Raw)
	stranger := netip.MustParseAddrPort("192.0.2.66:6")
	local := netip.AddrPortFrom(publicV4, DefaultPort)
	f.Fuzz(func(t *testing.T, b []byte) {
		w := dual(t)
		c := w.client(alice, "alice")
		c.allocate()
		c.bind(0x4000, peerA)
		for _, from := range []netip.AddrPort{alice, stranger} {
			w.out = nil
			sent := bytes.Clone(b)
			fwd, ok := w.server.Datagram(Datagram{local, from, sent}, w.now)
			if ok && (from != alice || fwd.Remote != peerA || !bytes.HasPrefix(b[4:], fwd.Payload)) {
				t.Fatalf("%x from %v relayed to %v", b, from, fwd.Remote)
			}
			if !bytes.Equal(sent, b) {
				t.Fatal("input was changed")
			}
			w.drain()
			for _, d := range w.out {
				m := stun.New()
				if err := stun.Decode(d.Payload, m); err != nil || len(d.Payload)%4 != 0 || d.Remote != from {
					t.Fatalf("answer %x to %v: %v", d.Payload, d.Remote, err)
				}
			}
		}
		m := stun.New()
		signed := stun.Decode(b, m) == nil && c.key().Check(m) == nil
		if s := w.server.Stats(); !signed && (s.Channels != 1 || s.Allocations != 1) {
			t.Fatalf("somebody without credentials got %+v", s)
		}
	})
}
