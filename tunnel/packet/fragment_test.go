package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"stile/tunnel/packet/cut"
)

// The fragments of spec gateway-nat.md 8.3, and what a whole packet must not be
// taken for.
func TestParseFragment(t *testing.T) {
	whole := func(version int, proto Proto, size int) []byte {
		body := udpBody(size)
		if proto == TCP {
			body = tcpBody(size)
		}
		if version == 4 {
			return ip4(proto, body)
		}
		return ip6(proto, body)
	}
	udp4, udp6, odd6, tcp4 := whole(4, UDP, 800), whole(6, UDP, 800), whole(6, UDP, 799), whole(4, TCP, 800)
	options := with(ip4(TCP, with(tcpBody(800), 12, 0xf0)), 20+13, byte(ACK))
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"whole", udp4, nil},
		{"IPv4 first", cut.Piece(udp4, 0, 400, 7), nil},
		{"IPv4 middle", cut.Piece(udp4, 400, 600, 7), nil},
		{"IPv4 last", cut.Piece(udp4, 600, 800, 7), nil},
		{"IPv6 first", cut.Piece(udp6, 0, 400, 7), nil},
		{"IPv6 middle", cut.Piece(udp6, 400, 600, 7), nil},
		{"IPv6 last", cut.Piece(udp6, 600, 800, 7), nil},
		{"with don't fragment", with(cut.Piece(udp4, 0, 400, 7), 6, 0x60), nil},

		{"first of 8 bytes: a whole UDP header", cut.Piece(udp4, 0, 8, 7), nil},
		{"first without all of a TCP header", cut.Piece(tcp4, 0, 16, 7), ErrFragment},
		{"first with all of a TCP header", cut.Piece(tcp4, 0, 24, 7), nil},
		{"first without all TCP options", cut.Piece(options, 0, 56, 7), ErrFragment},
		{"first with all TCP options", cut.Piece(options, 0, 64, 7), nil},
		{"first of another protocol", cut.Piece(ip4(47, make([]byte, 100)), 0, 8, 7), nil},
		{"UDP that states no more than the first fragment has", with(with(cut.Piece(udp4, 0, 400, 7), 24, 1), 25, 0x90), ErrFragment},
		{"UDP that states less than its header", with(with(cut.Piece(udp4, 0, 400, 7), 24, 0), 25, 7), ErrFragment},

		{"IPv4 without data", cut.Piece(udp4, 400, 400, 7), ErrFragment},
		{"IPv6 without data", cut.Piece(udp6, 400, 400, 7), ErrFragment},
		{"IPv4, more, but no multiple of 8", cut.Piece(udp4, 400, 604, 7), ErrFragment},
		{"IPv6, more, but no multiple of 8", cut.Piece(udp6, 400, 604, 7), ErrFragment},
		{"IPv4 up to 65,535 bytes", place4(cut.Piece(udp4, 800-35, 800, 7), 65480), nil},
		{"IPv4 up to 65,536 bytes", place4(cut.Piece(udp4, 800-36, 800, 7), 65480), ErrFragment},
		{"IPv6 up to 65,535 bytes", place6(cut.Piece(odd6, 792, 799, 7), 65528), nil},
		{"IPv6 up to 65,536 bytes", place6(cut.Piece(udp6, 800-8, 800, 7), 65528), ErrFragment},
		{"IPv6 with options up to 65,536 bytes", place6(hopByHop(cut.Piece(udp6, 800-8, 800, 7)), 65520), ErrFragment},
		{"IPv6 with options up to 65,535 bytes", place6(hopByHop(cut.Piece(odd6, 792, 799, 7)), 65520), nil},

		{"chain that goes on in another fragment", with(with(cut.Piece(udp6, 0, 16, 7), 40, byte(extDestination)), 49, 2), ErrFragment},
		{"chain that ends in the first fragment, which holds no ports", with(cut.Piece(ip6(extDestination, ext(UDP, 0, udpBody(40))), 0, 8, 7), 49, 0), ErrFragment},
		{"chain and ports in the first fragment", cut.Piece(ip6(extDestination, ext(UDP, 0, udpBody(40))), 0, 24, 7), nil},
		{"fragment in a fragment", cut.Piece(ip6(extFragment, ext(UDP, 0, udpBody(40))), 0, 24, 7), ErrFragment},
		{"atomic fragment", ip6(extFragment, ext(UDP, 0, udpBody(8))), nil},
		{"IPv6 header cut off", ip6(extFragment, []byte{17, 0, 0, 8}), ErrMalformed},
		{"ICMPv6 in IPv4", with(cut.Piece(udp4, 400, 600, 7), 9, byte(ICMPv6)), ErrMalformed},
		{"ICMP in IPv6", with(cut.Piece(udp6, 0, 400, 7), 40, byte(ICMP)), ErrMalformed},
		{"too long", cut.Piece(whole(4, UDP, 1400-20), 0, 1264, 7), ErrTooLong},
		{"length", append(cut.Piece(udp4, 400, 600, 7), 0), ErrMalformed},
	}
	for _, test := range tests {
		p, err := ParseFragment(test.b)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if (err == nil) == p.IsZero() {
			t.Errorf("%s: zero Packet is %v", test.name, p.IsZero())
		}
		if _, err := Parse(test.b); (err == nil) != (test.want == nil && !p.IsFragment()) {
			t.Errorf("%s: as a whole packet: %v", test.name, err)
		}
	}
}

