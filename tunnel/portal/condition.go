package portal

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Property is what a condition looks at; a violated one is named to the
// client (spec portal.md 9.4).
type Property string

// The properties that conditions know.
const (
	RemoteRegion   Property = "remote_ip_location_region"
	RemoteIP       Property = "remote_ip"
	AuthProvider   Property = "auth_provider_id"
	CurrentTime    Property = "current_utc_datetime"
	ClientVerified Property = "client_verified"
)

// A Condition is one condition of a policy as written: all of them must hold.
type Condition struct {
	Property Property
	Operator string   // see compile
	Values   []string // see compile
}

// Circumstances are what conditions look at besides the time.
type Circumstances struct {
	RemoteIP netip.Addr // the client's public address
	Country  string     // ISO 3166 alpha-2; "" unknown
	Provider string     // what issued the token; "" for service accounts
	Verified bool       // an admin has marked the device
}

// Zones finds a time zone by its IANA name; [time.LoadLocation] is one.
type Zones func(name string) (*time.Location, error)

// A condition is a Condition that was understood.
type condition struct {
	property Property
	not      bool           // is_not_in…
	texts    []string       // RemoteRegion (upper case), AuthProvider
	prefixes []netip.Prefix // RemoteIP
	windows  []window       // CurrentTime
	verified bool           // ClientVerified: must be
}

// compile checks c. Operators and values by property:
//
//	remote_ip_location_region  is_in, is_not_in                country codes
//	remote_ip                  is_in_cidr, is_not_in_cidr      addresses or prefixes
//	auth_provider_id           is_in, is_not_in                provider IDs
//	current_utc_datetime       is_in_day_of_week_time_ranges   day/ranges/zone
//	client_verified            is                              "true" or "false"
func (c Condition) compile(zones Zones) (condition, error) {
	out := condition{property: c.Property, not: strings.HasPrefix(c.Operator, "is_not_in")}
	operators := map[Property][]string{
		RemoteRegion: {"is_in", "is_not_in"}, RemoteIP: {"is_in_cidr", "is_not_in_cidr"}, AuthProvider: {"is_in", "is_not_in"},
		CurrentTime: {"is_in_day_of_week_time_ranges"}, ClientVerified: {"is"},
	}
	known, ok := operators[c.Property]
	if !ok {
		return out, fmt.Errorf("unknown property %q", c.Property)
	}
	if !slices.Contains(known, c.Operator) {
		return out, fmt.Errorf("%s has no operator %q; use %s", c.Property, c.Operator, strings.Join(known, " or "))
	}
	for _, value := range c.Values {
		if err := out.add(value, zones); err != nil {
			return out, fmt.Errorf("%s: %w", c.Property, err)
		}
	}
	return out, nil
}

// Check reports what is wrong with c, for who reads it from a file.
func (c Condition) Check(zones Zones) error {
	_, err := c.compile(zones)
	return err
}

