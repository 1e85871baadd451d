package cli

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// example is a session in which a bit of everything happens.
func example() *ipc.State {
	address := netip.MustParseAddrPort
	return &ipc.State{
		Version: "0.1.0",
		Session: ipc.Session{
			Phase: ipc.Connected, Since: noon.Add(-2*time.Hour - 5*time.Minute), PortalUp: true, Token: ipc.TokenFromSignIn,
			Account: "acme", Actor: "Alice Doe", Portal: "wss://portal.example.net",
		},
		Resources: []ipc.Resource{
			{ID: id.Resource{1}, Type: "internet", Name: "Internet", State: ipc.Unknown, Problem: ipc.Problemf(ipc.InternetIsOff, "Switched off. Switch it on with: stile internet on")},
			{ID: id.Resource{2}, Type: "cidr", Name: "Office", Address: "10.0.0.0/24", Sites: []string{"Paris", "Rome"}, State: ipc.Offline},
			{ID: id.Resource{3}, Type: "dns", Name: "Wiki", Address: "wiki.corp.example", Sites: []string{"Munich"}, State: ipc.Online},
		},
		Connections: []ipc.Connection{
			{Gateway: id.Gateway{0x3f, 0x2a}, State: "connected", Path: ipc.Direct, Local: address("192.0.2.1:52625"), Remote: address("[2001:db8::1]:52625"), LastHandshake: noon.Add(-12 * time.Second), Sent: 1 << 20, Received: 12_345_678},
			{Gateway: id.Gateway{8}, Site: "Munich", State: "idle", Path: ipc.Relayed, Local: address("192.0.2.1:52625"), Remote: address("198.51.100.7:3478"), LastHandshake: noon.Add(-3 * time.Minute), Sent: 999, Received: 1024},
			{Gateway: id.Gateway{9}, Site: "Paris", State: "connecting"},
		},
		Internet: ipc.Internet{Available: true},
		Tunnel:   ipc.Tunnel{Interface: "tun-stile", IPv4: netip.MustParseAddr("100.64.0.5"), IPv6: netip.MustParseAddr("fd00:2021:1111::5")},
		DNS:      ipc.DNS{Mode: "etc-resolv-conf", Sentinels: []netip.Addr{netip.MustParseAddr("100.100.111.1")}, SearchDomain: "corp.example"},
		Counters: []ipc.Counter{{Name: "dropped: malformed", Value: 3}, {Name: "dropped: no resource has the address", Value: 1200}},
	}
}

// What people see of each kind of state. Read the files when they change.
func TestStatesAsText(t *testing.T) {
	away := example()
	away.Session.PortalUp, away.Session.Since = false, noon.Add(-73*time.Hour)
	away.Session.Problem = ipc.Problemf(ipc.PortalUnreachable, "The portal cannot be reached: no route to host. It is tried again.")
	away.Internet.On = true
	hostile := example()
	hostile.Session.Actor, hostile.Session.Account = "Eve\x1b[2J\r\nroot", "a\tb"
	hostile.Resources[0].Name, hostile.Resources[0].Problem.Text = "\u202eevil\x00", "x\ny"
	for name, s := range map[string]*ipc.State{
		"connected":   example(),
		"portal-away": away,
		"hostile":     hostile,
		"signed-out":  {Session: ipc.Session{Phase: ipc.SignedOut, Portal: "wss://portal.example.net"}},
		"expired":     {Session: ipc.Session{Phase: ipc.SignedOut, Problem: ipc.Problemf(ipc.TokenRejected, "Your session has expired. Sign in again with: stile sign-in")}},
		"connecting":  {Session: ipc.Session{Phase: ipc.Connecting, Since: noon.Add(-16 * time.Second), Token: ipc.TokenFromSignIn, Actor: "Alice", Problem: ipc.Problemf(ipc.PortalUnreachable, "The portal cannot be reached: connection refused. It is tried again.")}},
		"managed":     {Session: ipc.Session{Phase: ipc.Connected, PortalUp: true, Token: ipc.TokenFromEnvironment}},
		"raising":     {Session: ipc.Session{Phase: ipc.Raising, Token: ipc.TokenFromFile}},
		"ending":      {Session: ipc.Session{Phase: ipc.Ending}},
		"unheard-of":  {Session: ipc.Session{Phase: "levitating\x07"}, Resources: []ipc.Resource{{Name: "x", State: "hovering"}}},
	} {
		file := "testdata/" + name + ".txt"
		got := text(s, noon)
		if *update {
			os.WriteFile(file, []byte(got), 0o644)
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v; got\n%s", file, err, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x202e }) {
			t.Errorf("%s: control characters", file)
		}
	}
}

func TestAges(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 s", 0: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min", 59*time.Minute + 59*time.Second: "59 min",
		time.Hour: "1 h 0 min", 25 * time.Hour: "1 d 1 h", 1000 * 24 * time.Hour: "1000 d 0 h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestAmounts(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 10188: "9.9 KiB", 10189: "10 KiB", 1<<20 - 1: "1.0 MiB", 12_345_678: "12 MiB",
		3 << 30: "3.0 GiB", 1 << 50: "1.0 PiB", 1<<64 - 1: "16384 PiB",
	} {
		if got := amount(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestWatchingFitsTheTerminal(t *testing.T) {
	for _, row := range []struct {
		text   string
		height int
		want   string
	}{
		{"a\nb\nc\n", 3, "a\nb\nc\n"},
		{"a\nb\nc\nd\n", 3, "a\nb\n… and 2 lines more\n"},
		{"a\nb\nc\n", 1, "a\nb\nc\n"}, // not a terminal that one can read
	} {
		if got := crop(row.text, row.height); got != row.want {
			t.Errorf("%q in %d lines: %q", row.text, row.height, got)
		}
	}
}
