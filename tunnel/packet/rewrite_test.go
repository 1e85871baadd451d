package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Valid checksums stay valid and equal what a computation from scratch gives;
// invalid ones keep their difference; only the fields that were set change
// (spec gateway-nat.md N39, N40).
func TestN39ChecksumsFollowTheirDifference(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 39))
		p := mustParse(t, anyPacket(rng))
		corrupt := uint16(0)
		if p.checksum != 0 && rng.IntN(3) == 0 {
			corrupt = uint16(rng.IntN(0xfffe) + 1)
			p.shiftChecksum(corrupt)
		}
		before := bytes.Clone(p.Bytes())
		for range 1 + rng.IntN(6) {
			rewriteSomething(rng, p)
		}

		if corrupt != 0 {
			p.shiftChecksum(^corrupt)
		}
		if !p.ValidChecksums() {
			t.Fatalf("seed %d: % x became % x", seed, before, p.Bytes())
		}
		if got, want := p.Bytes(), fromScratch(t, p.Bytes()); !bytes.Equal(got, want) && corrupt == 0 {
			t.Fatalf("seed %d: % x, computed from scratch % x", seed, got, want)
		}
		for i := range before {
			if before[i] != p.b[i] && !settable(p, i) {
				t.Fatalf("seed %d: byte %d of % x changed to %#x", seed, i, before, p.b[i])
			}
		}
	}
}

func TestN39UDPZero(t *testing.T) {
	for _, version := range []int{4, 6} {
		p := mustParse(t, sample(version, UDP))
		binary.BigEndian.PutUint16(p.b[p.checksum:], 0)
		p.SetSrcPort(1)
		p.SetDst(p.Src())
		if got := binary.BigEndian.Uint16(p.b[p.checksum:]); got != 0 {
			t.Errorf("IPv%d: no checksum became %#x", version, got)
		}
		// For each port there is one source port that makes the sum zero.
		zeros := 0
		for port := range 1 << 16 {
			p := mustParse(t, sample(version, UDP))
			p.SetSrcPort(uint16(port))
			switch binary.BigEndian.Uint16(p.b[p.checksum:]) {
			case 0:
				t.Fatalf("IPv%d port %d: a computed zero went out as zero", version, port)
			case 0xffff:
				zeros++
			}
			if !p.ValidChecksums() {
				t.Fatalf("IPv%d port %d: invalid", version, port)
			}
		}
		if zeros == 0 {
			t.Errorf("IPv%d: no port met the case", version)
		}
	}
}

// A checksum of minus zero is valid, too, and must survive each change.
func TestMinusZero(t *testing.T) {
	for port := range 1 << 16 {
		p := mustParse(t, sample4(TCP))
		p.SetSrcPort(uint16(port))
		if binary.BigEndian.Uint16(p.b[p.checksum:]) != 0 {
			continue
		}
		binary.BigEndian.PutUint16(p.b[p.checksum:], 0xffff)
		for to := range 1 << 16 {
			p.SetSrcPort(uint16(to))
			if !p.ValidChecksums() {
				t.Fatalf("from minus zero at port %d to %d: invalid", port, to)
			}
		}
		return
	}
	t.Fatal("no port gives a sum of zero")
}

