//go:build linux

package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestDNSAnswersAsScripted(t *testing.T) {
	s := NewDNS()
	address := runDNS(t, s)
	s.Set("fixed.test", Fixed("192.0.2.1", "192.0.2.2", "2001:db8::1"))
	rotating := Fixed("192.0.2.1", "192.0.2.2", "2001:db8::1")
	rotating.Rotate = true
	s.Set("turn.test", rotating)
	s.Set("empty.test", Answer{})
	s.Set("broken.test", Answer{Rcode: dns.RcodeServerFailure})
	s.Set("text.test", Answer{Others: []string{`60 IN TXT "hello"`}})

	for _, row := range []struct {
		name  string
		qtype uint16
		want  string // status and the records' values
	}{
		{"fixed.test.", dns.TypeA, "NOERROR 192.0.2.1 192.0.2.2"},
		{"FIXED.test.", dns.TypeAAAA, "NOERROR 2001:db8::1"},
		{"fixed.test.", dns.TypeMX, "NOERROR"},
		{"turn.test.", dns.TypeA, "NOERROR 192.0.2.1"},
		{"turn.test.", dns.TypeAAAA, "NOERROR 2001:db8::1"},
		{"turn.test.", dns.TypeA, "NOERROR 192.0.2.2"},
		{"turn.test.", dns.TypeA, "NOERROR 192.0.2.1"},
		{"turn.test.", dns.TypeAAAA, "NOERROR 2001:db8::1"},
		{"empty.test.", dns.TypeA, "NOERROR"},
		{"broken.test.", dns.TypeA, "SERVFAIL"},
		{"text.test.", dns.TypeTXT, `NOERROR "hello"`},
		{"nosuch.test.", dns.TypeA, "NXDOMAIN"},
	} {
		if got := ask(t, address, "udp", row.name, row.qtype); got != row.want {
			t.Errorf("%s %s: got %s; want %s", row.name, dns.TypeToString[row.qtype], got, row.want)
		}
	}
	if got := s.Asked("turn.test"); got != 5 {
		t.Errorf("turn.test was asked for %d times; want 5", got)
	}

	s.Set("fixed.test", Fixed("192.0.2.9"))
	if got, want := ask(t, address, "tcp", "fixed.test.", dns.TypeA), "NOERROR 192.0.2.9"; got != want {
		t.Errorf("after a change: got %s; want %s", got, want)
	}
}

func TestDNSTruncatesOverUDPOnly(t *testing.T) {
	s := NewDNS()
	address := runDNS(t, s)
	var many []string
	for range 40 {
		many = append(many, "2001:db8::1")
	}
	s.Set("many.test", Fixed(many...))

	r, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion("many.test.", dns.TypeAAAA), address)
	if err != nil || !r.Truncated || len(r.Answer) >= 40 {
		t.Errorf("over UDP: got %d records, %v; want fewer and the truncation bit", len(r.Answer), err)
	}
	r, _, err = (&dns.Client{Net: "tcp"}).Exchange(new(dns.Msg).SetQuestion("many.test.", dns.TypeAAAA), address)
	if err != nil || r.Truncated || len(r.Answer) != 40 {
		t.Errorf("over TCP: got %d records, %v; want 40", len(r.Answer), err)
	}
}

func TestDNSMayBeSlow(t *testing.T) {
	s := NewDNS()
	address := runDNS(t, s)
	slow := Fixed("192.0.2.1")
	slow.Delay = 50 * time.Millisecond
	s.Set("slow.test", slow)
	began := time.Now()
	if got, want := ask(t, address, "udp", "slow.test.", dns.TypeA), "NOERROR 192.0.2.1"; got != want || time.Since(began) < slow.Delay {
		t.Errorf("got %s after %v; want %s after %v", got, time.Since(began), want, slow.Delay)
	}
}

func TestDNSAsksItsParent(t *testing.T) {
	s := NewDNS()
	s.Set("own.test", Fixed("192.0.2.1"))
	s.Parent = func(_ context.Context, q *dns.Msg) (*dns.Msg, error) {
		if q.Question[0].Name == "lost.test." {
			return nil, errors.New("no answer")
		}
		return new(dns.Msg).SetRcode(q, dns.RcodeRefused), nil
	}
	address := runDNS(t, s)
	for name, want := range map[string]string{"own.test.": "NOERROR 192.0.2.1", "other.test.": "REFUSED", "lost.test.": "SERVFAIL"} {
		if got := ask(t, address, "udp", name, dns.TypeA); got != want {
			t.Errorf("%s: got %s; want %s", name, got, want)
		}
	}
}

func TestClientsWhoTrustTheAuthorityTrustItsServers(t *testing.T) {
	a, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	config, err := a.Config("web.test")
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	run(t, func(ctx context.Context) error { return Web(ctx, tls.NewListener(l, config), "web") })
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.PEM()) {
		t.Fatal("the authority's certificate does not parse")
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for path, want := range map[string]string{"/": "This is web, serving web.test to 127.0.0.1", "/bytes/3": "\x00\x00\x00"} {
		r, err := client.Get("https://web.test" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !strings.HasPrefix(string(body), want) {
			t.Errorf("%s: got %q, %v; want %q", path, body, err, want)
		}
	}
	if _, err := client.Get("https://other.test/"); err == nil {
		t.Error("the certificate holds for any name")
	}
}

func TestEchoes(t *testing.T) {
	l := listen(t)
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return Echo(ctx, l) })
	run(t, func(ctx context.Context) error { return EchoPackets(ctx, p) })
	for _, to := range []net.Addr{l.Addr(), p.LocalAddr()} {
		c, err := net.Dial(to.Network(), to.String())
		if err != nil {
			t.Fatal(err)
		}
		want := []byte("over and out")
		got := make([]byte, len(want))
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(want); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", to.Network(), got, err, want)
		}
		c.Close()
	}
}

// run runs a server until the test ends, and wants it to end well.
func run(t *testing.T, serve func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); g.Wait() })
}

func runDNS(t *testing.T, s *DNS) (address string) {
	t.Helper()
	l := listen(t)
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return s.Run(ctx, p, l) })
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ask returns the status of an answer and the values of its records.
func ask(t *testing.T, address, network, name string, qtype uint16) string {
	t.Helper()
	r, _, err := (&dns.Client{Net: network}).Exchange(new(dns.Msg).SetQuestion(name, qtype), address)
	if err != nil {
		t.Fatal(err)
	}
	answer := []string{dns.RcodeToString[r.Rcode]}
	for _, rr := range r.Answer {
		answer = append(answer, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(answer, " ")
}
