package console

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"stile/app/menu"
	"stile/app/words"
	tunnelid "stile/tunnel/id"
	"stile/tunnel/ipc"
)

// What is remembered is what was carried in the last five minutes, however
// connections come and go.
func TestHistoryAddsUp(t *testing.T) {
	type sample struct {
		at      time.Time
		in, out uint64
	}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		h, now := &history{}, noon
		var model []sample // of all gateways
		list := []ipc.Connection{{Gateway: gatewayID(1), Received: 1 << 40, Sent: 1 << 30}}
		h.observe(list, true, now) // what was carried before counts for nothing
		for range 300 {
			now = now.Add(time.Duration(rng.Int64N(int64(3 * time.Second))))
			if rng.IntN(50) == 0 {
				now = now.Add(time.Duration(rng.IntN(10)) * time.Minute)
			}
			var s sample
			switch n := rng.IntN(len(list) + 1); {
			case rng.IntN(40) == 0 && list[n%len(list)].Received > 5 && list[n%len(list)].Sent > 7: // a connection begins anew
				list[n%len(list)].Received, list[n%len(list)].Sent = 5, 7
				s = sample{now, 5, 7}
			case n == len(list) && n < 5:
				list = append(list, ipc.Connection{Gateway: gatewayID(byte(n + 1)), Received: 100, Sent: 10})
				s = sample{now, 100, 10}
			default:
				in, out := uint64(rng.IntN(1000)), uint64(rng.IntN(100))
				list[n%len(list)].Received += in
				list[n%len(list)].Sent += out
				s = sample{now, in, out}
			}
			model = append(model, s)
			h.observe(list, false, now)
		}
		var in, out uint64
		for _, s := range model {
			if bucketOf(s.at) > bucketOf(now)-buckets {
				in, out = in+s.in, out+s.out
			}
		}
		if gotIn, gotOut := sum(&h.total.in, now), sum(&h.total.out, now); gotIn != in || gotOut != out {
			t.Fatalf("seed %d: %d and %d bytes, want %d and %d", seed, gotIn, gotOut, in, out)
		}
		var each uint64
		for _, c := range h.of {
			each += sum(&c.in, now)
		}
		if each != in {
			t.Fatalf("seed %d: gateways have %d bytes, want %d", seed, each, in)
		}
	}
}

func sum(m *meter, now time.Time) (n uint64) {
	m.advance(now)
	for _, s := range m.sums {
		n += s
	}
	return n
}

func TestHistoryIsBounded(t *testing.T) {
	h, now := &history{}, noon
	for i := range 500 {
		h.observe([]ipc.Connection{{Gateway: someGateway(i), Received: 10}}, false, now)
	}
	if len(h.of) != maxGateways || sum(&h.total.in, now) != 10*maxGateways {
		t.Errorf("%d gateways, %d bytes", len(h.of), sum(&h.total.in, now))
	}
	now = now.Add(buckets * bucketTime)
	h.observe([]ipc.Connection{{Gateway: someGateway(1000), Received: 10}}, false, now)
	if h.of[someGateway(1000)] == nil || len(h.of) != maxGateways {
		t.Error("there is no room after five minutes")
	}
}

func someGateway(n int) (g tunnelid.Gateway) {
	if err := g.UnmarshalText(fmt.Appendf(nil, "00000000-0000-4000-8000-%012x", n)); err != nil {
		panic(err)
	}
	return g
}

func TestMetersSurviveClocks(t *testing.T) {
	var m meter
	m.add(10, noon)
	m.add(20, noon.Add(-time.Hour)) // set back: still counts, here
	if got := sum(&m, noon); got != 30 {
		t.Error(got)
	}
	if r := m.rates(noon.Add(bucketTime)); len(r) != buckets-1 || r[len(r)-1] != 15 {
		t.Error(r[len(r)-1])
	}
	if got := sum(&m, noon.Add(24*time.Hour)); got != 0 {
		t.Error(got)
	}
	m.add(1, time.Unix(-1000, 0))
	m.rates(time.Unix(0, 0))
}

func TestCurves(t *testing.T) {
	for _, c := range []struct {
		rates []uint64
		peak  uint64
		want  string
	}{
		{nil, 0, ""},
		{[]uint64{5}, 10, ""},
		{[]uint64{0, 0, 0, 0}, 0, "M0 59L300 59"},
		{[]uint64{0, 10}, 10, "M0 59L300 6"},
		{[]uint64{0, 5, 5, 5, 10}, 10, "M0 59L75 32.5L225 32.5L300 6"},
	} {
		if got := curve(c.rates, c.peak); got != c.want {
			t.Errorf("%v: %s, want %s", c.rates, got, c.want)
		}
	}
	if got := area("M0 59L300 6"); got != "M0 59L300 6V60H0Z" {
		t.Error(got)
	}
	for peak, want := range map[uint64]uint64{0: 1000, 1: 1000, 1000: 1000, 1001: 2000, 4999: 5000, 5001: 10_000, 123_456: 200_000, 1 << 63: 10_000_000_000_000_000_000} {
		if got := nice(peak); got != want {
			t.Errorf("%d: %d, want %d", peak, got, want)
		}
	}
}

