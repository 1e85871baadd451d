package operator

import (
	"bytes"
	"io"
	"net/netip"
	"testing"
	"time"

	"stile/platform/forward"
	"stile/tunnel/gateway"
	"stile/tunnel/id"
)

func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", 12345: "12,345"} {
		if got := count(n); got != want {
			t.Errorf("count %d: %s", n, got)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 12_345_678: "12 MB", 1 << 63: "9 EB"} {
		if got := size(n); got != want {
			t.Errorf("size %d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1500 * time.Millisecond: "1s", 61 * time.Second: "1m 1s", time.Hour - 1: "59m 59s", 25*time.Hour + time.Minute: "1d 1h", 3*time.Hour + 4*time.Minute: "3h 4m",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration %v: %s, want %s", d, got, want)
		}
	}
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	for at, want := range map[time.Time]string{noon.Add(61 * time.Second): "12:01:01", noon.AddDate(0, 0, 1): "2026-11-24 12:00", noon.AddDate(1, 0, 0): "2027-11-23 12:00"} {
		if got := when(at, noon); got != want {
			t.Errorf("%v: %s, want %s", at, got, want)
		}
	}
}

// Names come from portals and clients; a terminal must not obey them.
func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"Wiki": "Wiki", "a\x1b[2Jb": "a?[2Jb", "tab\there": "tab?here", "Zürich": "Zürich", "": "",
		"0123456789012345678901234567890123456789012345678901234567890": "01234567890123456789012345678901234567890123456789012345678…",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTally(t *testing.T) {
	if got := tally(map[string]uint64{"b": 2, "a": 2, "c": 1000, "d": 0}, "nothing"); got != "1,000 c, 2 a, 2 b" {
		t.Error(got)
	}
	if got := tally(map[string]uint64{"d": 0}, "nothing"); got != "nothing" {
		t.Error(got)
	}
}

// Each reason for where a proxy address leads.
func TestWhy(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	x, y := addr("10.0.0.7"), addr("10.0.0.8")
	by := &gateway.Holder{Protocol: "tcp", ClientPort: 5000, Port: 443}
	until := now.Add(time.Minute)
	for _, row := range []struct {
		p       gateway.Proxy
		answers int
		want    string
	}{
		{gateway.Proxy{Real: x}, 1, "as DNS answered"},
		{gateway.Proxy{}, 0, "DNS has no address"},
		{gateway.Proxy{}, 1, "DNS has none of this family"},
		{gateway.Proxy{Real: x, HeldBy: by, HeldUntil: until}, 1, "in use by tcp 5000 → 443"},
		{gateway.Proxy{Real: x, HeldBy: &gateway.Holder{Protocol: "icmp", ClientPort: 5}, HeldUntil: until}, 1, "in use by icmp"},
		{gateway.Proxy{Real: x, HeldBy: by, HeldUntil: until, Waiting: true, Pending: y}, 1, "kept until 12:01:00 for tcp 5000 → 443; then 10.0.0.8"},
		{gateway.Proxy{Real: x, HeldBy: by, HeldUntil: until, Waiting: true}, 0, "kept until 12:01:00 for tcp 5000 → 443; then nowhere"},
		{gateway.Proxy{Real: y, Avoided: []gateway.Avoided{{Real: x, Port: 443, Until: until}, {Real: y, Until: until}}}, 2,
			"as DNS answered; 10.0.0.7 fails on TCP port 443, avoided until 12:01:00; 10.0.0.8 is out of reach, avoided until 12:01:00"},
	} {
		if got := why(&row.p, row.answers, now); got != row.want {
			t.Errorf("got  %s\nwant %s", got, row.want)
		}
	}
}

func TestPrintedStatus(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	s := Status{
		Version: "1.0 (abc)", StartedAt: now.Add(-time.Hour), Time: now,
		Summary: gateway.Summary{
			IPv4: addr("100.64.0.1"), Sessions: 1234, Drops: map[string]uint64{"filtered": 3},
			Resolutions: gateway.Resolutions{Running: 1, Waiting: 2, Addresses: 5, Empty: 1, Failed: 1},
			Relays:      []gateway.Relay{{Address: netip.MustParseAddrPort("203.0.113.5:3478"), RTT: 12.4, Allocated: []netip.AddrPort{{}}}, {ID: id.Relay{15: 9}}},
		},
		Carried:  Carried{10, 1000, 20, 2000},
		Tracked:  forward.Tracked{Count: 95, Max: 100},
		FlowLogs: []FlowLog{{To: "/var/log/flows", Lines: 1000, Lost: 2}},
		Clients: []gateway.Client{
			{ID: alice, IPv4: addr("100.64.0.7"), Actor: "alice@corp.example", State: "direct", Remote: netip.MustParseAddrPort("198.51.100.7:52625"), Sessions: 3, BytesOut: 1500, BytesIn: 10,
				Authorizations: []gateway.Authorization{{Name: "Wiki", ExpiresAt: now.Add(time.Hour)}, {Address: "10.0.0.0/8"}, {Name: "c"}, {Name: "d"}, {Name: "e"}, {Name: "f"}}},
			{ID: bob, IPv4: addr("100.64.0.9"), State: "away", Sessions: 1, KeptUntil: now.Add(time.Minute)},
		},
	}
	const want = `Gateway 1.0 (abc), up 1h 0m, NO CONNECTION to the portal: what is open goes on, nobody new comes in

  Address                100.64.0.1
  Relays                 203.0.113.5:3478 (12 ms), 00000000-0000-0000-0000-000000000009 (does not answer)
  Sessions               1,234
  From clients           10 packets, 1.0 kB
  To clients             20 packets, 2.0 kB
  Dropped                3 filtered
  Names                  7 looked up, 1 without address, 1 failed; 1 being looked up, 2 waiting
  Tracked by the kernel  95 of 100 connections; NEARLY FULL: new ones will be refused
  Flow log               /var/log/flows: 1,000 lines; 2 LOST

CLIENT      USER                WAY     FROM                SESSIONS  SENT    RECEIVED  MAY USE
100.64.0.7  alice@corp.example  direct  198.51.100.7:52625  3         1.5 kB  10 B      Wiki until 13:00:00, 10.0.0.0/8, c, d, 2 more
100.64.0.9  -                   away    -                   1         0 B     0 B       nothing; its sessions are kept until 12:01:00
`
	var b bytes.Buffer
	if s.print(&b); b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
	b.Reset()
	printOver(&b, func(w io.Writer) { w.Write([]byte("a\nb\n")) })
	if b.String() != "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J" {
		t.Errorf("%q", &b)
	}
}

// A client whose user the portal did not name, and nobody at all.
func TestPrintedNothing(t *testing.T) {
	for want, print := range map[string]func(*bytes.Buffer){
		"No sessions.\n":                            func(b *bytes.Buffer) { (&Sessions{}).print(b) },
		"0 of 1,000 sessions.\n":                    func(b *bytes.Buffer) { (&Sessions{Total: 1000}).print(b) },
		"No client is authorized for a resource.\n": func(b *bytes.Buffer) { (&Resources{}).print(b) },
	} {
		var b bytes.Buffer
		if print(&b); b.String() != want {
			t.Errorf("got %q, want %q", &b, want)
		}
	}
}