func TestFragmentFields(t *testing.T) {
	for version, id := range map[int]uint32{4: 0xfedc, 6: 0xfedcba98} {
		whole := ip4(UDP, udpBody(800))
		if version == 6 {
			whole = ip6(UDP, udpBody(800))
		}
		if p := mustParse(t, whole); p.IsFragment() || p.isLater() {
			t.Errorf("IPv%d: a whole packet is a fragment", version)
		}
		first := mustParseFragment(t, cut.Piece(whole, 0, 400, id))
		if got, want := first.Fragment(), (Fragment{ID: id, Proto: UDP, Len: 400, More: true}); got != want || !first.IsFragment() || first.isLater() {
			t.Errorf("IPv%d first: %+v, want %+v", version, got, want)
		}
		if first.SrcPort() != 5000 || first.DstPort() != 443 || first.Proto() != UDP || len(first.Payload()) != 392 {
			t.Errorf("IPv%d first: %d → %d, %d bytes", version, first.SrcPort(), first.DstPort(), len(first.Payload()))
		}
		last := mustParseFragment(t, cut.Piece(whole, 600, 800, id))
		if got, want := last.Fragment(), (Fragment{ID: id, Proto: UDP, Offset: 600, Len: 200}); got != want || !last.isLater() {
			t.Errorf("IPv%d last: %+v, want %+v", version, got, want)
		}
		if last.Proto() != None || last.SrcPort() != 0 || last.DstPort() != 0 || len(last.Payload()) != 200 || last.Src() != srcOf(version) || last.Dst() != dstOf(version) {
			t.Errorf("IPv%d last: protocol %d, %d → %d, %d bytes", version, last.Proto(), last.SrcPort(), last.DstPort(), len(last.Payload()))
		}
		// Data that looks like an echo, an error or a SYN is none.
		for _, proto := range []Proto{ICMP, ICMPv6, TCP} {
			b := cut.Piece(whole, 600, 800, id)
			if b[9], b[40] = byte(proto), byte(proto); version == 6 {
				b[9] = 0
			}
			copy(b[len(b)-200:], []byte{3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, byte(SYN)})
			if p, err := ParseFragment(b); err == nil && (p.IsICMPError() || p.TCPFlags() != 0) {
				t.Errorf("IPv%d: later fragment of protocol %d has a transport header", version, proto)
			}
		}
	}
}

// Errors may be sent about the first fragment of a datagram, never about others
// (N38).
func TestErrorsAboutFragments(t *testing.T) {
	for _, whole := range [][]byte{ip4(UDP, udpBody(800)), ip6(UDP, udpBody(800))} {
		first, last := mustParseFragment(t, cut.Piece(whole, 0, 400, 7)), mustParseFragment(t, cut.Piece(whole, 400, 800, 7))
		if _, ok := AppendProhibited(nil, last); ok {
			t.Error("an error answers a later fragment")
		}
		b, ok := AppendProhibited(nil, first)
		if !ok {
			t.Fatal("no error answers a first fragment")
		}
		q, ok := mustParse(t, b).Quote()
		if !ok || q.Proto() != UDP || q.SrcPort() != 5000 || q.DstPort() != 443 {
			t.Errorf("quote of a first fragment: %v, %d %d → %d", ok, q.Proto(), q.SrcPort(), q.DstPort())
		}
		// A router may report about any fragment; only the first can be told.
		e := bytes.Clone(b)
		copy(e[len(e)-len(first.Bytes()):], last.Bytes()[:min(len(first.Bytes()), len(last.Bytes()))])
		if p, err := Parse(e); err != nil {
			t.Fatal(err)
		} else if _, ok := p.Quote(); ok {
			t.Error("quote of a later fragment")
		}
	}
}

