package ice

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestParse(t *testing.T) {
	host := Candidate{Kind: Host, Addr: ap("192.168.1.5:52625"), Priority: 2130706175}
	srflx := Candidate{Kind: ServerReflexive, Addr: ap("203.0.113.7:40001"), Priority: 1686109951, Related: ap("0.0.0.0:0")}
	for _, c := range []struct {
		name, text string
		want       Candidate
		ufrag      string
		err        error
	}{
		{"host", "candidate:fffeff7e9d2c51b1f7a40c33 1 udp 2130706175 192.168.1.5 52625 typ host ufrag xq7e", host, "xq7e", nil},
		{"no ufrag", "candidate:1 1 udp 2130706175 192.168.1.5 52625 typ host", host, "", nil},
		{"transport in any case", "candidate:1 1 UDP 2130706175 192.168.1.5 52625 typ host", host, "", nil},
		{"related", "candidate:1 1 udp 1686109951 203.0.113.7 40001 typ srflx raddr 0.0.0.0 rport 0 ufrag xq7e", srflx, "xq7e", nil},
		{"other extensions", "candidate:1 1 udp 1686109951 203.0.113.7 40001 typ srflx generation 0 raddr 0.0.0.0 rport 0 network-cost 10", srflx, "", nil},
		{"IPv6", "candidate:1 1 udp 5 2001:db8:2::9 50001 typ relay raddr :: rport 0", Candidate{Kind: Relayed, Addr: ap("[2001:db8:2::9]:50001"), Priority: 5, Related: ap("[::]:0")}, "", nil},
		{"loopback passes", "candidate:1 1 udp 5 127.0.0.1 9 typ host", Candidate{Addr: ap("127.0.0.1:9"), Priority: 5}, "", nil},
		{"prefix is mandatory", "1 1 udp 2130706175 192.168.1.5 52625 typ host", Candidate{}, "", ErrSyntax},
		{"a= is not the prefix", "a=candidate:1 1 udp 2130706175 192.168.1.5 52625 typ host", Candidate{}, "", ErrSyntax},
		{"component 2", "candidate:1 2 udp 2130706175 192.168.1.5 52625 typ host", Candidate{}, "", ErrIgnored},
		{"tcp", "candidate:1 1 tcp 2130706175 192.168.1.5 52625 typ host", Candidate{}, "", ErrIgnored},
		{"unknown type", "candidate:1 1 udp 2130706175 192.168.1.5 52625 typ mirror", Candidate{}, "", ErrIgnored},
		{"mDNS", "candidate:1 1 udp 2130706175 a.local 52625 typ host", Candidate{}, "", ErrAddress},
		{"zone", "candidate:1 1 udp 2130706175 fe80::1%eth0 52625 typ host", Candidate{}, "", ErrAddress},
		{"priority beyond 32 bits", "candidate:1 1 udp 4294967296 192.168.1.5 52625 typ host", Candidate{}, "", ErrSyntax},
		{"port beyond 16 bits", "candidate:1 1 udp 1 192.168.1.5 65536 typ host", Candidate{}, "", ErrAddress},
		{"port 0", "candidate:1 1 udp 1 192.168.1.5 0 typ host", Candidate{}, "", ErrAddress},
		{"raddr alone", "candidate:1 1 udp 1 192.168.1.5 1 typ srflx raddr 1.2.3.4", Candidate{}, "", ErrAddress},
		{"raddr is no address", "candidate:1 1 udp 1 192.168.1.5 1 typ srflx raddr x rport 0", Candidate{}, "", ErrAddress},
		{"link-local", "candidate:1 1 udp 1 169.254.1.5 1 typ host", Candidate{}, "", ErrAddress},
		{"broadcast", "candidate:1 1 udp 1 255.255.255.255 1 typ host", Candidate{}, "", ErrAddress},
		{"multicast", "candidate:1 1 udp 1 ff02::1 1 typ host", Candidate{}, "", ErrAddress},
		{"unspecified", "candidate:1 1 udp 1 :: 1 typ host", Candidate{}, "", ErrAddress},
		{"too long", "candidate:" + strings.Repeat("1", maxText) + " 1 udp 1 1.2.3.4 1 typ host", Candidate{}, "", ErrSyntax},
		{"empty", "", Candidate{}, "", ErrSyntax},
	} {
		got, ufrag, err := Parse(c.text)
		if !errors.Is(err, c.err) || err == nil && (got != c.want || ufrag != c.ufrag) {
			t.Errorf("%s: got %+v %q %v, want %+v %q %v", c.name, got, ufrag, err, c.want, c.ufrag, c.err)
		}
	}
}

