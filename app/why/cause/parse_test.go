package cause

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"stile/tunnel/ipc"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"wiki.corp.example": "wiki.corp.example", "Wiki.Corp.Example.": "wiki.corp.example", "wiki:8080": "wiki:8080", " wiki ": "wiki",
		"10.9.0.10": "10.9.0.10", "10.9.0.10:22": "10.9.0.10:22", "fd00::1": "fd00::1", "[fd00::1]:22": "[fd00::1]:22", "[fd00::1]": "fd00::1",
		"::ffff:10.9.0.10": "10.9.0.10", "fe80::1%eth0": "fe80::1", "bücher.example": "xn--bcher-kva.example", "_sip.corp.example": "_sip.corp.example",
		"https://wiki.corp.example/x?y=z#w": "wiki.corp.example:443", "http://wiki.corp.example:8080/": "wiki.corp.example:8080", "HTTP://WIKI/": "wiki:80",
		"ssh://ada@build.corp.example": "build.corp.example:22", "foo://wiki": "wiki", "https://[fd00::1]/": "[fd00::1]:443", "postgres://db/x": "db:5432",
	} {
		got, err := ParseTarget(text)
		if err != nil || got.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", ":80", "wiki:", "wiki:0", "wiki:65536", "wiki:http", "a b", "wiki/x", "https://", "http://:80/", "[fd00::1", "[fd00::1]x", "a..b", ".", "http://%zz/",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 200) + "a", strings.Repeat("x", 5000), "ada@wiki"} {
		if got, err := ParseTarget(text); !errors.Is(err, ErrTarget) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"wiki:80", "https://wiki.corp.example/x", "[fd00::1]:22", "10.0.0.1", "fe80::1%1", "bücher.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text)
		if err != nil {
			return
		}
		again, err := ParseTarget(target.String())
		if err != nil || again != target {
			t.Errorf("%q is %+v, which reads back as %+v, %v", text, target, again, err)
		}
		if _, err := ipc.AppendRequest(nil, ipc.Request{ID: 1, Command: ipc.Inspect{Host: target.Host, Port: target.Port}}); err != nil {
			t.Errorf("%q is %+v, which the service cannot be asked about: %v", text, target, err)
		}
	})
}

func TestHostsOf(t *testing.T) {
	const text = "127.0.0.1 localhost\n# 10.0.0.1 wiki\n10.0.0.2\tWiki.Corp.Example. wiki # x\n\nnonsense wiki\nfd00::2 wiki\n10.0.0.3\r\n10.0.0.4 other"
	if got := fmt.Sprint(HostsOf(text, "wiki")); got != "[10.0.0.2 fd00::2]" {
		t.Error(got)
	}
	if got := fmt.Sprint(HostsOf(text, "wiki.corp.example")); got != "[10.0.0.2]" {
		t.Error(got)
	}
}

func FuzzHostsOf(f *testing.F) {
	f.Add("10.0.0.2 wiki # x\n", "wiki")
	f.Fuzz(func(t *testing.T, text, name string) {
		if n := len(HostsOf(text, name)); n > strings.Count(text, "\n")+1 {
			t.Errorf("%d addresses in %q", n, text)
		}
	})
}