// A datagram whose fragments are rewritten one by one is the one that is
// rewritten as a whole.
func TestRewritingFragmentsKeepsChecksums(t *testing.T) {
	sizes := []int{1260, 1400, 4000, 8000, 65507}
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		from, to, real := netip.MustParseAddrPort("100.64.0.7:5000"), netip.MustParseAddrPort("100.96.0.3:443"), netip.MustParseAddr("10.0.0.9")
		if seed%2 == 1 {
			from, to, real = netip.MustParseAddrPort("[fd00:2021:1111::7]:5000"), netip.MustParseAddrPort("[fd00:2021:1111:8000::3]:443"), netip.MustParseAddr("2001:db8::9")
		}
		payload := make([]byte, sizes[rng.IntN(len(sizes))])
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		original := AppendUDP(nil, from, to, payload)
		want := AppendUDP(nil, netip.AddrPortFrom(from.Addr(), 6000), netip.AddrPortFrom(real, 443), payload)
		if from.Addr().Is4() && seed%4 == 0 { // the sender computed no checksum
			original[26], original[27], want[26], want[27] = 0, 0, 0, 0
		}
		fragments := cut.Apart(original, MaxSize, 7)
		for _, b := range fragments {
			p := mustParseFragment(t, b)
			p.SetDst(real)
			p.SetSrcPort(6000)
			p.SetFragmentID(0xbeef)
			if !p.ValidChecksums() {
				t.Fatalf("seed %d: header checksum", seed)
			}
			p.Resum() // must not take the part for the whole
		}
		got, id, ok := cut.Together(fragments...)
		if !ok || id != 0xbeef || !cut.Sound(got) {
			t.Fatalf("seed %d: together: %v, ID %x, checksums right: %v", seed, ok, id, cut.Sound(got))
		}
		if got[0]>>4 == 4 { // but for what tells fragments
			copy(got[4:8], want[4:8])
			copy(got[10:12], want[10:12])
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %d bytes differ from those rewritten as a whole", seed, len(want))
		}
	}
}

func FuzzParseFragment(f *testing.F) {
	for _, b := range [][]byte{ip4(UDP, udpBody(100)), ip6(UDP, udpBody(100)), ip4(TCP, tcpBody(100)), ip6(extDestination, ext(UDP, 0, udpBody(80))),
		ip4(ICMP, append([]byte{8, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 80)...)), ip6(ICMPv6, append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, sample6(TCP)...))} {
		f.Add(b)
		f.Add(cut.Piece(b, 0, 40, 7))
		f.Add(cut.Piece(b, 40, 64, 7))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, err := Parse(b)
		p, errToo := ParseFragment(b)
		switch {
		case err == nil && (errToo != nil || p.IsFragment() || p.transport != whole.transport || p.proto != whole.proto || p.checksum != whole.checksum):
			t.Fatalf("% x: a whole packet, but as a fragment %v", b, errToo)
		case errToo != nil:
			return
		case err != nil && !p.IsFragment():
			t.Fatalf("% x: no whole packet, but no fragment either", b)
		case !p.IsFragment():
			return
		case !errors.Is(err, ErrFragment):
			t.Fatalf("% x: %v, want %v", b, err, ErrFragment)
		}
		place := p.Fragment()
		if place.Len == 0 || int(place.Offset)+int(place.Len) > 0xffff || place.More && place.Len%8 != 0 || place.Offset%8 != 0 || int(place.Len) > len(b)-headerLen4 {
			t.Fatalf("% x: %+v", b, place)
		}
		valid, before := p.ValidChecksums(), bytes.Clone(b)
		src, dst := p.Src(), p.Dst()
		p.SetSrc(dst)
		p.SetDst(src)
		p.SetSrcPort(p.DstPort())
		p.SetFragmentID(^place.ID)
		p.SetFragmentID(place.ID)
		p.Payload()
		p.Control()
		if q, err := ParseFragment(b); err != nil || q.Fragment() != place || p.ValidChecksums() != valid {
			t.Fatalf("% x: %v after swapping the ends, valid was %v", before, err, valid)
		}
		if place.Offset != 0 {
			if _, ok := AppendProhibited(nil, p); ok || p.SrcPort() != 0 || p.TCPFlags() != 0 || p.IsICMPError() {
				t.Fatalf("% x: a later fragment with a transport header", before)
			}
		}
	})
}

func mustParseFragment(t testing.TB, b []byte) Packet {
	t.Helper()
	p, err := ParseFragment(b)
	if err != nil {
		t.Fatalf("% x: %v", b, err)
	}
	return p
}

// place4 and place6 move a fragment within its datagram.
func place4(b []byte, offset int) []byte {
	binary.BigEndian.PutUint16(b[6:], binary.BigEndian.Uint16(b[6:])&0x2000|uint16(offset/8))
	return b
}

func place6(b []byte, offset int) []byte {
	at := 42
	if b[6] == byte(extHopByHop) {
		at += 8
	}
	binary.BigEndian.PutUint16(b[at:], binary.BigEndian.Uint16(b[at:])&1|uint16(offset))
	return b
}

// hopByHop puts options of 8 bytes in front of the fragment header.
func hopByHop(b []byte) []byte {
	b = append(append(bytes.Clone(b[:40]), ext(Proto(b[6]), 0, nil)...), b[40:]...)
	b[6] = byte(extHopByHop)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}
