package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever packets go in, the frames made of them are cut into the very same
// packets, and those of a flow stay in order.
func TestCoalescedFramesSplitIntoTheSamePackets(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		packets := anyBatch(rng)
		want := map[string][][]byte{}
		for _, p := range packets {
			want[flowOf(p)] = append(want[flowOf(p)], bytes.Clone(p))
		}
		got := map[string][][]byte{}
		for _, p := range throughKernel(t, packets) {
			got[flowOf(p)] = append(got[flowOf(p)], p)
		}
		for flow, w := range want {
			g := got[flow]
			if len(g) != len(w) {
				t.Fatalf("seed %d: flow %s: got %d packets, want %d", seed, flow, len(g), len(w))
			}
			for i := range w {
				if !bytes.Equal(g[i], w[i]) {
					t.Fatalf("seed %d: flow %s: packet %d:\ngot  %x\nwant %x", seed, flow, i, g[i], w[i])
				}
			}
		}
	}
}

// One row for each reason to take a packet along or to leave it.
func TestWhatCoalesces(t *testing.T) {
	type change func(first, second *segment)
	for _, c := range []struct {
		name   string
		change change
		trains int
	}{
		{"successors", func(a, b *segment) {}, 1},
		{"shorter last", func(a, b *segment) { b.size = 500 }, 1},
		{"push on the last", func(a, b *segment) { b.flags |= flagPSH }, 1},
		{"IPv6", func(a, b *segment) { a.v6, b.v6 = true, true }, 1},
		{"no DF, next identification", func(a, b *segment) { a.df, b.df, b.id = false, false, a.id+1 }, 1},
		{"UDP", func(a, b *segment) { a.udp, b.udp = true, true }, 1},

		{"longer second", func(a, b *segment) { a.size = 500; b.seq = a.seq + 500 }, 2},
		{"gap", func(a, b *segment) { b.seq++ }, 2},
		{"swapped", func(a, b *segment) { *a, *b = *b, *a }, 2},
		{"push on the first", func(a, b *segment) { a.flags |= flagPSH }, 2},
		{"FIN", func(a, b *segment) { b.flags |= flagFIN }, 2},
		{"no payload", func(a, b *segment) { b.size = 0 }, 2},
		{"other acknowledgement", func(a, b *segment) { b.ack++ }, 2},
		{"other window", func(a, b *segment) { b.window++ }, 2},
		{"other options", func(a, b *segment) { b.options = []byte{1, 1, 1, 1} }, 2},
		{"other port", func(a, b *segment) { b.port++ }, 2},
		{"other hop limit", func(a, b *segment) { b.ttl++ }, 2},
		{"other ECN", func(a, b *segment) { b.tos = 3 }, 2},
		{"no DF, same identification", func(a, b *segment) { a.df, b.df = false, false }, 2},
		{"one fragment", func(a, b *segment) { b.fragment = 5 }, 2},
		{"UDP, longer second", func(a, b *segment) { a.udp, b.udp, a.size = true, true, 500 }, 2},
		{"UDP without checksum", func(a, b *segment) { a.udp, b.udp, b.unchecked = true, true, true }, 2},
		{"first damaged", func(a, b *segment) { a.damaged = true }, 2},
		{"second damaged", func(a, b *segment) { b.damaged = true }, 2},
		{"protocols mixed", func(a, b *segment) { b.udp = true }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := segment{df: true, id: 7, seq: 1000, ack: 5, window: 100, flags: flagACK, size: 1000, port: 80, ttl: 64}
			b := a
			b.seq += 1000
			c.change(&a, &b)
			rng := rand.New(rand.NewPCG(1, 2))
			packets := [][]byte{a.bytes(rng), b.bytes(rng)}
			row := coalescer{udp: true}
			if row.board(packets); len(row.trains) != c.trains {
				t.Errorf("%d trains, want %d", len(row.trains), c.trains)
			}
			row.udp = false
			if row.board(packets); a.udp && len(row.trains) != 2 {
				t.Errorf("%d trains though the kernel takes no UDP frames", len(row.trains))
			}
		})
	}
}

func TestTrainsHaveLimits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	row := coalescer{udp: true}
	var packets [][]byte
	for range batchSize {
		packets = append(packets, (&segment{udp: true, df: true, size: 10}).bytes(rng))
	}
	if row.board(packets); len(row.trains) != 2 || row.trains[0].count != maxUDP {
		t.Errorf("128 small datagrams: %d trains", len(row.trains))
	}
	packets = packets[:0]
	for i := range 60 {
		packets = append(packets, (&segment{df: true, flags: flagACK, size: 1240, seq: uint32(i * 1240)}).bytes(rng))
	}
	row.board(packets)
	if len(row.trains) != 2 || row.trains[0].total > maxFrame {
		t.Errorf("60 full TCP packets: %d trains, the first of %d bytes", len(row.trains), row.trains[0].total)
	}
}

