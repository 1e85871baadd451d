package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

// One row per sentence of spec gateway-nat.md 1.6, and its edge packets (8.3).
func TestParse(t *testing.T) {
	udp4, udp6 := sample4(UDP), sample6(UDP)
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"IPv4 UDP", udp4, nil},
		{"IPv6 UDP", udp6, nil},
		{"IPv4 TCP", sample4(TCP), nil},
		{"IPv6 TCP", sample6(TCP), nil},
		{"ICMP", sample4(ICMP), nil},
		{"ICMPv6", sample6(ICMPv6), nil},
		{"GRE", ip4(47, []byte{1, 2}), nil},
		{"IPv4 without payload", ip4(59, nil), nil},
		{"IPv6 without payload", ip6(59, nil), nil},
		{"1280 bytes", ip4(UDP, udpBody(1260)), nil},

		{"1281 bytes", ip4(UDP, udpBody(1261)), ErrTooLong},
		{"empty", nil, ErrMalformed},
		{"19 bytes", udp4[:19], ErrMalformed},
		{"39 bytes of IPv6", udp6[:39], ErrMalformed},
		{"version 5", with(udp4, 0, 0x55), ErrMalformed},
		{"header length 4", with(udp4, 0, 0x44), ErrMalformed},
		{"header longer than the packet", with(ip4(59, nil), 0, 0x4f), ErrMalformed},
		{"header length 15", ip4Options(UDP, udpBody(8), 40), nil},
		{"IPv4 length too small", with(udp4, 3, udp4[3]-1), ErrMalformed},
		{"IPv4 length too large", with(udp4, 3, udp4[3]+1), ErrMalformed},
		{"trailing byte", append(bytes.Clone(udp4), 0), ErrMalformed},
		{"IPv6 length too small", with(udp6, 5, udp6[5]-1), ErrMalformed},
		{"IPv6 length too large", with(udp6, 5, udp6[5]+1), ErrMalformed},

		{"don't fragment", with(udp4, 6, 0x40), nil},
		{"more fragments", with(udp4, 6, 0x20), ErrFragment},
		{"fragment offset", with(udp4, 7, 1), ErrFragment},
		{"largest fragment offset", with(udp4, 6, 0x1f), ErrFragment},
		{"atomic IPv6 fragment", ip6(extFragment, ext(UDP, 0, udpBody(8))), nil},
		{"IPv6 more fragments", ip6(extFragment, with(ext(UDP, 0, udpBody(8)), 3, 1)), ErrFragment},
		{"IPv6 fragment offset", ip6(extFragment, with(ext(UDP, 0, udpBody(8)), 3, 8)), ErrFragment},

		{"hop-by-hop", ip6(extHopByHop, ext(UDP, 0, udpBody(8))), nil},
		{"destination options of 16 bytes", ip6(extDestination, ext(UDP, 1, udpBody(8))), nil},
		{"finished routing", ip6(extRouting, ext(UDP, 0, udpBody(8))), nil},
		{"unfinished routing", ip6(extRouting, with(ext(UDP, 0, udpBody(8)), 3, 1)), ErrMalformed},
		{"authentication", ip6(extAuth, append([]byte{17, 1, 10: 0, 11: 0}, udpBody(8)...)), nil},
		{"chain of 8", chain(8), nil},
		{"chain to the end", chain(154), nil},
		{"no next header", ip6(extHopByHop, ext(59, 0, nil)), nil},
		{"extension cut off", ip6(extHopByHop, []byte{17, 0, 0, 0}), ErrMalformed},
		{"extension longer than the packet", ip6(extHopByHop, with(ext(UDP, 0, udpBody(8)), 1, 9)), ErrMalformed},
		{"jumbogram", jumbo(), ErrMalformed},

		{"UDP of 7 bytes", ip4(UDP, make([]byte, 7)), ErrMalformed},
		{"UDP of 8 bytes", ip4(UDP, udpBody(8)), nil},
		{"UDP length too small", ip4(UDP, with(udpBody(9), 5, 8)), ErrMalformed},
		{"UDP length too large", ip4(UDP, with(udpBody(9), 5, 10)), ErrMalformed},
		{"TCP of 19 bytes", ip4(TCP, tcpBody(20)[:19]), ErrMalformed},
		{"TCP data offset 4", ip4(TCP, with(tcpBody(20), 12, 0x40)), ErrMalformed},
		{"TCP options beyond the end", ip4(TCP, with(tcpBody(20), 12, 0x60)), ErrMalformed},
		{"TCP with 40 bytes of options", ip4(TCP, with(tcpBody(60), 12, 0xf0)), nil},
		{"ICMP of 7 bytes", ip4(ICMP, make([]byte, 7)), ErrMalformed},
		{"ICMP in IPv6", ip6(ICMP, make([]byte, 8)), ErrMalformed},
		{"ICMPv6 in IPv4", ip4(ICMPv6, make([]byte, 8)), ErrMalformed},
	}
	for _, test := range tests {
		p, err := Parse(test.b)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if (err == nil) == p.IsZero() {
			t.Errorf("%s: zero Packet is %v", test.name, p.IsZero())
		}
	}
}