func TestReplies(t *testing.T) {
	ask := func(v6 bool) dnsmessage.Message {
		q, err := Question(7, "wiki.corp.example", v6)
		if err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(q); err != nil || m.Response || !m.RecursionDesired || m.ID != 7 {
			t.Fatalf("%v: %+v", err, m)
		}
		m.Response = true
		return m
	}
	read := func(m dnsmessage.Message) string {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		l, ok := ParseReply(7, b)
		return fmt.Sprintf("%s %v %v", l.Outcome, l.Addrs, ok)
	}
	four, six := ask(false), ask(true)
	header := dnsmessage.ResourceHeader{Name: four.Questions[0].Name, Class: dnsmessage.ClassINET}
	four.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: header.Name}}, {Header: header, Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}}}
	six.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr("fd00::1").As16()}}}
	none, missing, failed, other := ask(false), ask(false), ask(false), ask(false)
	missing.RCode, failed.RCode, other.ID = dnsmessage.RCodeNameError, dnsmessage.RCodeServerFailure, 8
	for _, row := range []struct {
		m    dnsmessage.Message
		want string
	}{
		{four, "found [10.0.0.1] true"}, {six, "found [fd00::1] true"}, {none, "no-address [] true"}, {missing, "no-name [] true"}, {failed, "failed [] true"}, {other, " [] false"},
	} {
		if got := read(row.m); got != row.want {
			t.Errorf("%s, want %s", got, row.want)
		}
	}
	if _, err := Question(7, strings.Repeat("a", 300), false); err == nil {
		t.Error("a name that is too long is asked for")
	}
	joined := Join(Lookup{Outcome: NoAnswer}, Lookup{Found, addrs("fd00::1")})
	joined = Join(joined, Lookup{Found, addrs("10.0.0.1")})
	if joined.Outcome != Found || len(joined.Addrs) != 2 {
		t.Errorf("%+v", joined)
	}
}

func TestWhatProgramsAreTold(t *testing.T) {
	l := ParseAhosts("10.9.0.10       STREAM wiki.corp.example\n10.9.0.10       DGRAM\n10.9.0.10       RAW\nfe80::1%eth0 STREAM\n\nnonsense\n")
	if fmt.Sprint(l) != "{found [10.9.0.10 fe80::1]}" {
		t.Error(l)
	}
	if l := ParseAhosts(""); l.Outcome != NotAsked {
		t.Error(l)
	}
	dns := Lookup{Found, addrs("10.9.0.10", "fd00::1")}
	for _, row := range []struct{ programs, dns, want Lookup }{
		{Lookup{}, dns, dns}, {Lookup{Found, addrs("10.9.0.10")}, dns, dns}, {Lookup{Found, addrs("10.0.0.1")}, dns, Lookup{Found, addrs("10.0.0.1")}},
		{Lookup{Found, addrs("10.0.0.1")}, Lookup{Outcome: NoName}, Lookup{Found, addrs("10.0.0.1")}}, {Lookup{}, Lookup{Outcome: NoAnswer}, Lookup{Outcome: NoAnswer}},
	} {
		if got := Prefer(row.programs, row.dns); fmt.Sprint(got) != fmt.Sprint(row.want) {
			t.Errorf("%v and %v: %v, want %v", row.programs, row.dns, got, row.want)
		}
	}
}

func FuzzParseAhosts(f *testing.F) {
	f.Add("10.9.0.10       STREAM wiki\n10.9.0.10       DGRAM\n")
	f.Fuzz(func(t *testing.T, text string) {
		if l := ParseAhosts(text); (l.Outcome == Found) != (len(l.Addrs) > 0) {
			t.Errorf("%v", l)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	q, _ := Question(7, "wiki.corp.example", true)
	q[2] |= 0x80
	f.Add(q)
	f.Fuzz(func(t *testing.T, reply []byte) {
		if l, ok := ParseReply(7, reply); ok != (l.Outcome != NotAsked) || (l.Outcome == Found) != (len(l.Addrs) > 0) {
			t.Errorf("%+v, %v", l, ok)
		}
	})
}

func TestTCPPorts(t *testing.T) {
	for _, row := range []struct {
		filters []string
		want    string
	}{
		{nil, "[] true"}, {[]string{"tcp"}, "[] true"}, {[]string{"tcp/80", "udp/53", "icmp", "tcp/8000-9000"}, "[80 8000] false"}, {[]string{"udp", "icmp", "tcp/x"}, "[] false"},
	} {
		ports, all := TCPPorts(&ipc.Knowledge{Access: []ipc.Access{{Filters: row.filters}}})
		if got := fmt.Sprint(ports, all); got != row.want {
			t.Errorf("%v: %s, want %s", row.filters, got, row.want)
		}
	}
}
