// Package flight is the flight record of the client's service: what it did in
// the last ten minutes and more, for whoever has to find out why something went
// wrong. It is kept always, because nobody knows beforehand when that will be.
//
// It has two kinds of lines. An event is a step, a decision, an error, or what
// was counted in one second: all that is logged, at every level, and what roles
// note (core.Note). A packet is what the headers of one say: direction,
// addresses, ports, flags, length, which connection carried it or why nothing
// did. Nothing behind the headers is ever read, names that applications look up
// are noted only if a resource has them, and neither tokens nor keys come here.
//
// What is left out is bounded and told. Packets that begin or end a TCP
// connection have a line of their own; others of one flow, direction and
// outcome share one for each second. Each kind of line has its share of bytes
// for each second, so that no flood can push ten minutes out; what goes beyond
// is counted, and the count is an event.
//
// The memory is two rings of chunks, made as they are needed: never more than
// Size, and a chunk or two while nothing happens. The packet path takes one lock
// for a batch, allocates nothing, and compares a packet with the one before it.
//
// A dump is JSON lines like those of the log files, oldest first. People read it
// with "stile logs flight", or out of an export with
//
//	jq -r 'select(.message|startswith("packet"))
//	  |"\(.time) \(.message) \(.protocol) \(.source) > \(.destination) \(.flags//"") \(.packets) \(.bytes) \(.outcome//"")"' record.jsonl
package flight

import (
	"sync"
	"time"
)

// Size is the most memory that a record takes, in bytes.
const Size = 8 << 20

// Kept is how long everything is kept at least.
const Kept = 10 * time.Minute

// Shares of the two rings. What the classes below may write in Kept, with a
// burst of each, fits in one chunk less: that one is being overwritten.
const (
	packetChunks = 102
	eventChunks  = 24
)

// A class is a kind of line with a share of its own.
type class uint8

const (
	carried   class = iota // packets
	dropped                // packets
	steps                  // events of level info and above
	decisions              // events below that
	counts                 // what was counted in a second, and left out
	classes
)

// classKeys are fields that say how many lines of a class there are not.
var classKeys = [classes]string{"packets", "droppedPackets", "events", "minorEvents", "counts"}

// An allowance is what a class may write, in bytes: rate each second, and after
// a quiet while burst at once.
type allowance struct{ rate, burst int }

var allowances = [classes]allowance{
	carried:   {7475, 128 << 10},
	dropped:   {2252, 64 << 10},
	steps:     {800, 128 << 10},
	decisions: {600, 64 << 10},
	counts:    {500, 32 << 10},
}

// A Recorder keeps the record. Its methods may be called from any goroutine; a
// nil Recorder keeps nothing.
type Recorder struct {
	// OnPanic is called by Panicking; nil: nothing is. It must be set before
	// anybody else has the Recorder.
	OnPanic func(reason any)

	now func() time.Time

	mu      sync.Mutex // guards the rest
	packets ring
	events  ring
	flows   *flows
	batch   Batch
	second  int64        // since 1970; of the last input
	looks   int          // at packets, in this second
	left    [classes]int // bytes that each class may write at once
	// lost counts what was left out, packets or events: since it was last told,
	// and ever.
	lost, lostEver [classes]uint64
}

// New makes an empty record. now is the clock that packets are given with, which
// shall count sleep (platform/clock).
func New(now func() time.Time) *Recorder {
	r := &Recorder{now: now, packets: ring{most: packetChunks, span: time.Hour, kept: Kept}, events: ring{most: eventChunks}}
	for c, a := range allowances {
		r.left[c] = a.burst
	}
	return r
}

// Memory is how much the record takes, in bytes.
func (r *Recorder) Memory() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.memory()
}

func (r *Recorder) memory() int {
	n := len(r.packets.chunks)*chunkCost + len(r.events.chunks)*chunkCost
	if r.flows != nil {
		n += flowsCost
	}
	return n
}

// Panicking is to be deferred by every goroutine whose panic, which ends the
// program, shall be told of in its last moment.
func (r *Recorder) Panicking() {
	if r == nil || r.OnPanic == nil {
		return
	}
	if reason := recover(); reason != nil {
		r.OnPanic(reason)
		panic(reason)
	}
}

// advance begins another second: what was gathered in the former is written,
// and all classes may write again. It comes before anything else is recorded,
// so that no line is more than a second older than one before it.
func (r *Recorder) advance(at int64) {
	second := at / int64(time.Second)
	if second <= r.second {
		return
	}
	passed := second - r.second
	r.second, r.looks = second, 0
	r.flush()
	for c, a := range allowances {
		r.left[c] = min(r.left[c]+int(min(passed, 3600))*a.rate, a.burst)
	}
	r.tellLost(at)
}

// take reports whether a class may write size bytes. If not, n packets or
// events are left out.
func (r *Recorder) take(c class, size int, n uint32) bool {
	if r.left[c] < size {
		r.leave(c, n)
		return false
	}
	r.left[c] -= size
	return true
}

func (r *Recorder) leave(c class, n uint32) {
	r.lost[c] += uint64(n)
	r.lostEver[c] += uint64(n)
}
