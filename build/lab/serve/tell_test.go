//go:build linux

package serve

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestServersTellWhereTheyWereReached(t *testing.T) {
	l := listen(t)
	run(t, func(ctx context.Context) error { return Tell(ctx, l) })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); line != "127.0.0.1\n" || err != nil {
		t.Errorf("it says %q, %v", line, err)
	}
	if _, err := c.Write([]byte("and on\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "and on\n" || err != nil {
		t.Errorf("it sends %q back, %v", line, err)
	}

	p, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return TellPackets(ctx, p) })
	u, err := net.Dial("udp", p.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := u.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := u.Read(buf); string(buf[:n]) != "127.0.0.2 hello" || err != nil {
		t.Errorf("it sends %q back, %v", buf[:n], err)
	}
}

func TestBrokenDNS(t *testing.T) {
	s := NewDNS()
	address := runDNS(t, s)
	s.Set("x.test", Fixed("192.0.2.1"))
	s.Break(Fails)
	if got, want := ask(t, address, "udp", "x.test.", dns.TypeA), "SERVFAIL"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	s.Break(Silent)
	c := dns.Client{Timeout: 50 * time.Millisecond}
	if r, _, err := c.Exchange(new(dns.Msg).SetQuestion("x.test.", dns.TypeA), address); err == nil {
		t.Errorf("a silent server says %v", r)
	}
	s.Break(Works)
	if got, want := ask(t, address, "udp", "x.test.", dns.TypeA), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if got := s.AskedType("x.test", dns.TypeA); got != 3 {
		t.Errorf("asked %d times; want 3, those in vain included", got)
	}
}