func TestFields(t *testing.T) {
	for _, version := range []int{4, 6} {
		tcp := mustParse(t, sample(version, TCP))
		if tcp.SrcPort() != 5000 || tcp.DstPort() != 443 || tcp.TCPFlags() != SYN|ACK || string(tcp.Payload()) != "data" {
			t.Errorf("IPv%d TCP: %d %d %b %q", version, tcp.SrcPort(), tcp.DstPort(), tcp.TCPFlags(), tcp.Payload())
		}
		udp := mustParse(t, sample(version, UDP))
		if udp.SrcPort() != 5000 || udp.DstPort() != 443 || udp.TCPFlags() != 0 || string(udp.Payload()) != "data" {
			t.Errorf("IPv%d UDP: %d %d %q", version, udp.SrcPort(), udp.DstPort(), udp.Payload())
		}
		echo := mustParse(t, sample(version, icmpOf(version)))
		if id, request, ok := echo.Echo(); id != 7 || !request || !ok || string(echo.Payload()) != "data" {
			t.Errorf("IPv%d echo: %d %v %v %q", version, id, request, ok, echo.Payload())
		}
		if echo.SrcPort() != 0 || echo.DstPort() != 0 || echo.IsICMPError() {
			t.Errorf("IPv%d echo has ports or is an error", version)
		}
		if udp.Version() != version || udp.Src() != srcOf(version) || udp.Dst() != dstOf(version) {
			t.Errorf("IPv%d: version %d, %v → %v", version, udp.Version(), udp.Src(), udp.Dst())
		}
	}
}

func TestICMPErrorsByType(t *testing.T) {
	for typ := range 256 {
		want4 := typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12
		if got := mustParse(t, ip4(ICMP, with(make([]byte, 8), 0, byte(typ)))).IsICMPError(); got != want4 {
			t.Errorf("ICMP type %d: %v, want %v", typ, got, want4)
		}
		if got := mustParse(t, ip6(ICMPv6, with(make([]byte, 8), 0, byte(typ)))).IsICMPError(); got != (typ < 128) {
			t.Errorf("ICMPv6 type %d: %v, want %v", typ, got, typ < 128)
		}
	}
}

func TestTrimCutsPadding(t *testing.T) {
	for _, b := range [][]byte{sample4(UDP), sample6(TCP)} {
		padded := append(bytes.Clone(b), make([]byte, 11)...)
		if got := Trim(padded); !bytes.Equal(got, b) {
			t.Errorf("% x became % x", padded, got)
		}
	}
	for _, b := range [][]byte{nil, {}, {0x45}, make([]byte, 40), sample4(UDP)[:25], sample6(UDP)[:45]} {
		if got := Trim(b); len(got) != len(b) {
			t.Errorf("% x became % x", b, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{sample4(TCP), sample6(UDP), sample4(ICMP), chain(8), jumbo(), ip4Options(UDP, udpBody(8), 40),
		ip4(ICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, sample4(UDP)...)), ip6(ICMPv6, append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, sample6(TCP)...)),
		AppendControl(nil, 2, nil)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		Trim(b)
		p, err := Parse(b)
		if err != nil {
			return
		}
		before := bytes.Clone(b)
		valid := p.ValidChecksums()
		p.Payload()
		p.Control()
		src, dst := p.Src(), p.Dst()
		p.SetSrc(dst)
		p.SetDst(src)
		sport, dport := p.SrcPort(), p.DstPort()
		p.SetSrcPort(dport)
		p.SetDstPort(sport)
		p.SetECN(p.ECN())
		id, _, _ := p.Echo()
		p.SetEchoID(id)
		if p.ValidChecksums() != valid {
			t.Fatalf("% x: valid was %v after swapping the ends", before, valid)
		}
		if q, err := Parse(b); err != nil || q.Proto() != p.Proto() {
			t.Fatalf("% x: %v after swapping the ends", before, err)
		}
		if q, ok := p.Quote(); ok {
			q.SetDst(q.Src())
			q.SetSrcPort(q.DstPort())
			q.SetEchoID(1)
			p.Resum()
		}
		if e, ok := AppendProhibited(nil, p); ok {
			if q := mustParse(t, e); !q.ValidChecksums() || !q.IsICMPError() {
				t.Fatalf("% x: bad error % x", before, e)
			}
		}
	})
}