func TestAmountsAreReadable(t *testing.T) {
	en, de := words.English.Console(), words.German.Console()
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9951: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 1_270_000_000: "1.3 GB", 1<<64 - 1: "18 EB"} {
		if got := bytesText(en, n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := bytesText(de, 1500); got != "1,5 kB" {
		t.Error(got)
	}
	for d, want := range map[time.Duration]string{-time.Hour: "just now", 4 * time.Second: "just now", 14 * time.Second: "10 s ago", 59 * time.Second: "55 s ago", time.Minute: "1 min ago", 59 * time.Minute: "59 min ago", 47 * time.Hour: "47 h ago", 49 * time.Hour: "2 d ago"} {
		if got := agoText(en, d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{420 * time.Microsecond: "0.4 ms", 9940 * time.Microsecond: "9.9 ms", 12800 * time.Microsecond: "13 ms", 2 * time.Second: "2000 ms"} {
		if got := tripText(en, d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := clockText(noon.Add(-time.Hour), noon); got != "11:00" {
		t.Error(got)
	}
	if got := clockText(noon.Add(-13*time.Hour), noon); got != "2026-05-31 23:00" {
		t.Error(got)
	}
}

// Each row changes something in a view, and tells what the page says of it.
func TestWhatHappened(t *testing.T) {
	blocked := &ipc.Problem{Code: ipc.SiteOffline, Text: "Nobody is there."}
	for _, e := range []struct {
		name        string
		before, now func(*menu.View)
		want        string
	}{
		{"nothing", nil, nil, ""},
		{"the service went", nil, func(v *menu.View) { v.State = nil }, "Reconnecting to the Stile service…"},
		{"it is still away", func(v *menu.View) { v.State = nil }, func(v *menu.View) { v.State = nil }, ""},
		{"it came, connected", func(v *menu.View) { v.State = nil }, nil, "The service is there|Connected · Signed in as Ada Lovelace|Connected to a gateway of Frankfurt · Direct|Connected to a gateway of Munich office · Through a relay"},
		{"signed out", nil, func(v *menu.View) { v.State.Session = ipc.Session{Phase: ipc.SignedOut} }, "Signed out"},
		{"put out", nil, func(v *menu.View) {
			v.State.Session = ipc.Session{Phase: ipc.SignedOut, Problem: &ipc.Problem{Code: ipc.TokenRejected, Text: "Sign in again."}}
		}, "Signed out: Sign in again."},
		{"connecting", func(v *menu.View) { v.State.Session.Phase = ipc.SignedOut }, func(v *menu.View) { v.State.Session.Phase = ipc.Connecting }, "Connecting to the portal…"},
		{"another phase", nil, func(v *menu.View) { v.State.Session.Phase = "of-tomorrow" }, "of-tomorrow"},
		{"the portal went", nil, func(v *menu.View) { v.State.Session.PortalUp = false }, "The portal is away; what it granted goes on"},
		{"the portal came", func(v *menu.View) { v.State.Session.PortalUp = false }, nil, "The portal answers again"},
		{"a gateway came", func(v *menu.View) { v.State.Connections = v.State.Connections[:1] }, nil, "Connected to a gateway of Munich office · Through a relay"},
		{"a gateway went", nil, func(v *menu.View) { v.State.Connections = v.State.Connections[:1] }, "The connection to Munich office ended"},
		{"a path got better", nil, func(v *menu.View) { v.State.Connections[1].Path = ipc.Direct }, "The path to Munich office is direct"},
		{"a path got worse", nil, func(v *menu.View) { v.State.Connections[0].Path = ipc.Relayed }, "The path to Frankfurt leads through a relay"},
		{"a path moved", nil, func(v *menu.View) { v.State.Connections[0].Local = v.State.Connections[0].Remote }, "The path to Frankfurt begins at 203.0.113.40"},
		{"a site without a name", nil, func(v *menu.View) { v.State.Connections[0].Site, v.State.Connections[0].Path = "", ipc.Relayed }, "The path to Unknown site leads through a relay"},
		{"a resource went", nil, func(v *menu.View) { v.State.Resources[5].Problem = blocked }, "Wiki cannot be reached: Nobody is there."},
		{"a resource came", nil, func(v *menu.View) { v.State.Resources[3].Problem = nil }, "File server Lisbon can be reached again"},
		{"a resource fewer", nil, func(v *menu.View) { v.State.Resources = v.State.Resources[:3] }, "Resources shared with you: 3"},
		{"internet on", nil, func(v *menu.View) { v.State.Internet.On = true; v.State.Resources[0].Problem = nil }, "All network traffic goes through the tunnel"},
		{"internet off", func(v *menu.View) { v.State.Internet.On = true }, nil, "Only traffic to resources goes through the tunnel"},
		{"other resolvers", nil, func(v *menu.View) { v.State.DNS.Upstream = nil }, "The resolvers of this computer changed: "},
	} {
		before, now := menu.View{State: connected()}, menu.View{State: connected()}
		if e.before != nil {
			e.before(&before)
		}
		if e.now != nil {
			e.now(&now)
		}
		var got []string
		for _, h := range happened(&before, &now) {
			got = append(got, h.text(&words.English, words.English.Console()))
			if d := h.dot(); d != "green" && d != "red" && d != "grey" {
				t.Errorf("%s: a dot of %q", e.name, d)
			}
		}
		if text := strings.Join(got, "|"); text != e.want {
			t.Errorf("%s: %q, want %q", e.name, text, e.want)
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	c := console(t, newDesk(t))
	for range 3 * maxEvents {
		c.note(event{what: networkChanged})
	}
	if len(c.past.events) != maxEvents {
		t.Error(len(c.past.events))
	}
}
