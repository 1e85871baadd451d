package udp

import (
	"net/netip"

	"stile/platform/sock"
)

// lookBack is how many of the latest runs are looked at for one that a
// datagram fits to. A batch goes to few destinations.
const lookBack = 8

// An Outlet sends runs: Sockets, or a network made for a test.
type Outlet interface {
	Send(family int, sender *sock.Sender, runs []sock.Run) (lost int, err error)
}

// A Batch gathers datagrams of one goroutine and sends them with as few system
// calls as possible: consecutive datagrams of equal size for one destination
// become one run. Datagrams for one destination stay in order.
type Batch struct {
	sender  *sock.Sender
	runs    [2][]sock.Run // by family; beyond their length: memory to use again
	open    [2][]bool     // whether the run may grow
	bytes   [2][]int      // of each run
	waiting int
}

// NewBatch makes an empty Batch.
func NewBatch() *Batch { return &Batch{sender: sock.NewSender()} }

// Len is the number of datagrams that wait.
func (b *Batch) Len() int { return b.waiting }

// Add appends a datagram. It is borrowed until Flush. A source that is zero or
// unspecified leaves the choice to the system.
func (b *Batch) Add(source netip.Addr, remote netip.AddrPort, ecn uint8, datagram []byte) {
	f := familyOf(remote.Addr())
	b.waiting++
	runs := b.runs[f]
	for i := len(runs) - 1; i >= 0 && i >= len(runs)-lookBack; i-- {
		r := &runs[i]
		if r.Remote != remote || r.Source != source || r.ECN != ecn {
			continue
		}
		first := len(r.Datagrams[0])
		if !b.open[f][i] || len(datagram) > first || len(r.Datagrams) >= sock.MaxRun || b.bytes[f][i]+len(datagram) > sock.MaxRunBytes {
			break // a later run for the same destination must follow this one
		}
		r.Datagrams = append(r.Datagrams, datagram)
		b.bytes[f][i] += len(datagram)
		b.open[f][i] = len(datagram) == first // only the last one may be shorter
		return
	}
	b.begin(f, source, remote, ecn, datagram)
}

// begin starts a run in memory that an earlier batch has left, if there is any.
func (b *Batch) begin(f int, source netip.Addr, remote netip.AddrPort, ecn uint8, datagram []byte) {
	n := len(b.runs[f])
	if n < cap(b.runs[f]) {
		b.runs[f] = b.runs[f][:n+1]
	} else {
		b.runs[f] = append(b.runs[f], sock.Run{})
	}
	r := &b.runs[f][n]
	if r.Datagrams == nil {
		r.Datagrams = make([][]byte, 0, sock.MaxRun)
	}
	r.Source, r.Remote, r.ECN = source, remote, ecn
	r.Datagrams = append(r.Datagrams[:0], datagram)
	b.open[f] = append(b.open[f], true)
	b.bytes[f] = append(b.bytes[f], len(datagram))
}

// Flush sends all datagrams, and waits while a socket's buffer is full. What
// the system refuses is lost: lost counts it, err is the first reason.
func (b *Batch) Flush(to Outlet) (lost int, err error) {
	for f, runs := range b.runs {
		if len(runs) == 0 {
			continue
		}
		n, e := to.Send(f, b.sender, runs)
		lost += n
		if err == nil {
			err = e
		}
		b.runs[f], b.open[f], b.bytes[f] = runs[:0], b.open[f][:0], b.bytes[f][:0]
	}
	b.waiting = 0
	return lost, err
}
