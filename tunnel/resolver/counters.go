package resolver

import "stile/tunnel/core"

// A counter says what became of a query.
type counter uint8

const (
	answered counter = iota
	canaries
	exhausted
	failures
	forwarded
	malformed
	needTunnel
	notAQuery
	notImplemented
	oddNames
	seedsSkipped
	timeouts
	tooMany
	unassigned
	upstreamsSkipped
	numCounters
)

// counterNames are sorted.
var counterNames = [numCounters]string{
	answered:         "dns: answered here",
	canaries:         "dns: canary refused",
	exhausted:        "dns: no proxy address left",
	failures:         "dns: upstream failed",
	forwarded:        "dns: forwarded",
	malformed:        "dns: malformed query",
	needTunnel:       "dns: needs a server behind the tunnel",
	notAQuery:        "dns: not a query",
	notImplemented:   "dns: opcode not implemented",
	oddNames:         "dns: private name with odd bytes",
	seedsSkipped:     "dns: remembered name invalid",
	timeouts:         "dns: upstream timed out",
	tooMany:          "dns: too many queries in flight",
	unassigned:       "dns: query to an unassigned sentinel",
	upstreamsSkipped: "dns: more upstreams than sentinels",
}

// Counters appends what was counted so far, without zeros, sorted by name.
func (r *Resolver) Counters(dst []core.Counter) []core.Counter {
	for i, n := range r.counts {
		if n != 0 {
			dst = append(dst, core.Counter{Name: counterNames[i], Value: n})
		}
	}
	return dst
}
