package gateway

import (
	"time"

	"stile/tunnel/nat"
	"stile/tunnel/packet"
)

// Rates per client (7.1).
var (
	errorRate    = rate{perSecond: 100, burst: 100}
	announceRate = rate{perSecond: 100, burst: 1024}
)

type answerKind uint8

const (
	silent answerKind = iota
	prohibited
	unreachable
	exhausted
)

// answers are the ICMP errors of 1.5. "Prohibited" tells a client that its
// authorization is gone; all else must not sound like that.
var answers = [numCounters]answerKind{
	dropNotAllowed:  prohibited,
	dropFiltered:    prohibited,
	dropExpired:     prohibited,
	dropNoBinding:   prohibited,
	dropHost:        prohibited,
	dropNotInternet: unreachable,
	dropUnresolved:  unreachable,
	dropFamily:      unreachable,
	dropExhausted:   exhausted,
	dropQuota:       exhausted,
	dropRate:        exhausted,
}

// fromNAT names a session table's refusals.
var fromNAT = [...]counter{
	nat.NoSession:  dropNoSession,
	nat.BadFlags:   dropBadFlags,
	nat.NoBinding:  dropNoBinding,
	nat.Unresolved: dropUnresolved,
	nat.NoFamily:   dropFamily,
	nat.Exhausted:  dropExhausted,
	nat.NotAllowed: dropProtocol,
	nat.Full:       dropQuota,
	nat.TooFast:    dropRate,
}

// answer tells the client at once that its packet was dropped, so that
// applications do not have to wait for a time-out (N38). What may not be
// answered does not count against the rate, and the rest costs nothing once
// that is used up.
func (c *Core) answer(k *client, p packet.Packet, reason counter, now time.Time) {
	kind := answers[reason]
	if kind == silent || !packet.Answerable(p) {
		return
	}
	if !k.errors.take(errorRate, now) {
		c.count(errorsSuppressed)
		return
	}
	build := packet.AppendProhibited
	switch kind {
	case unreachable:
		build = packet.AppendUnreachable
	case exhausted:
		build = packet.AppendExhausted
	}
	if b, ok := build(make([]byte, 0, packet.MaxSize), p); ok && c.paths.Control(k.peer, b, now) {
		c.count(errorsSent)
	}
}

// A rate is how often something may happen.
type rate struct{ perSecond, burst float64 }

// A bucket counts against a rate. The zero bucket is full.
type bucket struct {
	used float64
	at   time.Time
}

// take reports whether it may happen once more now.
func (b *bucket) take(r rate, now time.Time) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*r.perSecond)
	b.at = now
	if b.used+1 > r.burst {
		return false
	}
	b.used++
	return true
}
