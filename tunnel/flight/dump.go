package flight

import (
	"cmp"
	"encoding/binary"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"stile/tunnel/packet"
)

// lineBytes is about what a packet's line takes in a dump.
const lineBytes = 280

// Unlimited is the Limit of a dump of all there is.
const Unlimited = 1<<31 - 1

// An Order says what to dump, and what for.
type Order struct {
	Reason string // in the last line, with the fields More
	More   map[string]string
	// Limit is about how many bytes there may be; the oldest packets are left
	// out for it.
	Limit int
	// Dying tells that the program ends with this dump, in the middle of
	// whatever it was doing.
	Dying bool
}

// Dump writes the record as JSON lines, oldest first, in whole lines at a time.
// The last line says why and how much it is. Recording goes on meanwhile.
func (r *Recorder) Dump(w io.Writer, o Order) error {
	wall, now := time.Now().Round(0), r.now()
	d := dump{record: r, buffered: buffered{w: w}, shift: wall.Sub(now), dying: o.Dying}
	var lost [classes]uint64
	d.locked(func() {
		r.advance(now.UnixNano())
		r.flush()
		d.packets.from = r.packets.latest((o.Limit - eventChunks*chunkBytes*5/4) / lineBytes)
		d.packets.until, d.events.until = r.packets.number, r.events.number
		lost = r.lostEver
	})
	for d.more() && d.err == nil {
		d.line()
	}
	d.end(&o, lost)
	return d.err
}

// latest returns the number of the oldest of the latest chunks that have n
// records together.
func (r *ring) latest(n int) uint64 {
	from := r.number
	for _, c := range slices.Backward(r.chunks) {
		if n -= c.records; n < 0 && c.number != r.number {
			break
		}
		from = c.number
	}
	return from
}

// A dump is on its way through both rings, which go on.
type dump struct {
	record *Recorder
	buffered
	dying   bool
	shift   time.Duration // from our clock to the wall's
	packets packetReader
	events  eventReader

	packetLines, eventLines int
}

// locked calls f while nobody else writes to the record. Whoever holds the lock
// of a dying program's record may be waiting for this dump.
func (d *dump) locked(f func()) {
	if !d.dying {
		d.record.mu.Lock()
		defer d.record.mu.Unlock()
	} else if d.record.mu.TryLock() {
		defer d.record.mu.Unlock()
	}
	f()
}

// A chunks reader copies one chunk after the other: the lock is held for as long
// as that takes, some microseconds.
type chunks struct {
	chunk
	from, until uint64 // numbers of chunks to come
	rest        []byte
}

// refill makes sure that there is a record, and reports whether there is one.
func (c *chunks) refill(d *dump, ring *ring) bool {
	for len(c.rest) == 0 {
		if c.from > c.until {
			return false
		}
		found := false
		d.locked(func() { found = ring.copyTo(&c.chunk, c.from) })
		if !found || c.number > c.until {
			c.from = c.until + 1
			return false
		}
		c.from, c.rest = c.number+1, c.bytes
	}
	return true
}

func (c *chunks) ended() bool { return len(c.rest) == 0 && c.from > c.until }

// An eventReader gives events in the order in which they were written.
type eventReader struct {
	chunks
	at   int64
	text []byte // nil: there is none
}

func (e *eventReader) read(d *dump) {
	if e.text != nil || !e.refill(d, &d.record.events) {
		return
	}
	n := eventHeader + int(binary.LittleEndian.Uint16(e.rest[8:]))
	e.at, e.text, e.rest = int64(binary.LittleEndian.Uint64(e.rest)), e.rest[eventHeader:n], e.rest[n:]
}

// A packetReader gives packets in order of time. They are written up to late
// later than their time says.
type packetReader struct {
	chunks
	ready []flow // sorted
	ahead []flow // not sorted, none before ready
	seen  int64  // the latest time
}

const late = 2 * int64(time.Second)

func (p *packetReader) read(d *dump) {
	for len(p.ready) == 0 {
		for p.refill(d, &d.record.packets) {
			var f flow
			p.rest = f.next(&p.chunk, p.rest)
			p.ahead = append(p.ahead, f)
			if p.seen = max(p.seen, f.first); p.seen-p.ahead[0].first > 2*late {
				break
			}
		}
		if len(p.ahead) == 0 {
			return
		}
		slices.SortStableFunc(p.ahead, func(a, b flow) int { return cmp.Compare(a.first, b.first) })
		n := len(p.ahead)
		if !p.ended() {
			for n > 0 && p.ahead[n-1].first > p.seen-late {
				n--
			}
		}
		p.ready = append(p.ready, p.ahead[:n]...)
		p.ahead = append([]flow(nil), p.ahead[n:]...)
	}
}

// more reports whether there is a line.
func (d *dump) more() bool {
	d.packets.read(d)
	d.events.read(d)
	return len(d.packets.ready) > 0 || d.events.text != nil
}