// A frame that is larger than the reader's buffers, because somebody raised
// the MTU, is told as packets of size 0.
func TestPacketsThatDoNotFit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := (&segment{df: true, flags: flagACK, size: 5000}).bytes(rng)
	var f frame
	n := copy(f.buf[vnetLen:], p)
	clear(f.buf[:vnetLen])
	if err := f.load(vnetLen + n); err != nil {
		t.Fatal(err)
	}
	if got := f.next(make([]byte, 1280)); got != 0 || f.packet != nil {
		t.Errorf("plain: size %d, more %v", got, f.packet != nil)
	}
	v := vnet{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gsoType: unix.VIRTIO_NET_HDR_GSO_TCPV4, gsoSize: 3000, checksumStart: 20, checksumField: 16}
	v.encode(f.buf[:])
	if err := f.load(vnetLen + n); err != nil {
		t.Fatal(err)
	}
	if a, b := f.next(make([]byte, 2500)), f.next(make([]byte, 2500)); a != 0 || b != 2040 || f.packet != nil {
		t.Errorf("segment: sizes %d and %d, more %v", a, b, f.packet != nil)
	}
}

func TestChecksumOfOddLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := make([]byte, n)
		fill(rng, b)
		want := uint32(0)
		for i := 0; i < n; i += 2 {
			hi, lo := b[i], byte(0)
			if i+1 < n {
				lo = b[i+1]
			}
			want += uint32(hi)<<8 | uint32(lo)
		}
		for want > 0xffff {
			want = want>>16 + want&0xffff
		}
		var got [2]byte
		putSum(got[:], fold(sum(b, 0)))
		if g := binary.BigEndian.Uint16(got[:]); uint32(g) != want {
			t.Fatalf("%d bytes: got %#x, want %#x", n, g, want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := (&segment{df: true, flags: flagACK, size: 3000}).bytes(rng)
	for _, kind := range []uint8{0, unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.VIRTIO_NET_HDR_GSO_TCPV6, unix.VIRTIO_NET_HDR_GSO_UDP_L4} {
		v := vnet{flags: 1, gsoType: kind, gsoSize: 1000, checksumStart: 20, checksumField: 16}
		seed := make([]byte, vnetLen)
		v.encode(seed)
		f.Add(append(seed, p...))
	}
	var fr frame
	dst := make([]byte, 1280)
	f.Fuzz(func(t *testing.T, b []byte) {
		n := copy(fr.buf[:], b)
		if fr.load(n) != nil {
			return
		}
		for i := 0; fr.packet != nil; i++ {
			if fr.next(dst); i > maxFrame {
				t.Fatal("the frame has no end")
			}
		}
	})
}

// Any bytes may come out of a tunnel. All of them end up in exactly one train.
func FuzzCoalesce(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	a := segment{df: true, flags: flagACK, size: 100}
	b := a
	b.seq += 100
	f.Add(a.bytes(rng), b.bytes(rng), []byte{})
	f.Add([]byte{0x45}, []byte{0x60}, bytes.Repeat([]byte{0x60}, 41))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		row := coalescer{udp: true}
		packets := [][]byte{a, b, c}
		row.board(packets)
		n := 0
		var v [vnetLen]byte
		for i := range row.trains {
			tr := &row.trains[i]
			tr.couple(packets[tr.first], packets[tr.last], v[:])
			for k := tr.first; k >= 0; k = row.next[k] {
				n++
			}
		}
		if n != len(packets) {
			t.Fatalf("%d packets are in trains", n)
		}
	})
}

// throughKernel coalesces packets and splits the frames again.
func throughKernel(t *testing.T, packets [][]byte) [][]byte {
	t.Helper()
	var out [][]byte
	var f frame
	d := Device{row: coalescer{udp: true}}
	d.out.packets = packets
	d.row.board(packets)
	for i := range d.row.trains {
		d.gather(&d.row.trains[i])
		n := 0
		for _, v := range d.out.iovecs {
			if v.Len > 0 {
				n += copy(f.buf[n:], bytesOf(v))
			}
		}
		if err := f.load(n); err != nil {
			t.Fatal(err)
		}
		for f.packet != nil {
			dst := make([]byte, 1500)
			out = append(out, dst[:f.next(dst)])
		}
	}
	return out
}

