package daemon

import (
	"strings"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
)

// Reasons to keep the flight record.
const (
	engineStuck    = "engine-stuck"    // it does not answer for stuckAfter
	handshakeStorm = "handshake-storm" // a gateway, or all together, begin over and over
	panicked       = "panic"           // the program ends
	packetsDropped = "packets-dropped" // far more than usual
	portalAway     = "portal-away"     // for a minute, while the tunnel stands
	restoreFailed  = "restore-failed"  // DNS or routes could not be put back
	sessionFailed  = "session-failed"  // and is tried again, or ends the service
	siteLost       = "site-lost"       // all connections to a site that had one have failed
)

const (
	awayLong = time.Minute
	// maxHandshakes and maxFailures are how many there may be in a minute: with
	// one gateway, where there should be one in two; and with all together.
	maxHandshakes = 10
	maxFailures   = 10
	// A jump of drops is floodSeconds one after the other that have floodRate
	// each, and floodFactor times of what is usual.
	floodSeconds = 5
	floodRate    = 100
	floodFactor  = 10
)

// failed is the client's counter of connections that came to a bad end.
const failed = "connections failed"

// A lookout is shown the engine's report every second, and says what is wrong.
// The zero lookout has seen nothing.
type lookout struct {
	away time.Time       // since when the portal is; zero: it is not
	said bool            // that it is
	up   map[string]bool // sites that were connected

	minute     time.Time // began
	handshakes map[id.Peer]int
	shook      map[id.Peer]time.Time // when last
	failures   int
	stormy     bool // said in this minute

	looked        bool
	failed, drops uint64  // as counted last
	usual         float64 // drops in a second
	flood         int     // seconds
}

// see takes a report. stands is whether the tunnel does.
func (l *lookout) see(r *core.Report, stands bool, now time.Time) (reasons []string) {
	say := func(is bool, reason string) {
		if is {
			reasons = append(reasons, reason)
		}
	}
	fails, drops := numbers(r.Counters)
	if !l.looked {
		l.looked, l.failed, l.drops = true, fails, drops
	}
	broke := int(fails - l.failed)
	dropped := float64(drops - l.drops)
	l.failed, l.drops = fails, drops

	say(l.portal(r.PortalUp || !stands, now), portalAway)
	say(l.sites(r.Connections, broke > 0), siteLost)
	say(l.storm(r.Connections, broke, now), handshakeStorm)
	say(l.jump(dropped), packetsDropped)
	return reasons
}

func numbers(list []core.Counter) (fails, drops uint64) {
	for _, c := range list {
		switch {
		case c.Name == failed:
			fails = c.Value
		case strings.HasPrefix(c.Name, "dropped"), c.Name == "engine forged", c.Name == "engine unsendable", c.Name == "engine unwritable":
			drops += c.Value
		}
	}
	return fails, drops
}

func (l *lookout) portal(well bool, now time.Time) bool {
	switch {
	case well:
		l.away, l.said = time.Time{}, false
	case l.away.IsZero():
		l.away = now
	case now.Sub(l.away) > awayLong && !l.said:
		l.said = true
		return true
	}
	return false
}

// sites reports whether a site that was connected is no more, and a connection
// has failed.
func (l *lookout) sites(list []core.Connection, broke bool) (lost bool) {
	up := make(map[string]bool, len(list))
	for _, c := range list {
		if c.State != "connecting" {
			up[c.Site] = true
		}
	}
	if broke {
		for site := range l.up {
			lost = lost || !up[site]
		}
	}
	l.up = up
	return lost
}

func (l *lookout) storm(list []core.Connection, broke int, now time.Time) bool {
	if l.minute.IsZero() || now.Sub(l.minute) > time.Minute {
		l.minute, l.failures, l.stormy = now, 0, false
		l.handshakes = make(map[id.Peer]int, len(list))
	}
	l.failures += broke
	worst := 0
	shook := make(map[id.Peer]time.Time, len(list))
	for _, c := range list {
		shook[c.Peer] = c.LastHandshake
		if before, known := l.shook[c.Peer]; known && !before.Equal(c.LastHandshake) {
			l.handshakes[c.Peer]++
		}
		worst = max(worst, l.handshakes[c.Peer])
	}
	l.shook = shook
	if l.stormy || worst <= maxHandshakes && l.failures <= maxFailures {
		return false
	}
	l.stormy = true
	return true
}

func (l *lookout) jump(dropped float64) bool {
	if dropped < floodRate || dropped < floodFactor*l.usual {
		l.usual += (dropped - l.usual) / 60
		l.flood = 0
		return false
	}
	l.flood++
	if l.flood < floodSeconds {
		return false
	}
	l.flood, l.usual = 0, dropped // what goes on is usual
	return true
}