func srcOf(version int) netip.Addr {
	if version == 4 {
		return netip.MustParseAddr("100.64.0.7")
	}
	return netip.MustParseAddr("fd00:2021:1111::7")
}

func dstOf(version int) netip.Addr {
	if version == 4 {
		return netip.MustParseAddr("10.0.0.9")
	}
	return netip.MustParseAddr("2001:db8::9")
}

func icmpOf(version int) Proto {
	if version == 4 {
		return ICMP
	}
	return ICMPv6
}

// sample returns a packet with right checksums and the payload "data".
func sample(version int, proto Proto) []byte {
	if version == 4 {
		return sample4(proto)
	}
	return sample6(proto)
}

func sample4(proto Proto) []byte { return ip4(proto, body(proto)) }
func sample6(proto Proto) []byte { return ip6(proto, body(proto)) }

func body(proto Proto) []byte {
	switch proto {
	case UDP:
		return append(udpBody(12)[:8], "data"...)
	case TCP:
		return append(tcpBody(20), "data"...)
	case ICMP:
		return append([]byte{8, 0, 0, 0, 0, 7, 0, 1}, "data"...)
	}
	return append([]byte{128, 0, 0, 0, 0, 7, 0, 1}, "data"...)
}

func udpBody(n int) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint16(b, 5000)
	binary.BigEndian.PutUint16(b[2:], 443)
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	return b
}

func tcpBody(n int) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint16(b, 5000)
	binary.BigEndian.PutUint16(b[2:], 443)
	b[12], b[13] = 0x50, byte(SYN|ACK)
	return b
}

func ip4(proto Proto, body []byte) []byte { return ip4Options(proto, body, 0) }

func ip4Options(proto Proto, body []byte, options int) []byte {
	b := appendHeader(nil, srcOf(4), dstOf(4), proto, 64, len(body))
	b[0] += byte(options / 4)
	b = append(append(b, make([]byte, options)...), body...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return summed(b)
}

func ip6(next Proto, body []byte) []byte {
	return summed(append(appendHeader(nil, srcOf(6), dstOf(6), next, 64, len(body)), body...))
}

// summed computes the checksums if b is a packet.
func summed(b []byte) []byte {
	if p, err := Parse(b); err == nil {
		if p.version == 4 {
			p.sumHeader()
		}
		p.Resum()
	}
	return b
}

// ext puts an extension header of (size+1)*8 bytes in front of body.
func ext(next Proto, size byte, body []byte) []byte {
	h := make([]byte, (int(size)+1)*8)
	h[0], h[1] = byte(next), size
	return append(h, body...)
}

func chain(n int) []byte {
	b := udpBody(8)
	next := UDP
	for range n {
		b, next = ext(next, 0, b), extDestination
	}
	return ip6(next, b)
}

func jumbo() []byte {
	b := ip6(extHopByHop, append([]byte{17, 0, 0xc2, 4, 0, 0, 0, 8}, udpBody(8)...))
	return with(b, 5, 0)
}

func with(b []byte, at int, value byte) []byte {
	b = bytes.Clone(b)
	b[at] = value
	return b
}

func mustParse(t testing.TB, b []byte) Packet {
	t.Helper()
	p, err := Parse(b)
	if err != nil {
		t.Fatalf("% x: %v", b, err)
	}
	return p
}