func TestText(t *testing.T) {
	agent := newAgent(true)
	for _, c := range []struct {
		in   Candidate
		want string // foundations: the byte-swapped priority and any token
	}{
		{NewHost(ap("192.168.1.5:52625")), "candidate:fffeff7e 1 udp 2130706175 192.168.1.5 52625 typ host ufrag xq7e"},
		{NewServerReflexive(ap("203.0.113.7:40001"), ap("192.168.1.5:52625")), "candidate:fffe7f64 1 udp 1686109951 203.0.113.7 40001 typ srflx raddr 0.0.0.0 rport 0 ufrag xq7e"},
		{NewRelayed(ap("198.51.100.9:50001"), false), "candidate:fffe3f02 1 udp 37748479 198.51.100.9 50001 typ relay raddr 0.0.0.0 rport 0 ufrag xq7e"},
		{NewRelayed(ap("[2001:db8:2::9]:50001"), false), "candidate:ffff3f02 1 udp 37748735 2001:db8:2::9 50001 typ relay raddr :: rport 0 ufrag xq7e"},
	} {
		local, ok := agent.AddLocal(c.in, start0)
		if !ok {
			t.Fatalf("%v refused", c.in)
		}
		text := local.Text("xq7e")
		foundation, rest, _ := strings.Cut(text, " ")
		short := foundation[:len(textPrefix)+8] + " " + rest
		if short != c.want || len(foundation) > len(textPrefix)+24 {
			t.Errorf("got %q, want %q", text, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("candidate:fffeff7e9d2c51b1f7a40c33 1 udp 2130706175 192.168.1.5 52625 typ host ufrag xq7e")
	f.Add("candidate:1 1 udp 1686109951 203.0.113.7 40001 typ srflx raddr 0.0.0.0 rport 0 ufrag xq7e")
	f.Add("candidate:1 1 udp 37748735 2001:db8:2::9 50001 typ relay raddr :: rport 0")
	f.Add("candidate:1 1 udp 37748735 ::ffff:1.2.3.4 50001 typ prflx a b c")
	f.Fuzz(func(t *testing.T, text string) {
		c, ufrag, err := Parse(text)
		if err != nil {
			return
		}
		again, ufrag2, err := Parse(c.Text(ufrag))
		if err != nil || again != c || ufrag2 != ufrag {
			t.Fatalf("%q became %q: %+v, %v", text, c.Text(ufrag), again, err)
		}
	})
}

func TestPriorities(t *testing.T) {
	v4, v6 := ap("192.0.2.1:1"), ap("[2001:db8::1]:1")
	for _, c := range []struct {
		name        string
		in          Candidate
		want, check uint32
	}{
		{"host v4", NewHost(v4), 2130706175, 1862270719},
		{"host v6", NewHost(v6), 2130706431, 1862270975},
		{"srflx v4", NewServerReflexive(v4, ap("10.0.0.1:1")), 1686109951, 0},
		{"srflx v6", NewServerReflexive(v6, ap("[fd00::1]:1")), 1686110207, 0},
		{"relay v4", NewRelayed(v4, false), 37748479, 1849687807},
		{"relay v6", NewRelayed(v6, false), 37748735, 1849688063},
		{"relay v4 over v6", NewRelayed(v4, true), 37492479, 0},
		{"relay v6 over v4", NewRelayed(v6, true), 37492735, 0},
	} {
		got, ok := newAgent(true).AddLocal(c.in, start0)
		if !ok || got.Priority != c.want || c.check != 0 && got.checkPriority() != c.check {
			t.Errorf("%s: got %d and %d in checks, want %d and %d", c.name, got.Priority, got.checkPriority(), c.want, c.check)
		}
	}

	agent := newAgent(true)
	first, _ := agent.AddLocal(NewHost(v4), start0)
	second, _ := agent.AddLocal(NewHost(ap("192.0.2.2:1")), start0)
	if first.Priority-second.Priority != 2<<8 {
		t.Errorf("second host: got %d, want local preference 2 below %d", second.Priority, first.Priority)
	}
	if got := pairPriority(3, 2); got != 2<<32+2*3+1 {
		t.Errorf("pair priority: got %x", got)
	}
	if got := pairPriority(2, 3); got != 2<<32+2*3 {
		t.Errorf("pair priority: got %x", got)
	}
}

func TestLocalsThatAddNothing(t *testing.T) {
	agent := newAgent(true)
	host := ap("192.0.2.1:52625")
	agent.AddLocal(NewHost(host), start0)
	for name, c := range map[string]Candidate{
		"same again":          NewHost(host),
		"srflx equal to host": NewServerReflexive(host, host),
		"unusable":            NewHost(ap("169.254.0.1:1")),
	} {
		if _, ok := agent.AddLocal(c, start0); ok {
			t.Errorf("%s: added", name)
		}
	}
}
