package flight

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"stile/tunnel/packet"
	"stile/tunnel/wg"
)

// A Direction is whose packet it is.
type Direction uint8

// Out is from our TUN device towards a peer, In the other way round.
const (
	Out Direction = iota
	In
)

func (d Direction) String() string { return [...]string{"out", "in"}[d] }

// A header is what is recorded of a packet's own headers.
type header struct {
	addrs [4]uint64 // source and destination as they are in the header; of IPv4, both in the first
	ports uint32    // source and destination; of ICMP, type and code in their places
	// version is 4 or 6; 0: it is no packet.
	version uint8
	proto   packet.Proto
	flags   packet.TCPFlags
}

// read takes what it finds of a header, and looks at nothing behind it.
func (h *header) read(b []byte) {
	*h = header{}
	at := 0
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		h.version, h.proto, h.addrs[0] = 4, packet.Proto(b[9]), binary.BigEndian.Uint64(b[12:])
		if at = int(b[0]&15) * 4; at < 20 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return // a later fragment has no ports
		}
	case len(b) >= 40 && b[0]>>4 == 6:
		h.version, h.proto, at = 6, packet.Proto(b[6]), 40
		for i := range h.addrs {
			h.addrs[i] = binary.BigEndian.Uint64(b[8+8*i:])
		}
	default:
		return
	}
	switch h.proto {
	case packet.TCP:
		if len(b) >= at+20 {
			h.ports, h.flags = binary.BigEndian.Uint32(b[at:]), packet.TCPFlags(b[at+13])
		}
	case packet.UDP:
		if len(b) >= at+8 {
			h.ports = binary.BigEndian.Uint32(b[at:])
		}
	case packet.ICMP, packet.ICMPv6:
		if len(b) >= at+8 {
			h.ports = uint32(b[at])<<16 | uint32(b[at+1])
		}
	default:
		if h.version == 6 {
			h.extended(b)
		}
	}
}

// extended finds the transport behind the extension headers of IPv6.
func (h *header) extended(b []byte) {
	p, err := packet.ParseFragment(b)
	if err != nil || p.Proto() == h.proto {
		return
	}
	h.proto, h.flags = p.Proto(), p.TCPFlags()
	h.ports = uint32(p.SrcPort())<<16 | uint32(p.DstPort())
	if typ, code, ok := p.ICMP(); ok {
		h.ports = uint32(typ)<<16 | uint32(code)
	}
}

// addr returns source (0) or destination (1).
func (h *header) addr(i int) netip.Addr {
	if h.version == 4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(h.addrs[0]>>(32-32*i)))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], h.addrs[2*i])
	binary.BigEndian.PutUint64(b[8:], h.addrs[2*i+1])
	return netip.AddrFrom16(b)
}

// A flow is packets that share a line: of one header, direction, connection and
// outcome, in one second.
type flow struct {
	header
	direction   Direction
	connection  uint32
	remote      netip.AddrPort // of the first
	outcome     string
	first, last int64
	packets     uint32 // 0: the flow is no more
	bytes       uint32
}

// flows are those of one second: a slot for each value of a hash, so that a
// table that is too small costs lines, never time.
type flows [256]flow

const flowsCost = 40 << 10

// maxLooks bounds the packets in a second whose flow is looked up, about a
// thousandth of a processor's time. Those that go on with the flow before them
// in their batch, as most do when there are many, cost a tenth of that.
const maxLooks = 20_000

// alone are the flags of a packet that has a line of its own.
const alone = packet.SYN | packet.FIN | packet.RST

// A Batch is packets that are recorded one after the other. A nil one records
// nothing.
type Batch struct {
	record    *Recorder // locked
	direction Direction
	at        int64
	flow      *flow // that the packet before belongs to; nil: none, or it was not carried
	keys      *wg.Keys
}

// Begin begins a batch of packets of one direction. It locks the record; End
// must follow soon.
func (r *Recorder) Begin(d Direction, now time.Time) *Batch {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	at := now.UnixNano()
	r.advance(at)
	if r.flows == nil {
		r.flows = new(flows)
	}
	r.batch = Batch{record: r, direction: d, at: at}
	return &r.batch
}

