package gateway

import (
	"slices"
	"strings"
	"time"

	"stile/tunnel/core"
)

// A counter is something that happened. Each packet that is dropped has
// exactly one (N52).
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
	updatesRefused
	numCounters
)

var counterNames = [numCounters]string{
	dropBadFlags:     "dropped: bad flags",
	dropErrorIn:      "dropped: icmp-unmatched",
	dropErrorOut:     "dropped: icmp-unmatched, of a client",
	dropExhausted:    "dropped: exhausted",
	dropExpired:      "dropped: expired authorization",
	dropFamily:       "dropped: family",
	dropFiltered:     "dropped: filtered",
	dropFragment:     "dropped: fragment",
	dropHost:         "dropped: not a service of this gateway",
	dropMalformed:    "dropped: malformed",
	dropMulticast:    "dropped: multicast",
	dropNoBinding:    "dropped: no binding",
	dropNoPeer:       "dropped: no peer",
	dropNoSession:    "dropped: no session",
	dropNotAllowed:   "dropped: not allowed",
	dropNotAPeer:     "dropped: not a peer",
	dropNotConnected: "dropped: not connected",
	dropNotInternet:  "dropped: not part of the Internet resource",
	dropProtocol:     "dropped: protocol cannot be translated",
	dropQuota:        "dropped: quota",
	dropRate:         "dropped: rate",
	dropSpoofed:      "dropped: spoofed source",
	dropUnresolved:   "dropped: unresolved",

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
	updatesRefused:        "resource updates refused: another type",
}

func (c *Core) count(what counter) { c.counts[what]++ }

// Report fills r.
func (c *Core) Report(r *core.Report, _ time.Time) {
	*r = core.Report{PortalUp: c.portalUp, TUN: c.tun.last, Connections: c.paths.Report(nil)}
	r.TUN.Routes = slices.Clone(r.TUN.Routes)
	for i, n := range c.counts {
		if n != 0 {
			r.Counters = append(r.Counters, core.Counter{Name: counterNames[i], Value: n})
		}
	}
	slices.SortFunc(r.Counters, func(a, b core.Counter) int { return strings.Compare(a.Name, b.Name) })
}