// anyBatch makes packets of a few flows, mostly in sequence.
func anyBatch(rng *rand.Rand) [][]byte {
	flows := make([]segment, 1+rng.IntN(4))
	for i := range flows {
		flows[i] = segment{
			v6: rng.IntN(2) == 0, udp: rng.IntN(3) == 0, df: rng.IntN(3) > 0, id: uint16(rng.Uint32()), seq: rng.Uint32(), ack: rng.Uint32(),
			window: uint16(rng.Uint32()), flags: flagACK, port: uint16(i), ttl: 64, size: 1 + rng.IntN(1200),
		}
		if rng.IntN(2) == 0 {
			flows[i].options = []byte{1, 1, 8, 10, 0, 0, 0, byte(i), 0, 0, 0, 2}
		}
	}
	var packets [][]byte
	for range 1 + rng.IntN(batchSize) {
		s := &flows[rng.IntN(len(flows))]
		odd := *s
		switch rng.IntN(12) {
		case 0:
			odd.flags |= flagPSH
		case 1:
			odd.flags |= []uint8{flagFIN, 0x02, 0x04, 0x40}[rng.IntN(4)]
		case 2:
			odd.size = rng.IntN(s.size + 1)
		case 3:
			odd.size = 0
		case 4:
			odd.ack++
		case 5:
			odd.damaged = true
		case 6:
			odd.tos = uint8(rng.IntN(4))
		}
		packets = append(packets, odd.bytes(rng))
		s.seq += uint32(odd.size)
		s.id++
		if rng.IntN(10) == 0 {
			s.seq += uint32(rng.IntN(3000)) // loss
		}
	}
	return packets
}

// A segment describes a TCP or UDP packet.
type segment struct {
	v6, udp, df, damaged, unchecked bool
	id, window, port, fragment      uint16
	seq, ack                        uint32
	tos, ttl, flags                 uint8
	size                            int
	options                         []byte
}

// bytes builds the packet, slowly, with checksums.
func (s *segment) bytes(rng *rand.Rand) []byte {
	protocol, h := uint8(unix.IPPROTO_TCP), make([]byte, tcpHeaderLen, 1500)
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], s.port)
	if s.udp {
		protocol, h = unix.IPPROTO_UDP, h[:udpHeaderLen]
		binary.BigEndian.PutUint16(h[udpLength:], uint16(udpHeaderLen+s.size))
	} else {
		binary.BigEndian.PutUint32(h[tcpSequence:], s.seq)
		binary.BigEndian.PutUint32(h[tcpAck:], s.ack)
		h[tcpOffset], h[tcpFlags] = byte(5+len(s.options)/4)<<4, s.flags
		binary.BigEndian.PutUint16(h[tcpWindow:], s.window)
		h = append(h, s.options...)
	}
	payload := make([]byte, s.size)
	fill(rng, payload)
	h = append(h, payload...)

	ip := make([]byte, v4HeaderLen)
	if s.v6 {
		ip = make([]byte, v6HeaderLen)
		ip[0], ip[1], ip[v6NextHeader], ip[7] = 0x60, s.tos<<4, protocol, s.ttl
		ip[8], ip[24] = 0xfd, 0xfd
	} else {
		ip[0], ip[1], ip[8], ip[v4Protocol] = 0x45, s.tos, s.ttl, protocol
		binary.BigEndian.PutUint16(ip[v4ID:], s.id)
		binary.BigEndian.PutUint16(ip[v4Fragment:], s.fragment)
		if s.df {
			ip[v4Fragment] |= dontFragment
		}
		ip[12], ip[16] = 10, 11
	}
	p := append(ip, h...)
	setLength(p, len(p))
	at := tcpChecksum
	if s.udp {
		at = udpChecksum
	}
	field := p[len(ip)+at:]
	putSum(field, checksum(add(sum(p[len(ip):], pseudo(p, protocol)), number(uint16(len(h))))))
	if s.damaged {
		field[0] ^= 0x55
	}
	if s.unchecked {
		field[0], field[1] = 0, 0
	}
	return p
}

func fill(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// flowOf names a packet's flow, for those that segment builds.
func flowOf(p []byte) string {
	if p[0]>>4 == 6 {
		return fmt.Sprint(6, p[v6NextHeader], p[v6HeaderLen:v6HeaderLen+4])
	}
	return fmt.Sprint(4, p[v4Protocol], p[v4HeaderLen:v4HeaderLen+4])
}
