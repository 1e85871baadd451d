package portal

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of the tests, whatever the machine has
)

func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// One row for each sentence of spec portal.md 9.4.
func TestConditionsHold(t *testing.T) {
	home := Circumstances{RemoteIP: netip.MustParseAddr("203.0.113.7"), Country: "DE", Provider: "p1"}
	v6 := Circumstances{RemoteIP: netip.MustParseAddr("2001:db8::7")}
	nobody := Circumstances{}
	verified := Circumstances{Verified: true}
	const monday = "2026-09-21T08:00:00Z" // 10:00 in Berlin

	for _, c := range []struct {
		property Property
		operator string
		values   string // separated by "|"
		at       Circumstances
		now      string
		want     bool
	}{
		{RemoteRegion, "is_in", "DE|AT", home, monday, true},
		{RemoteRegion, "is_in", "AT", home, monday, false},
		{RemoteRegion, "is_not_in", "AT", home, monday, true},
		{RemoteRegion, "is_not_in", "DE", home, monday, false},
		{RemoteRegion, "is_in", "DE", nobody, monday, false},     // unknown country
		{RemoteRegion, "is_not_in", "AT", nobody, monday, false}, // always fails
		{RemoteIP, "is_in_cidr", "203.0.113.0/24", home, monday, true},
		{RemoteIP, "is_in_cidr", "203.0.113.7", home, monday, true},
		{RemoteIP, "is_in_cidr", "203.0.113.8|198.51.100.0/24", home, monday, false},
		{RemoteIP, "is_not_in_cidr", "203.0.113.0/24", home, monday, false},
		{RemoteIP, "is_not_in_cidr", "198.51.100.0/24", home, monday, true},
		{RemoteIP, "is_in_cidr", "0.0.0.0/0", v6, monday, false}, // the other family never matches
		{RemoteIP, "is_not_in_cidr", "0.0.0.0/0", v6, monday, true},
		{RemoteIP, "is_in_cidr", "203.0.113.0/24", nobody, monday, false},
		{RemoteIP, "is_not_in_cidr", "203.0.113.0/24", nobody, monday, false}, // unknown: no
		{AuthProvider, "is_in", "p1|p2", home, monday, true},
		{AuthProvider, "is_in", "p2", home, monday, false},
		{AuthProvider, "is_not_in", "p2", home, monday, true},
		{AuthProvider, "is_in", "p1", nobody, monday, false}, // a service account has none
		{AuthProvider, "is_not_in", "p1", nobody, monday, true},
		{CurrentTime, "is_in_day_of_week_time_ranges", "M/09:00-12:30,13:00-17:00/Europe/Berlin", nobody, monday, true},
		{CurrentTime, "is_in_day_of_week_time_ranges", "M/09:00-12:30,13:00-17:00/UTC", nobody, monday, false},
		{CurrentTime, "is_in_day_of_week_time_ranges", "T/09:00-12:30/Europe/Berlin", nobody, monday, false},
		{CurrentTime, "is_in_day_of_week_time_ranges", "T/true/UTC|M/8-9/UTC", nobody, monday, true},
		{CurrentTime, "is_in_day_of_week_time_ranges", "M/07:00-08:00:00/UTC", nobody, monday, true}, // inclusive
		{CurrentTime, "is_in_day_of_week_time_ranges", "M/07:00-07:59:59/UTC", nobody, monday, false},
		{CurrentTime, "is_in_day_of_week_time_ranges", "M/true/UTC", nobody, monday, true},
		{CurrentTime, "is_in_day_of_week_time_ranges", "M//UTC", nobody, monday, false}, // never
		{CurrentTime, "is_in_day_of_week_time_ranges", "T/true/Pacific/Auckland", nobody, "2026-09-21T12:00:00Z", true},
		{ClientVerified, "is", "true", verified, monday, true},
		{ClientVerified, "is", "true", nobody, monday, false},
		{ClientVerified, "is", "false", nobody, monday, true},
		{ClientVerified, "is", "false", verified, monday, true},
	} {
		compiled, err := Condition{c.property, c.operator, strings.Split(c.values, "|")}.compile(time.LoadLocation)
		if err != nil {
			t.Errorf("%s %s %s: %v", c.property, c.operator, c.values, err)
			continue
		}
		if got := compiled.holds(c.at, instant(t, c.now)); got != c.want {
			t.Errorf("%s %s %s at %+v %s = %v, want %v", c.property, c.operator, c.values, c.at, c.now, got, c.want)
		}
	}
}

