package flight

import (
	"net/netip"
	"time"
)

const (
	chunkBytes = 60 << 10
	// maxTable bounds the tables of a chunk, which records name entries of; a
	// record with the entry none has not got one, or there was no room.
	maxTable = 64
	none     = 255
	// chunkCost is what a chunk takes with full tables.
	chunkCost = 64 << 10
)

// A chunk is a piece of a ring: records one after the other, and what they
// refer to, so that all of it goes at once.
type chunk struct {
	number  uint64 // in order of creation, from 1
	epoch   int64  // before all records, but about the first, in nanoseconds since 1970
	last    int64  // time of the latest record
	records int
	bytes   []byte

	outcomes []string // fixed texts of the program
	ends     []end
}

// An end is where a packet went to or came from, outside the tunnel.
type end struct {
	connection uint32 // the top 24 bits of its WireGuard indices
	remote     netip.AddrPort
}

// A ring is records in the order in which they were written. Chunks are made
// until there are most of them; then the oldest is used again, or before, if all
// in it is older than kept.
type ring struct {
	most int
	span time.Duration // that one chunk may cover; 0: any
	kept time.Duration // 0: for as long as there is room

	chunks []*chunk // oldest first
	number uint64   // of the last one
}

// room returns the chunk for a record of n bytes, which is counted as written.
func (r *ring) room(n int, at int64) *chunk {
	var c *chunk
	if len(r.chunks) > 0 {
		c = r.chunks[len(r.chunks)-1]
	}
	if c == nil || len(c.bytes)+n > chunkBytes || r.span > 0 && at-c.epoch > int64(r.span) {
		c = r.begin(at)
	}
	c.records++
	c.last = max(c.last, at)
	return c
}

// begin puts an empty chunk at the end of the ring.
func (r *ring) begin(at int64) *chunk {
	full := len(r.chunks) == r.most
	if len(r.chunks) > 0 && r.kept > 0 && at-r.chunks[0].last > int64(r.kept) {
		full = true
	}
	var c *chunk
	if full {
		c = r.chunks[0]
		clear(c.outcomes)
		*c = chunk{bytes: c.bytes[:0], outcomes: c.outcomes[:0], ends: c.ends[:0]}
		copy(r.chunks, r.chunks[1:])
		r.chunks[len(r.chunks)-1] = c
	} else {
		c = &chunk{bytes: make([]byte, 0, chunkBytes)}
		r.chunks = append(r.chunks, c)
	}
	r.number++
	c.number, c.epoch, c.last = r.number, at-int64(time.Second), at
	return c
}

// copyTo copies the oldest chunk whose number is at least from.
func (r *ring) copyTo(c *chunk, from uint64) bool {
	for _, o := range r.chunks {
		if o.number >= from {
			bytes, outcomes, ends := c.bytes[:0], c.outcomes[:0], c.ends[:0]
			*c = *o
			c.bytes, c.outcomes, c.ends = append(bytes, o.bytes...), append(outcomes, o.outcomes...), append(ends, o.ends...)
			return true
		}
	}
	return false
}

// outcome returns the number of a text in the chunk's table.
func (c *chunk) outcome(text string) uint8 {
	if text == "" {
		return none
	}
	return place(&c.outcomes, text)
}

// end returns the number of an end in the chunk's table.
func (c *chunk) end(e end) uint8 {
	if e == (end{}) {
		return none
	}
	return place(&c.ends, e)
}

func place[T comparable](table *[]T, what T) uint8 {
	for i := len(*table) - 1; i >= 0; i-- { // the latest are the likeliest
		if (*table)[i] == what {
			return uint8(i)
		}
	}
	if len(*table) == maxTable {
		return none
	}
	*table = append(*table, what)
	return uint8(len(*table) - 1)
}
