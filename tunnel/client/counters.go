package client

import (
	"slices"
	"strings"

	"stile/tunnel/core"
)

// A counter is something that happened, for people who look for the reason of
// something.
type counter uint8

const (
	announcements counter = iota
	authorizationsIgnored
	authorizationsInvalid
	configureFailed
	connectionsFailed
	dropControl
	dropFragment
	dropHeld
	dropICMP
	dropMalformed
	dropMulticast
	dropNoRoute
	dropNotForUs
	dropReplay
	dropSentinel
	dropSource
	dropSpoofed
	dropStatus
	dropStranger
	dropToSelf
	dropUnconfigured
	goodbyes
	messagesIgnored
	namesFailed
	prohibited
	refusals
	refusedPrivate
	requests
	resourcesSkipped
	numCounters
)

var counterNames = [numCounters]string{
	announcements:         "names announced to gateways",
	authorizationsIgnored: "authorizations ignored: not asked for",
	authorizationsInvalid: "authorizations ignored: invalid",
	configureFailed:       "tun: configuration failed",
	connectionsFailed:     "connections failed",
	dropControl:           "dropped: control packet out of place",
	dropFragment:          "dropped: fragment",
	dropHeld:              "dropped: too many packets waiting",
	dropICMP:              "dropped: ICMP error about no flow of ours",
	dropMalformed:         "dropped: malformed",
	dropMulticast:         "dropped: multicast",
	dropNoRoute:           "dropped: no resource has the address",
	dropNotForUs:          "dropped: from a gateway, not for us",
	dropReplay:            "dropped: replayed or of no connection",
	dropSentinel:          "dropped: to a sentinel, not DNS over UDP",
	dropSource:            "dropped: source is not our address",
	dropSpoofed:           "dropped: from a gateway, not its address",
	dropStatus:            "dropped: status of a name not announced",
	dropStranger:          "dropped: from a gateway without authorization",
	dropToSelf:            "dropped: to our own address",
	dropUnconfigured:      "dropped: no addresses yet",
	goodbyes:              "goodbyes received",
	messagesIgnored:       "portal messages ignored",
	namesFailed:           "names a gateway could not resolve",
	prohibited:            "prohibited by filters",
	refusals:              "authorizations refused",
	refusedPrivate:        "private address refused by the Internet resource",
	requests:              "authorizations requested",
	resourcesSkipped:      "resources skipped: malformed",
}

// count counts what happened, which is, for all that is known yet, what became
// of the packet at hand.
func (c *Core) count(what counter) {
	c.counts[what]++
	c.outcome = counterNames[what]
}

// Outcome implements core.Explainer.
func (c *Core) Outcome() string { return c.outcome }

// counters lists what was counted, also by the resolver, sorted by name.
func (c *Core) counters() []core.Counter {
	var list []core.Counter
	for i, n := range c.counts {
		if n != 0 {
			list = append(list, core.Counter{Name: counterNames[i], Value: n})
		}
	}
	list = c.resolver.Counters(list)
	slices.SortFunc(list, func(a, b core.Counter) int { return strings.Compare(a.Name, b.Name) })
	return list
}