func TestConditionsRefused(t *testing.T) {
	const in = "is_in_day_of_week_time_ranges"
	for _, c := range []Condition{
		{"moon_phase", "is", []string{"full"}},
		{RemoteIP, "is_in", []string{"10.0.0.0/8"}},
		{RemoteIP, "is_in_cidr", []string{"10.0.0.0/33"}},
		{RemoteIP, "is_in_cidr", []string{"office"}},
		{ClientVerified, "is", []string{"perhaps"}},
		{CurrentTime, in, []string{"M"}},
		{CurrentTime, in, []string{"X/true/UTC"}},
		{CurrentTime, in, []string{"MT/true/UTC"}},
		{CurrentTime, in, []string{"/true/UTC"}},
		{CurrentTime, in, []string{"M/true/Mars/Olympus"}},
		{CurrentTime, in, []string{"M/true/"}},
		{CurrentTime, in, []string{"M/17-9/UTC"}},
		{CurrentTime, in, []string{"M/9/UTC"}},
		{CurrentTime, in, []string{"M/9-24/UTC"}},
		{CurrentTime, in, []string{"M/9:00:00:00-10/UTC"}},
		{CurrentTime, in, []string{"M/-1-10/UTC"}},
	} {
		if err := c.Check(time.LoadLocation); err == nil {
			t.Errorf("%v was accepted", c)
		}
	}
}

func TestTimeConditionEnds(t *testing.T) {
	for _, c := range []struct{ windows, now, want string }{
		{"M/09:00-12:30/UTC", "2026-09-21T10:00:00Z", "2026-09-21T12:30:00Z"},
		{"M/09:00-12:30,12:30-17:00/UTC", "2026-09-21T10:00:00Z", "2026-09-21T17:00:00Z"}, // touching
		{"M/09:00-12:30,10:00-17:00/UTC", "2026-09-21T10:00:00Z", "2026-09-21T17:00:00Z"}, // overlapping
		{"M/09:00-12:30/UTC|M/12:00-15:00/UTC", "2026-09-21T10:00:00Z", "2026-09-21T15:00:00Z"},
		{"M/true/UTC|T/00:00-06:00/UTC", "2026-09-21T10:00:00Z", "2026-09-22T06:00:00Z"}, // across midnight
		{"M/09:00-17:00/Europe/Berlin", "2026-09-21T10:00:00Z", "2026-09-21T15:00:00Z"},
		{"U/true/UTC|M/true/UTC|T/true/UTC|W/true/UTC|R/true/UTC|F/true/UTC|S/true/UTC", "2026-09-21T10:00:00Z", ""},
		// Clocks go forward at 01:00 UTC and back at 01:00 UTC.
		{"U/00:00-06:00/Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T04:00:00Z"},
		{"U/00:00-02:30/Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T00:59:59Z"},
		{"U/00:00-06:00/Europe/Berlin", "2026-10-24T22:30:00Z", "2026-10-25T05:00:00Z"},
	} {
		compiled, err := Condition{CurrentTime, "is_in_day_of_week_time_ranges", strings.Split(c.windows, "|")}.compile(time.LoadLocation)
		if err != nil {
			t.Fatal(err)
		}
		got := compiled.until(instant(t, c.now))
		if text := got.UTC().Format(time.RFC3339); !(got.IsZero() && c.want == "") && text != c.want {
			t.Errorf("%s from %s lasts until %s, want %q", c.windows, c.now, text, c.want)
		}
	}
}

// Whatever the windows and zones, a condition holds up to and including its
// end, and not a second later: tried second by second near the end and minute
// by minute before.
func TestTimeConditionHoldsExactlyUntilItsEnd(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var values []string
		for range 1 + rng.IntN(8) {
			from := rng.IntN(24)
			values = append(values, fmt.Sprintf("%c/%d:00-%d:59:59/%s", "MTWRFSU"[rng.IntN(7)], from, from+rng.IntN(24-from), zones[rng.IntN(len(zones))]))
		}
		c, err := Condition{CurrentTime, "is_in_day_of_week_time_ranges", values}.compile(time.LoadLocation)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		now := time.Unix(1790000000+rng.Int64N(365*24*3600), 0)
		if !c.holds(Circumstances{}, now) {
			continue
		}
		end := c.until(now)
		if end.IsZero() {
			end = now.Add(8 * 24 * time.Hour)
		} else if c.holds(Circumstances{}, end.Add(time.Second)) {
			t.Fatalf("seed %d: %v still holds after its end %v", seed, values, end)
		}
		for at := now; at.Before(end); at = at.Add(time.Minute) {
			if !c.holds(Circumstances{}, at) {
				t.Fatalf("seed %d: %v from %v until %v does not hold at %v", seed, values, now, end, at)
			}
		}
	}
}

func FuzzWindow(f *testing.F) {
	for _, s := range []string{"M/09:00-12:30,13:00-17:00/Europe/Berlin", "U/true/UTC", "S//UTC", "M/1-2:3:4/UTC", "//", "M/-/UTC"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := parseWindow(s, func(string) (*time.Location, error) { return time.UTC, nil })
		if err != nil {
			return
		}
		for _, r := range w.ranges {
			if r.first < 0 || r.first > r.last || r.last > lastSecond {
				t.Fatalf("%q gave the range %v", s, r)
			}
		}
	})
}