// End ends the batch, which must not be used any more.
func (b *Batch) End() {
	if b != nil {
		b.flow, b.keys = nil, nil
		b.record.mu.Unlock()
	}
}

// Carried records a packet that goes on: its bytes before they are sealed or
// after they were opened, the session, and the other end of the datagram around
// it. All of it is borrowed.
func (b *Batch) Carried(packet []byte, keys *wg.Keys, remote *netip.AddrPort) {
	if b == nil {
		return
	}
	if f := b.flow; f != nil && keys == b.keys && f.goesOn(packet) {
		f.packets++
		f.bytes += uint32(len(packet))
		return
	}
	b.flow, b.keys = b.look(packet, keys, remote, ""), keys
}

// Other records a packet that goes no further, as outcome says, which is a fixed
// text; or what should be a packet. keys and remote are nil if it never had any.
func (b *Batch) Other(packet []byte, keys *wg.Keys, remote *netip.AddrPort, outcome string) {
	if b != nil {
		b.flow = nil
		b.look(packet, keys, remote, outcome)
	}
}

// goesOn reports whether b is a further packet of a TCP or UDP flow. It sees the
// most frequent kind of header only.
func (f *flow) goesOn(b []byte) bool {
	if len(b) < 40 || b[0] != 0x45 || f.version != 4 || b[9] != byte(f.proto) || binary.BigEndian.Uint64(b[12:]) != f.addrs[0] ||
		binary.BigEndian.Uint32(b[20:]) != f.ports || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return f.goesOn6(b)
	}
	switch f.proto {
	case packet.UDP:
		return true
	case packet.TCP:
		flags := packet.TCPFlags(b[33])
		f.flags |= flags &^ alone
		return flags&alone == 0
	}
	return false
}

func (f *flow) goesOn6(b []byte) bool {
	if len(b) < 60 || b[0]>>4 != 6 || f.version != 6 || b[6] != byte(f.proto) || binary.BigEndian.Uint32(b[40:]) != f.ports {
		return false
	}
	for i, a := range f.addrs {
		if a != binary.BigEndian.Uint64(b[8+8*i:]) {
			return false
		}
	}
	switch f.proto {
	case packet.UDP:
		return true
	case packet.TCP:
		flags := packet.TCPFlags(b[53])
		f.flags |= flags &^ alone
		return flags&alone == 0
	}
	return false
}

// look records one packet and returns its flow, or nil if that does not go on.
// If another flow has its slot and there is no allowance to write that one's
// line, the packet is left out: the flow that is there likely has more to come.
func (b *Batch) look(p []byte, keys *wg.Keys, remote *netip.AddrPort, outcome string) *flow {
	r, d, at := b.record, b.direction, b.at
	if r.looks++; r.looks > maxLooks {
		r.leave(classOf(outcome), 1)
		return nil
	}
	var h header
	h.read(p)
	var connection uint32
	if keys != nil {
		connection = keys.LocalIndex() >> 8
	}
	begin := func() (f flow) {
		f = flow{header: h, direction: d, connection: connection, outcome: outcome, first: at, last: at, packets: 1, bytes: uint32(len(p))}
		if remote != nil {
			f.remote = *remote
		}
		return f
	}
	if h.flags&alone != 0 {
		one := begin()
		r.write(&one)
		return nil
	}
	f := &r.flows[h.slot(d, outcome)]
	switch {
	case f.packets == 0:
		*f = begin()
	case f.continues(&h, d, connection, outcome):
		f.flags |= h.flags
		f.packets++
		f.bytes += uint32(len(p))
		f.last = at
	case r.left[classOf(f.outcome)] < f.size():
		r.leave(classOf(outcome), 1)
		return nil
	default:
		r.write(f)
		*f = begin()
	}
	return f
}

