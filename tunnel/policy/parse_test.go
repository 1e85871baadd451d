package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"stile/tunnel/packet"
	"stile/tunnel/wire"
)

func TestParsePorts(t *testing.T) {
	for _, test := range []struct {
		text string
		want Filters
		err  string
	}{
		{"", nil, ""},
		{" ", nil, ""},
		{"tcp/22", Filters{{Protocol: wire.TCP, First: 22, Last: 22}}, ""},
		{" TCP/22 ,udp/8000-8010", Filters{{Protocol: wire.TCP, First: 22, Last: 22}, {Protocol: wire.UDP, First: 8000, Last: 8010}}, ""},
		{"udp/1-65535", Filters{{Protocol: wire.UDP, First: 1, Last: 65535}}, ""},
		{"22", nil, `"22": the protocol or the port is missing; write it like tcp/22 or udp/8000-8010`},
		{"tcp", nil, "missing"},
		{"tcp/22,", nil, `"": the protocol or the port is missing`},
		{"tcp/22,sctp/5", nil, `"sctp/5": "sctp" is neither tcp nor udp`},
		{"icmp/8", nil, "neither"},
		{"tcp/", nil, `"" is no port from 1 to 65535`},
		{"tcp/0", nil, "no port"},
		{"tcp/65536", nil, `"65536" is no port`},
		{"tcp/-1", nil, "no port"},
		{"tcp/ssh", nil, "no port"},
		{"tcp/1-2-3", nil, `"2-3" is no port`},
		{"tcp/9-3", nil, "ends before it begins"},
		{"tcp/ 22", nil, "no port"},
	} {
		got, err := ParsePorts(test.text)
		switch {
		case test.err == "" && (err != nil || !slices.Equal(got, test.want)):
			t.Errorf("%q: %v, %v", test.text, got, err)
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%q: %v, %v", test.text, got, err)
		}
	}
}

func TestParseLinkLocal(t *testing.T) {
	for _, test := range []struct {
		text, want string
		ok         bool
	}{
		{"", "", true},
		{"169.254.10.1", "169.254.10.1/32", true},
		{"169.254.10.9/24, fe80::/10", "169.254.10.0/24,fe80::/10", true},
		{"169.254.0.0/16", "169.254.0.0/16", true},
		{"169.0.0.0/8", "", false},
		{"0.0.0.0/0", "", false},
		{"10.0.0.1", "", false},
		{"fe00::/8", "", false},
		{"fe80::1%eth0", "", false},
		{"::ffff:169.254.0.1", "", false},
		{"metadata", "", false},
		{"169.254.0.1,", "", false},
	} {
		list, err := ParseLinkLocal(test.text)
		var texts []string
		for _, p := range list {
			texts = append(texts, p.String())
		}
		if got := strings.Join(texts, ","); got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: %q, %v", test.text, got, err)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"", "tcp/22", "udp/1-2, tcp/65535", "tcp/2-1", "/", "-", ","} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParsePorts(text)
		for _, p := range list {
			if err != nil || p.First == 0 || p.Last < p.First || !list.Permits(packet.Proto(p.Protocol), p.Last) {
				t.Fatalf("%q: %v, %v", text, list, err)
			}
		}
	})
}

// Spec gateway-nat.md N19, range by range: its ends, and what lies beside it.
func TestN19UnusableRanges(t *testing.T) {
	for _, test := range []struct{ name, first, last, before, after string }{
		{"this network", "0.0.0.0", "0.255.255.255", "", "1.0.0.0"},
		{"loopback", "127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"},
		{"link-local", "169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"},
		{"multicast and reserved", "224.0.0.0", "255.255.255.255", "223.255.255.255", ""},
		{"peers", "100.64.0.0", "100.95.255.255", "100.63.255.255", ""},
		{"proxies", "100.96.0.0", "100.127.255.255", "", "100.128.0.0"},
		{"unspecified and loopback", "::", "::1", "", "::2"},
		{"mapped", "::ffff:0.0.0.0", "::ffff:255.255.255.255", "::fffe:ffff:ffff", "::1:0:0:0"},
		{"link-local", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::"},
		{"multicast", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"peers", "fd00:2021:1111::", "fd00:2021:1111::1f:ffff", "fd00:2021:1110:ffff:ffff:ffff:ffff:ffff", "fd00:2021:1111::20:0"},
		{"proxies", "fd00:2021:1111:8000::", "fd00:2021:1111:8000::1f:ffff", "fd00:2021:1111:7fff:ffff:ffff:ffff:ffff", "fd00:2021:1111:8000::20:0"},
		{"sentinels", "fd00:2021:1111:8000:100:100:111:0", "fd00:2021:1111:8000:100:100:111:ff", "fd00:2021:1111:8000:100:100:110:ffff", "fd00:2021:1111:8000:100:100:111:100"},
	} {
		for _, s := range []string{test.first, test.last} {
			if IsUsable(netip.MustParseAddr(s)) {
				t.Errorf("%s: %s is usable", test.name, s)
			}
		}
		for _, s := range []string{test.before, test.after} {
			if s != "" && !IsUsable(netip.MustParseAddr(s)) {
				t.Errorf("beside %s: %s is not usable", test.name, s)
			}
		}
	}
	for _, s := range []string{"10.0.0.1", "172.16.0.1", "192.168.1.1", "198.18.0.1", "192.0.2.1", "8.8.8.8", "fd12::1", "fc00::1", "2001:db8::1"} {
		if !IsUsable(netip.MustParseAddr(s)) {
			t.Errorf("%s is not usable: gateways are for private networks", s)
		}
	}
	if IsUsable(netip.Addr{}) {
		t.Error("no address at all is usable")
	}
	for s, want := range map[string]bool{"169.254.169.254": true, "fe80::1": true, "169.253.0.1": false, "10.0.0.1": false, "::ffff:169.254.0.1": false, "fec0::1": false} {
		if IsLinkLocal(netip.MustParseAddr(s)) != want {
			t.Errorf("%s link-local: %v", s, !want)
		}
	}
}