// line writes the next line.
func (d *dump) line() {
	if len(d.packets.ready) == 0 || d.events.text != nil && d.events.at <= d.packets.ready[0].first {
		d.time(d.events.at)
		d.buf = append(d.buf, d.events.text...)
		d.events.text = nil
		d.eventLines++
	} else {
		d.packet(&d.packets.ready[0])
		d.packets.ready = d.packets.ready[1:]
		d.packetLines++
	}
	d.send(bufferBytes)
}

func (d *dump) time(at int64) {
	d.buf = append(d.buf, `{"time":"`...)
	d.buf = time.Unix(0, at).Add(d.shift).UTC().AppendFormat(d.buf, "2006-01-02T15:04:05.000000000Z")
	d.buf = append(d.buf, `",`...)
}

// packet writes a packet's line.
func (d *dump) packet(f *flow) {
	d.time(f.first)
	d.buf = append(d.buf, `"severity":"DEBUG","message":"packet `...)
	d.buf = append(d.buf, f.direction.String()...)
	d.buf = append(d.buf, `","target":"tunnel/flight","protocol":"`...)
	d.buf = appendProtocol(d.buf, f)
	d.buf = append(d.buf, '"')
	if f.version != 0 {
		d.buf = append(d.buf, `,"source":"`...)
		d.buf = appendEnd(d.buf, f, 0)
		d.buf = append(d.buf, `","destination":"`...)
		d.buf = append(appendEnd(d.buf, f, 1), '"')
	}
	switch {
	case f.proto == packet.TCP && f.flags != 0:
		d.buf = append(d.buf, `,"flags":"`...)
		d.buf = append(appendFlags(d.buf, f.flags), '"')
	case f.proto == packet.ICMP || f.proto == packet.ICMPv6:
		d.buf.number("type", int(f.ports>>16))
		d.buf.number("code", int(f.ports&0xffff))
	}
	d.buf.number("packets", int(f.packets))
	d.buf.number("bytes", int(f.bytes))
	if over := time.Duration(f.last - f.first).Milliseconds(); over > 0 {
		d.buf.number("overMs", int(over))
	}
	if f.connection != 0 {
		d.buf.text("connection", connection(f.connection))
	}
	if f.remote.IsValid() {
		d.buf = append(d.buf, `,"remote":"`...)
		d.buf = append(f.remote.AppendTo(d.buf), '"')
	}
	if f.outcome != "" {
		d.buf.text("outcome", f.outcome)
	}
	d.buf = append(d.buf, "}\n"...)
}

// control is the protocol of what client and gateway tell each other inside the
// tunnel.
const control = 255

func appendProtocol(b []byte, f *flow) []byte {
	switch {
	case f.version == 0:
		return append(b, "none"...)
	case f.proto == packet.TCP:
		return append(b, "tcp"...)
	case f.proto == packet.UDP:
		return append(b, "udp"...)
	case f.proto == packet.ICMP:
		return append(b, "icmp"...)
	case f.proto == packet.ICMPv6:
		return append(b, "icmpv6"...)
	case f.proto == control:
		return append(b, "control"...)
	}
	return strconv.AppendUint(b, uint64(f.proto), 10)
}

// appendEnd appends source (0) or destination (1), with the port if there is one.
func appendEnd(b []byte, f *flow, i int) []byte {
	if f.ports == 0 || f.proto != packet.TCP && f.proto != packet.UDP {
		return f.addr(i).AppendTo(b)
	}
	return netip.AddrPortFrom(f.addr(i), uint16(f.ports>>(16-16*i))).AppendTo(b)
}

// appendFlags appends TCP flags as letters, in the order of the header.
func appendFlags(b []byte, flags packet.TCPFlags) []byte {
	for i, letter := range []byte("FSRPAUEC") {
		if flags&(1<<i) != 0 {
			b = append(b, letter)
		}
	}
	return b
}

// end writes the last line.
func (d *dump) end(o *Order, lost [classes]uint64) {
	d.time(d.record.now().UnixNano())
	d.buf = append(d.buf, `"severity":"INFO","message":"end of the flight record","target":"tunnel/flight"`...)
	d.buf.text("reason", o.Reason)
	for _, key := range slices.Sorted(maps.Keys(o.More)) {
		d.buf.text(key, o.More[key])
	}
	d.buf.number("packetLines", d.packetLines)
	d.buf.number("eventLines", d.eventLines)
	d.locked(func() { d.buf.number("memory", d.record.memory()) })
	for c, n := range lost {
		if n > 0 {
			d.buf.number("leftOut"+string(classKeys[c][0]-'a'+'A')+classKeys[c][1:], int(n))
		}
	}
	d.buf = append(d.buf, "}\n"...)
	d.send(0)
}

// buffered gathers lines for a writer.
type buffered struct {
	w   io.Writer
	buf line
	err error
}

const bufferBytes = 64 << 10

// send hands on what was gathered if it is more than n bytes.
func (b *buffered) send(n int) {
	if len(b.buf) <= n {
		return
	}
	if b.err == nil {
		_, b.err = b.w.Write(b.buf)
	}
	b.buf = b.buf[:0]
}
