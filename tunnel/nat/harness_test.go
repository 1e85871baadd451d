package nat

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// The world of the tests: one client, names foo and bar, real addresses A, B
// and C.
var (
	client4 = netip.MustParseAddr("100.64.0.7")
	client6 = netip.MustParseAddr("fd00:2021:1111::7")
	gateway = netip.MustParseAddr("100.64.0.1")

	addrA = netip.MustParseAddr("10.0.0.1")
	addrB = netip.MustParseAddr("10.0.0.2")
	addrC = netip.MustParseAddr("10.0.0.3")
	addrD = netip.MustParseAddr("2001:db8::1")

	foo = proxies(0) // P1–P4 and their IPv6 counterparts
	bar = proxies(4) // P5–P8

	wiki  = id.Resource{15: 1}
	epoch = time.Unix(1_800_000_000, 0)
)

const (
	syn = packet.SYN
	ack = packet.ACK
	fin = packet.FIN
	rst = packet.RST
)

func proxies(first byte) []netip.Addr {
	var list []netip.Addr
	for i := range byte(4) {
		list = append(list, netip.AddrFrom4([4]byte{100, 96, 0, 1 + first + i}),
			netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x20, 3: 0x21, 4: 0x11, 5: 0x11, 6: 0x80, 15: first + i}))
	}
	return list
}

// p4 and p6 are the n-th proxy addresses of a name, n from 0.
func p4(name []netip.Addr, n int) netip.Addr { return name[2*n] }
func p6(name []netip.Addr, n int) netip.Addr { return name[2*n+1] }

// A world is a Table on virtual time.
type world struct {
	testing.TB
	*Table
	now time.Time
}

func newWorld(t testing.TB) *world {
	return &world{TB: t, Table: New(Config{Rand: rand.New(rand.NewPCG(1, 2))}, epoch), now: epoch}
}

// all is as much as there is, for Sweep.
const all = math.MaxInt

// unpaced lets any number of sessions begin at once.
var unpaced = newPace(1e9, 1<<30)

// at moves the clock to that time after the start.
func (w *world) at(d time.Duration) { w.now = epoch.Add(d) }

// announce lets a name's proxies stand for it and answers at once.
func (w *world) announce(name string, p []netip.Addr, answer ...netip.Addr) {
	w.Helper()
	if !w.Announce(name, wiki, p, w.now) {
		w.Fatal("announcement refused")
	}
	w.answer(name, p, answer...)
}

func (w *world) answer(name string, p []netip.Addr, answer ...netip.Addr) {
	var v4, v6 Outcome
	for _, a := range answer {
		if a.Is4() {
			v4.Addrs = append(v4.Addrs, a)
		} else {
			v6.Addrs = append(v6.Addrs, a)
		}
	}
	w.Answer(name, p, v4, v6, w.now)
}

// fail is a resolution without any outcome.
func (w *world) fail(name string, p []netip.Addr) {
	w.Answer(name, p, Outcome{Failed: true}, Outcome{Failed: true}, w.now)
}

// out sends b outbound; the verdict must be want.
func (w *world) out(b []byte, want Verdict) packet.Packet {
	w.Helper()
	p := parse(w, b)
	if got := w.Out(p, w.now); got != want {
		w.Fatalf("at %v: verdict %v, want %v", w.now.Sub(epoch), got, want)
	}
	return p
}

// goes sends b outbound; it must be forwarded to x.
func (w *world) goes(b []byte, x netip.Addr) packet.Packet {
	w.Helper()
	p := w.out(b, Forward)
	if p.Dst() != x {
		w.Fatalf("at %v: went to %v, want %v", w.now.Sub(epoch), p.Dst(), x)
	}
	if !p.ValidChecksums() {
		w.Fatalf("at %v: invalid checksum", w.now.Sub(epoch))
	}
	return p
}

// comes sends b inbound; it must reach the client from address p.
func (w *world) comes(b []byte, p netip.Addr) packet.Packet {
	w.Helper()
	in := parse(w, b)
	s := w.Match(in, w.now)
	if s == nil {
		w.Fatalf("at %v: no session", w.now.Sub(epoch))
	}
	w.In(s, in, w.now)
	if in.Src() != p {
		w.Fatalf("at %v: came from %v, want %v", w.now.Sub(epoch), in.Src(), p)
	}
	if !in.ValidChecksums() {
		w.Fatalf("at %v: invalid checksum", w.now.Sub(epoch))
	}
	return in
}

// dropped sends b inbound; no session may take it, and it stays as it is.
func (w *world) dropped(b []byte) {
	w.Helper()
	if s := w.Match(parse(w, b), w.now); s != nil {
		w.Fatalf("at %v: a session took it", w.now.Sub(epoch))
	}
}

// handshake opens a TCP connection and returns the outside port.
func (w *world) handshake(port uint16, proxy, x netip.Addr) uint16 {
	w.Helper()
	outside := w.goes(tcp(client4, proxy, port, 443, syn), x).SrcPort()
	w.comes(tcp(x, client4, 443, outside, syn|ack), proxy)
	w.goes(tcp(client4, proxy, port, 443, ack), x)
	return outside
}

func parse(t testing.TB, b []byte) packet.Packet {
	t.Helper()
	p, err := packet.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func udp(src, dst netip.Addr, sport, dport uint16) []byte {
	return packet.AppendUDP(nil, netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), []byte("data"))
}

func tcp(src, dst netip.Addr, sport, dport uint16, flags packet.TCPFlags) []byte {
	b := make([]byte, 20, 24)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[12], b[13] = 0x50, byte(flags)
	return ip(src, dst, packet.TCP, append(b, "data"...))
}

func echo(src, dst netip.Addr, id uint16, request bool) []byte {
	typ := byte(0)
	switch {
	case src.Is6() && request:
		typ = 128
	case src.Is6():
		typ = 129
	case request:
		typ = 8
	}
	return ip(src, dst, icmpOf(src), []byte{typ, 0, 0, 0, byte(id >> 8), byte(id), 0, 1, 'd'})
}

// icmpError is an error of the given type about a packet.
func icmpError(src, dst netip.Addr, typ byte, about []byte) []byte {
	return ip(src, dst, icmpOf(src), append([]byte{typ, 1, 0, 0, 0, 0, 5, 0}, about...))
}

func icmpOf(a netip.Addr) packet.Proto {
	if a.Is6() {
		return packet.ICMPv6
	}
	return packet.ICMP
}

// ip puts an IP header in front of body and computes the checksums.
func ip(src, dst netip.Addr, proto packet.Proto, body []byte) []byte {
	if src.Is6() {
		b := []byte{0x60, 0, 0, 0, byte(len(body) >> 8), byte(len(body)), byte(proto), 64}
		b = append(append(append(b, src.AsSlice()...), dst.AsSlice()...), body...)
		p, _ := packet.Parse(b)
		p.Resum()
		return b
	}
	n := 20 + len(body)
	b := []byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0x40, 0, 64, byte(proto), 0, 0}
	b = append(append(append(b, src.AsSlice()...), dst.AsSlice()...), body...)
	sum := 0
	for i := 0; i < 20; i += 2 {
		sum += int(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum&0xffff))
	p, err := packet.Parse(b)
	if err != nil {
		panic(err)
	}
	p.Resum()
	return b
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