func TestRewritingDoesNotAllocate(t *testing.T) {
	b4, b6 := sample4(TCP), sample6(UDP)
	if n := testing.AllocsPerRun(100, func() { rewriteOnce(b4); rewriteOnce(b6) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The checksum of a corrupted quote is never repaired, and the error's own is
// right again after Resum.
func TestQuote(t *testing.T) {
	for _, version := range []int{4, 6} {
		for _, proto := range []Proto{TCP, UDP, icmpOf(version)} {
			inner := sample(version, proto)
			for _, cut := range []int{4, 7, 8, 16, 18, len(inner)} {
				if cut < 8 && proto == icmpOf(version) {
					continue
				}
				headers := headerLen4
				typ, code := byte(3), byte(1)
				if version == 6 {
					headers, typ, code = headerLen6, 1, 3
				}
				quoted := inner[:min(len(inner), headers+cut)]
				message := append([]byte{typ, code, 0, 0, 0, 0, 5, 6}, quoted...)
				var p Packet
				if version == 4 {
					p = mustParse(t, ip4(ICMP, message))
				} else {
					p = mustParse(t, ip6(ICMPv6, message))
				}
				q, ok := p.Quote()
				if !ok {
					t.Fatalf("IPv%d protocol %d cut at %d: no quote", version, proto, cut)
				}
				if q.Src() != srcOf(version) || q.Dst() != dstOf(version) || q.Proto() != proto {
					t.Fatalf("IPv%d: quote of %v → %v %d", version, q.Src(), q.Dst(), q.Proto())
				}

				other := netip.MustParseAddr("100.96.0.1")
				if version == 6 {
					other = netip.MustParseAddr("fd00:2021:1111:8000::1")
				}
				q.SetDst(other)
				q.SetSrcPort(6000)
				q.SetEchoID(8)
				p.Resum()

				want := mustParse(t, bytes.Clone(inner))
				want.SetDst(other)
				want.SetSrcPort(6000)
				want.SetEchoID(8)
				if got := p.Payload(); !bytes.Equal(maskChecksum(want, got, len(quoted)), maskChecksum(want, want.b, len(quoted))) {
					t.Errorf("IPv%d protocol %d cut at %d: % x, want % x", version, proto, cut, got, want.b)
				}
				if !p.ValidChecksums() {
					t.Errorf("IPv%d protocol %d cut at %d: the error's checksum is wrong", version, proto, cut)
				}
			}
		}
	}
}

func TestQuoteRefuses(t *testing.T) {
	quote := func(typ byte, inner []byte) []byte {
		return ip4(ICMP, append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, inner...))
	}
	tests := []struct {
		name string
		b    []byte
		want bool
	}{
		{"unreachable", quote(3, sample4(UDP)), true},
		{"time exceeded", quote(11, sample4(UDP)), true},
		{"parameter problem", quote(12, sample4(UDP)), true},
		{"redirect", quote(5, sample4(UDP)), false},
		{"echo", sample4(ICMP), false},
		{"not ICMP", sample4(UDP), false},
		{"nothing quoted", quote(3, nil), false},
		{"ports and no more", quote(3, sample4(UDP)[:24]), true},
		{"3 bytes of transport", quote(3, sample4(UDP)[:23]), false},
		{"7 bytes of an echo", quote(3, sample4(ICMP)[:27]), false},
		{"IPv6 inside", quote(3, sample6(UDP)), false},
		{"error inside", quote(3, quote(3, sample4(UDP))), false},
		{"options inside", quote(3, ip4Options(UDP, udpBody(8), 40)), true},
		{"header longer than the quote", quote(3, with(sample4(UDP), 0, 0x4f)), false},
		{"first fragment inside", quote(3, with(sample4(UDP), 6, 0x20)), true},
		{"later fragment inside", quote(3, with(sample4(UDP), 7, 1)), false},
		{"ICMPv6 in IPv4 inside", quote(3, with(sample4(UDP), 9, byte(ICMPv6))), false},
		{"GRE inside", quote(3, ip4(47, nil)), true},
		{"padded to 128 bytes for extensions", quote(3, append(sample4(UDP), make([]byte, 140-32)...)), true},
	}
	for _, test := range tests {
		if _, ok := mustParse(t, test.b).Quote(); ok != test.want {
			t.Errorf("%s: %v, want %v", test.name, ok, test.want)
		}
	}
}

func FuzzRewriteAgainstFromScratch(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		rng := rand.New(rand.NewPCG(a, b))
		p := mustParse(t, anyPacket(rng))
		for range 20 {
			rewriteSomething(rng, p)
			if got, want := p.Bytes(), fromScratch(t, p.Bytes()); !bytes.Equal(got, want) {
				t.Fatalf("% x, computed from scratch % x", got, want)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, bytes := range map[string][]byte{"tcp4": sample4(TCP), "udp6": sample6(UDP)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(bytes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRewrite(b *testing.B) {
	for name, bytes := range map[string][]byte{"tcp4": sample4(TCP), "udp6": sample6(UDP)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rewriteOnce(bytes)
			}
		})
	}
}

func rewriteOnce(b []byte) {
	p, _ := Parse(b)
	p.SetDst(p.Src())
	p.SetSrcPort(p.DstPort() + 1)
}

// anyPacket returns a whole packet with right checksums, of any kind, with a
// payload of many zeros or ones: sums of zero are then frequent.
func anyPacket(rng *rand.Rand) []byte {
	version := 4 + 2*rng.IntN(2)
	protos := []Proto{TCP, UDP, icmpOf(version), 47}
	proto := protos[rng.IntN(len(protos))]
	b := body(proto)
	if proto == 47 {
		b = nil
	}
	filler := []byte{0, 0xff, byte(rng.Uint32())}[rng.IntN(3)]
	for range rng.IntN(40) {
		b = append(b, filler)
	}
	if proto == UDP {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	}
	if version == 4 {
		return ip4Options(proto, b, 4*rng.IntN(11))
	}
	if rng.IntN(2) == 0 {
		return ip6(extDestination, append(append([]byte{byte(proto), 0}, make([]byte, 6)...), b...))
	}
	return ip6(proto, b)
}

func rewriteSomething(rng *rand.Rand, p Packet) {
	value := []uint16{0, 0xffff, uint16(rng.Uint32())}[rng.IntN(3)]
	var addr netip.Addr
	if p.Version() == 4 {
		var a [4]byte
		binary.BigEndian.PutUint16(a[rng.IntN(3):], value)
		addr = netip.AddrFrom4(a)
	} else {
		var a [16]byte
		binary.BigEndian.PutUint16(a[rng.IntN(8):], value)
		addr = netip.AddrFrom16(a)
	}
	switch rng.IntN(6) {
	case 0:
		p.SetSrc(addr)
	case 1:
		p.SetDst(addr)
	case 2:
		p.SetSrcPort(value)
	case 3:
		p.SetDstPort(value)
	case 4:
		p.SetEchoID(value)
	case 5:
		p.SetECN(uint8(value))
	}
}

// fromScratch returns b with its checksums computed by the obvious method:
// word by word, one's complement, over a pseudo-header made by hand.
func fromScratch(t testing.TB, b []byte) []byte {
	p := mustParse(t, bytes.Clone(b))
	slow := func(b []byte) uint16 {
		if len(b)%2 == 1 {
			b = append(bytes.Clone(b), 0)
		}
		s := 0
		for i := 0; i < len(b); i += 2 {
			s += int(b[i])<<8 | int(b[i+1])
			if s > 0xffff {
				s -= 0xffff
			}
		}
		return ^uint16(s)
	}
	if p.version == 4 {
		p.b[10], p.b[11] = 0, 0
		binary.BigEndian.PutUint16(p.b[10:], slow(p.b[:p.transport]))
	}
	if p.checksum == 0 {
		return p.b
	}
	p.b[p.checksum], p.b[p.checksum+1] = 0, 0
	covered := bytes.Clone(p.b[p.transport:])
	if p.proto != ICMP {
		src, dst := p.Src().AsSlice(), p.Dst().AsSlice()
		length := len(p.b) - int(p.transport)
		covered = bytes.Join([][]byte{src, dst, {0, byte(p.proto), byte(length >> 8), byte(length)}, covered}, nil)
	}
	c := slow(covered)
	if c == 0 && p.proto == UDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(p.b[p.checksum:], c)
	return p.b
}

// shiftChecksum adds d to the transport checksum, one's complement.
func (p Packet) shiftChecksum(d uint16) {
	c := fold(uint64(binary.BigEndian.Uint16(p.b[p.checksum:])) + uint64(d))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(p.b[p.checksum:], c)
}

// settable reports whether byte i belongs to a field that a setter may change.
func settable(p Packet, i int) bool {
	at := i - int(p.transport)
	switch {
	case p.version == 4 && (i >= 10 && i < 20 || i == 1), p.version == 6 && (i >= 8 && i < 40 || i == 1):
		return true
	case p.hasPorts() && at >= 0 && at < 4, p.checksum != 0 && (i == int(p.checksum) || i == int(p.checksum)+1):
		return true
	}
	_, _, echo := p.Echo()
	return echo && (at == 4 || at == 5)
}

// maskChecksum returns the first n bytes of a quoted packet, without its
// transport checksum where that is cut through.
func maskChecksum(p Packet, b []byte, n int) []byte {
	b = bytes.Clone(b[:n])
	if c := int(p.checksum); c < n && n < c+2 {
		b[c] = 0
	}
	return b
}
