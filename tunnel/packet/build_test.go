package packet

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestAppendUDP(t *testing.T) {
	for _, version := range []int{4, 6} {
		from, to := netip.AddrPortFrom(srcOf(version), 53), netip.AddrPortFrom(dstOf(version), 4000)
		b := AppendUDP([]byte("before"), from, to, []byte("an answer"))
		p := mustParse(t, b[6:])
		if p.Src() != from.Addr() || p.Dst() != to.Addr() || p.SrcPort() != 53 || p.DstPort() != 4000 {
			t.Errorf("%v:%d → %v:%d", p.Src(), p.SrcPort(), p.Dst(), p.DstPort())
		}
		if string(p.Payload()) != "an answer" || !p.ValidChecksums() {
			t.Errorf("payload %q, valid checksums %v", p.Payload(), p.ValidChecksums())
		}
	}
}

// Spec gateway-nat.md 1.5 and N38.
func TestErrors(t *testing.T) {
	tests := []struct {
		name       string
		build      func([]byte, Packet) ([]byte, bool)
		t4, c4, c6 byte
	}{
		{"prohibited", AppendProhibited, 3, 13, 1},
		{"unreachable", AppendUnreachable, 3, 0, 3},
		{"exhausted", AppendExhausted, 3, 1, 3},
	}
	for _, test := range tests {
		for _, version := range []int{4, 6} {
			offending := mustParse(t, sample(version, UDP))
			b, ok := test.build([]byte("x"), offending)
			if !ok {
				t.Fatalf("%s: no answer", test.name)
			}
			p := mustParse(t, b[1:])
			typ, code, _ := p.ICMP()
			want, ttl := [2]byte{test.t4, test.c4}, p.b[8]
			if version == 6 {
				want, ttl = [2]byte{1, test.c6}, p.b[7]
			}
			if [2]byte{typ, code} != want || ttl != 20 {
				t.Errorf("%s: %d/%d TTL %d, want %v TTL 20", test.name, typ, code, ttl, want)
			}
			if p.Src() != offending.Dst() || p.Dst() != offending.Src() {
				t.Errorf("%s: %v → %v", test.name, p.Src(), p.Dst())
			}
			if !bytes.Equal(p.Payload(), offending.Bytes()) || !p.ValidChecksums() {
				t.Errorf("%s: quote % x, checksums valid: %v", test.name, p.Payload(), p.ValidChecksums())
			}
		}
	}
}

func TestErrorsQuoteWhatFits(t *testing.T) {
	long4, _ := AppendProhibited(nil, mustParse(t, ip4(UDP, udpBody(1200))))
	long6, _ := AppendProhibited(nil, mustParse(t, ip6(UDP, udpBody(1240))))
	if len(long4) != 576 || len(long6) != 1280 {
		t.Errorf("%d and %d bytes, want 576 and 1280", len(long4), len(long6))
	}
	mustParse(t, long4)
	mustParse(t, long6)
}

func TestErrorsAreNotSentFor(t *testing.T) {
	to := func(addr string) []byte {
		p := mustParse(t, sample4(UDP))
		if a := netip.MustParseAddr(addr); a.Is4() {
			p.SetDst(a)
		} else {
			p = mustParse(t, sample6(UDP))
			p.SetDst(a)
		}
		return p.Bytes()
	}
	from := func(a string) []byte {
		p := mustParse(t, sample4(UDP))
		p.SetSrc(netip.MustParseAddr(a))
		return p.Bytes()
	}
	tests := []struct {
		name string
		b    []byte
	}{
		{"ICMP error", ip4(ICMP, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, sample4(UDP)...))},
		{"redirect", ip4(ICMP, append([]byte{5, 1, 0, 0, 0, 0, 0, 0}, sample4(UDP)...))},
		{"ICMPv6 error", ip6(ICMPv6, append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, sample6(UDP)...))},
		{"TCP reset", ip4(TCP, with(tcpBody(20), 13, byte(RST|ACK)))},
		{"multicast", to("224.0.0.251")},
		{"IPv6 multicast", to("ff02::fb")},
		{"broadcast", to("255.255.255.255")},
		{"reserved", to("240.0.0.1")},
		{"unspecified", to("0.0.0.0")},
		{"IPv6 unspecified", to("::")},
		{"from unspecified", from("0.0.0.0")},
		{"from multicast", from("224.0.0.1")},
	}
	for _, test := range tests {
		if b, ok := AppendProhibited(nil, mustParse(t, test.b)); ok || b != nil {
			t.Errorf("%s was answered", test.name)
		}
	}
}

// Spec connectivity.md 5.1.
func TestControl(t *testing.T) {
	b := AppendControl(nil, 1, []byte(`{}`))
	want := []byte{0x60, 0, 0, 0, 0, 10, 0xff, 0}
	want = append(want, make([]byte, 32)...)
	want = append(want, 1, 0, 0, 0, 0, 0, 0, 0, '{', '}')
	if !bytes.Equal(b, want) {
		t.Fatalf("% x, want % x", b, want)
	}
	event, payload, ok := mustParse(t, b).Control()
	if event != 1 || string(payload) != "{}" || !ok {
		t.Errorf("%d %q %v", event, payload, ok)
	}

	tests := []struct {
		name string
		b    []byte
		want bool
	}{
		{"goodbye", AppendControl(nil, 2, nil), true},
		{"reserved bytes set", with(AppendControl(nil, 2, nil), 47, 1), true},
		{"hop limit set", with(AppendControl(nil, 2, nil), 7, 9), true},
		{"source", with(AppendControl(nil, 2, nil), 23, 1), false},
		{"destination", with(AppendControl(nil, 2, nil), 39, 1), false},
		{"next header", with(AppendControl(nil, 2, nil), 6, 254), false},
		{"short body", with(AppendControl(nil, 2, nil)[:47], 5, 7), false},
		{"behind an extension header", behindExtension(AppendControl(nil, 2, nil)), false},
		{"IPv4", ip4(255, make([]byte, 8)), false},
	}
	for _, test := range tests {
		if _, _, ok := mustParse(t, test.b).Control(); ok != test.want {
			t.Errorf("%s: %v, want %v", test.name, ok, test.want)
		}
	}
}

func behindExtension(b []byte) []byte {
	e := append(bytes.Clone(b[:40]), 0xff, 0, 0, 0, 0, 0, 0, 0)
	e = append(e, b[40:]...)
	e[5], e[6] = b[5]+8, byte(extDestination)
	return e
}