// continues reports whether a packet belongs to f.
func (f *flow) continues(h *header, d Direction, connection uint32, outcome string) bool {
	return f.addrs == h.addrs && f.ports == h.ports && f.proto == h.proto && f.version == h.version &&
		f.direction == d && f.connection == connection && f.outcome == outcome
}

func (h *header) slot(d Direction, outcome string) uint8 {
	const odd = 0x9e3779b97f4a7c15
	x := h.addrs[0]*odd ^ uint64(h.ports)<<8 ^ uint64(h.proto) ^ uint64(d)<<7 ^ uint64(len(outcome))<<48
	if h.version == 6 {
		x ^= (h.addrs[1]*odd^h.addrs[2])*odd ^ h.addrs[3]*odd
	}
	x ^= x >> 29
	return uint8(x * odd >> 56)
}

// classOf tells what is carried, or handled, from what is dropped.
func classOf(outcome string) class {
	if strings.HasPrefix(outcome, "dropped") {
		return dropped
	}
	return carried
}

// flush writes what was gathered.
func (r *Recorder) flush() {
	if r.flows == nil {
		return
	}
	for i := range r.flows {
		if f := &r.flows[i]; f.packets > 0 {
			r.write(f)
			f.packets = 0
		}
	}
}

// The record of a packet, numbers little endian: time since the chunk's
// epoch in microseconds (4), how long the flow went on in milliseconds (2), packets
// (4), bytes (4), ports (4), protocol (1), TCP flags (1), outcome (1), end (1),
// direction and version (1), addresses (8 or 32).
const (
	recordBytes4 = 23 + 8
	recordBytes6 = 23 + 32
)

func (f *flow) size() int {
	if f.version == 6 {
		return recordBytes6
	}
	return recordBytes4
}

// write writes a flow's line, if its class may.
func (r *Recorder) write(f *flow) {
	if !r.take(classOf(f.outcome), f.size(), f.packets) {
		return
	}
	c := r.packets.room(f.size(), f.first)
	b := c.bytes
	b = binary.LittleEndian.AppendUint32(b, uint32(max(0, f.first-c.epoch)/int64(time.Microsecond)))
	b = binary.LittleEndian.AppendUint16(b, uint16(min((f.last-f.first)/int64(time.Millisecond), 1<<16-1)))
	b = binary.LittleEndian.AppendUint32(b, f.packets)
	b = binary.LittleEndian.AppendUint32(b, f.bytes)
	b = binary.LittleEndian.AppendUint32(b, f.ports)
	b = append(b, byte(f.proto), byte(f.flags), c.outcome(f.outcome), c.end(end{f.connection, f.remote}), byte(f.direction)<<7|f.version)
	addrs := f.addrs[:1]
	if f.version == 6 {
		addrs = f.addrs[:]
	}
	for _, a := range addrs {
		b = binary.LittleEndian.AppendUint64(b, a)
	}
	c.bytes = b
}

// next takes a record off b, which is of chunk c.
func (f *flow) next(c *chunk, b []byte) (rest []byte) {
	*f = flow{first: c.epoch + int64(binary.LittleEndian.Uint32(b))*int64(time.Microsecond)}
	f.last = f.first + int64(binary.LittleEndian.Uint16(b[4:]))*int64(time.Millisecond)
	f.packets, f.bytes, f.ports = binary.LittleEndian.Uint32(b[6:]), binary.LittleEndian.Uint32(b[10:]), binary.LittleEndian.Uint32(b[14:])
	f.proto, f.flags, f.direction, f.version = packet.Proto(b[18]), packet.TCPFlags(b[19]), Direction(b[22]>>7), b[22]&15
	if i := b[20]; i != none {
		f.outcome = c.outcomes[i]
	}
	if i := b[21]; i != none {
		f.connection, f.remote = c.ends[i].connection, c.ends[i].remote
	}
	size := f.size()
	for i := 23; i < size; i += 8 {
		f.addrs[(i-23)/8] = binary.LittleEndian.Uint64(b[i:])
	}
	return b[size:]
}
