package gateway

import (
	"maps"
	"slices"
	"strings"
	"time"

	"stile/tunnel/core"
)

// A counter is something that happened. Each packet that is dropped has
// exactly one (N52); control packets and errors that are kept back have others.
type counter uint8

const (
	passed counter = iota // not counted

	dropBadFlags
	dropErrorIn
	dropErrorOut
	dropExhausted
	dropExpired
	dropFamily
	dropFiltered
	dropFragment
	dropHost
	dropMalformed
	dropMulticast
	dropNoBinding
	dropNoPeer
	dropNoSession
	dropNotAllowed
	dropNotAPeer
	dropNotConnected
	dropNotInternet
	dropProtocol
	dropQuota
	dropRate
	dropSpoofed
	dropUnresolved

	announcementsTaken
	announcementsDropped
	announcementsRefused
	authorizationsInvalid
	configureFailed
	connected
	connectionsFailed
	controlMalformed
	controlUnknown
	dropReplay
	errorsSent
	errorsSuppressed
	goodbyes
	lookupsFailed
	messagesIgnored
	namesRefreshed
	updatesRefused
	numCounters
)

const lastDrop = dropUnresolved

// counterNames are what an operator reads. Several reasons may be one to him.
var counterNames = [numCounters]string{
	dropBadFlags:     "dropped: bad flags",
	dropErrorIn:      "dropped: icmp-unmatched",
	dropErrorOut:     "dropped: icmp-unmatched",
	dropExhausted:    "dropped: exhausted",
	dropExpired:      "dropped: expired authorization",
	dropFamily:       "dropped: family",
	dropFiltered:     "dropped: filtered",
	dropFragment:     "dropped: fragment",
	dropHost:         "dropped: not allowed",
	dropMalformed:    "dropped: malformed",
	dropMulticast:    "dropped: multicast",
	dropNoBinding:    "dropped: no binding",
	dropNoPeer:       "dropped: no peer",
	dropNoSession:    "dropped: no session",
	dropNotAllowed:   "dropped: not allowed",
	dropNotAPeer:     "dropped: not a peer",
	dropNotConnected: "dropped: not connected",
	dropNotInternet:  "dropped: not allowed",
	dropProtocol:     "dropped: not allowed",
	dropQuota:        "dropped: quota",
	dropRate:         "dropped: rate",
	dropSpoofed:      "dropped: spoofed source",
	dropUnresolved:   "dropped: unresolved",

	announcementsTaken:    "names announced",
	announcementsDropped:  "names announced too fast",
	announcementsRefused:  "names refused",
	authorizationsInvalid: "authorizations ignored: invalid",
	configureFailed:       "tun: configuration failed",
	connected:             "connections established",
	connectionsFailed:     "connections failed",
	controlMalformed:      "control packets: malformed",
	controlUnknown:        "control packets: unknown",
	dropReplay:            "messages replayed or of no connection",
	errorsSent:            "ICMP errors sent",
	errorsSuppressed:      "ICMP errors suppressed: too many",
	goodbyes:              "goodbyes received",
	lookupsFailed:         "names not resolved",
	messagesIgnored:       "portal messages ignored",
	namesRefreshed:        "names refreshed",
	updatesRefused:        "resource updates refused: another type",
}

// moreExactly are the reasons that a log tells apart.
var moreExactly = map[counter]string{
	dropErrorOut:    "icmp-unmatched, of a client",
	dropHost:        "not a service of this gateway",
	dropNotInternet: "not part of the Internet resource",
	dropProtocol:    "protocol cannot be translated",
}

// dropName is the name of a reason to drop a packet, as spec N52 has it.
func (r counter) dropName() string { return strings.TrimPrefix(counterNames[r], "dropped: ") }

// String is the reason as a log tells it.
func (r counter) String() string {
	if text, ok := moreExactly[r]; ok {
		return text
	}
	return r.dropName()
}

func (c *Core) count(what counter) { c.counts[what]++ }

// Drops returns how many packets were dropped, by the names of spec N52: all of
// them, also those of which there are none yet.
func (c *Core) Drops() map[string]uint64 {
	drops := make(map[string]uint64, lastDrop)
	for r := passed + 1; r <= lastDrop; r++ {
		drops[r.dropName()] += c.counts[r]
	}
	return drops
}

// Report fills r.
func (c *Core) Report(r *core.Report, _ time.Time) {
	*r = core.Report{PortalUp: c.portalUp, TUN: c.tun.last, Connections: c.paths.Report(nil)}
	r.TUN.Routes = slices.Clone(r.TUN.Routes)
	sums := make(map[string]uint64, numCounters)
	for i, n := range c.counts {
		if n != 0 {
			sums[counterNames[i]] += n
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		r.Counters = append(r.Counters, core.Counter{Name: name, Value: sums[name]})
	}
}