func (c *condition) add(value string, zones Zones) error {
	switch c.property {
	case RemoteRegion:
		c.texts = append(c.texts, strings.ToUpper(value))
	case AuthProvider:
		c.texts = append(c.texts, value)
	case RemoteIP:
		prefix, err := netip.ParsePrefix(value)
		if err != nil {
			addr, err := netip.ParseAddr(value)
			if err != nil {
				return fmt.Errorf("%q is neither an address nor a prefix", value)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		c.prefixes = append(c.prefixes, prefix.Masked())
	case CurrentTime:
		w, err := parseWindow(value, zones)
		if err != nil {
			return err
		}
		c.windows = append(c.windows, w)
	case ClientVerified:
		verified, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf(`%q is neither "true" nor "false"`, value)
		}
		c.verified = verified
	}
	return nil
}

// holds reports whether the condition is true now and under at.
func (c *condition) holds(at Circumstances, now time.Time) bool {
	switch c.property {
	case RemoteRegion:
		return at.Country != "" && slices.Contains(c.texts, strings.ToUpper(at.Country)) != c.not
	case AuthProvider:
		return (at.Provider != "" && slices.Contains(c.texts, at.Provider)) != c.not
	case RemoteIP:
		in := slices.ContainsFunc(c.prefixes, func(p netip.Prefix) bool { return p.Contains(at.RemoteIP.Unmap()) })
		return at.RemoteIP.IsValid() && in != c.not
	case CurrentTime:
		return inAny(c.windows, now)
	case ClientVerified:
		return !c.verified || at.Verified
	}
	return false
}

// until returns when a condition that holds now ends by itself; the zero time
// means never.
func (c *condition) until(now time.Time) time.Time {
	if c.property != CurrentTime {
		return time.Time{}
	}
	return lastOf(c.windows, now)
}

// A window is a day of the week with its ranges, on the clocks of one zone.
type window struct {
	day    time.Weekday
	ranges []clockRange
	zone   *time.Location
}

// A clockRange is first to last second of a day, both inclusive.
type clockRange struct{ first, last int }

const lastSecond = 24*3600 - 1

// parseWindow reads DAY/RANGES/ZONE: one of the letters M T W R F S U; a comma
// list of HH[:MM[:SS]]-HH[:MM[:SS]], or "true" for the whole day, or nothing
// for never; an IANA zone.
func parseWindow(s string, zones Zones) (window, error) {
	day, rest, ok1 := strings.Cut(s, "/")
	ranges, zone, ok2 := strings.Cut(rest, "/")
	number := strings.Index("UMTWRFS", day) // time.Sunday is 0
	if !ok1 || !ok2 || len(day) != 1 || number < 0 {
		return window{}, fmt.Errorf("%q is not <day M T W R F S U>/<ranges>/<zone>, as M/09:00-17:00/Europe/Berlin is", s)
	}
	w := window{day: time.Weekday(number)}
	var err error
	if w.zone, err = zones(zone); err != nil || zone == "" {
		return window{}, fmt.Errorf("%q: no such time zone", zone)
	}
	switch ranges {
	case "":
		return w, nil
	case "true":
		w.ranges = []clockRange{{0, lastSecond}}
		return w, nil
	}
	for text := range strings.SplitSeq(ranges, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(text), "-")
		first, err1 := parseClock(from)
		last, err2 := parseClock(to)
		if !ok || err1 != nil || err2 != nil || first > last {
			return window{}, fmt.Errorf("%q is not a range like 09:00-17:30", text)
		}
		w.ranges = append(w.ranges, clockRange{first, last})
	}
	return w, nil
}

// parseClock reads HH[:MM[:SS]] into seconds since midnight.
func parseClock(s string) (int, error) {
	parts := strings.Split(strings.TrimSpace(s), ":")
	if len(parts) > 3 {
		return 0, fmt.Errorf("%q is not a time of day", s)
	}
	seconds := 0
	for i, limit := range []int{23, 59, 59} {
		n := 0
		if i < len(parts) {
			v, err := strconv.ParseUint(parts[i], 10, 8)
			if err != nil || int(v) > limit {
				return 0, fmt.Errorf("%q is not a time of day", s)
			}
			n = int(v)
		}
		seconds = seconds*60 + n
	}
	return seconds, nil
}

// rest returns for how long the clock of w stays in the range it is in at
// now; ok is false if it is in none.
func (w *window) rest(now time.Time) (left time.Duration, ok bool) {
	local := now.In(w.zone)
	if local.Weekday() != w.day {
		return 0, false
	}
	hour, minute, second := local.Clock()
	clock := hour*3600 + minute*60 + second
	for _, r := range w.ranges {
		if r.first <= clock && clock <= r.last {
			left, ok = max(left, time.Duration(r.last-clock)*time.Second), true
		}
	}
	return left, ok
}

func inAny(windows []window, now time.Time) bool {
	return slices.ContainsFunc(windows, func(w window) bool {
		_, ok := w.rest(now)
		return ok
	})
}

// lastOf returns the last second of the stretch of time that now is in,
// ranges that touch or overlap joined; the zero time if it does not end within
// a week, and so never.
func lastOf(windows []window, now time.Time) time.Time {
	t := now.Truncate(time.Second)
	for t.Sub(now) <= 8*24*time.Hour {
		furthest := t
		for i := range windows {
			left, ok := windows[i].rest(t)
			if !ok {
				continue
			}
			end := t.Add(left)
			// A range is cut where the zone's clocks are moved: behind that the
			// clock may be outside the range already, or in it for longer.
			if _, move := t.In(windows[i].zone).ZoneBounds(); !move.IsZero() && !end.Before(move) {
				end = move.Add(-time.Second)
			}
			if end.After(furthest) {
				furthest = end
			}
		}
		t = furthest.Add(time.Second)
		if !inAny(windows, t) {
			return furthest
		}
	}
	return time.Time{}
}
