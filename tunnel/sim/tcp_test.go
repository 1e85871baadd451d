package sim_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/packet"
	"stile/tunnel/sim"
	"stile/tunnel/sim/tcp"
)

// What users notice of the NAT: whole TCP stacks at both ends, with all that
// they do when packets are lost or late, while DNS says now this, now that.

// An office is a whole world with a laptop that has a TCP of its own, and two
// servers of one name behind the gateway.
type office struct {
	*whole
	laptop  *tcp.Host
	servers map[byte]*tcp.Host // 'A' and 'B'
	proxy   netip.AddrPort     // of the name
	qtype   uint16
	good    bool // the line neither loses nor reorders
	lossy   bool
	dead    map[byte]bool // servers that hear nothing
	order   []*link       // in the order they came
}

// A link is a connection as a server sees it.
type link struct {
	*tcp.Conn
	server byte
	got    []byte
}

var places = map[byte][2]netip.Addr{
	'A': {netip.MustParseAddr("10.1.0.80"), netip.MustParseAddr("2001:db8::80")},
	'B': {netip.MustParseAddr("10.1.0.81"), netip.MustParseAddr("2001:db8::81")},
}

const service = 443

func newOffice(t *testing.T, seed uint64, line sim.Link, qtype uint16) *office {
	o := &office{
		whole: newWholeOn(t, seed, line, sim.PortRestricted, sim.PortRestricted, byName()), servers: make(map[byte]*tcp.Host),
		qtype: qtype, good: line.Loss == 0 && line.Jitter == 0, lossy: line.Loss > 0, dead: make(map[byte]bool),
	}
	o.boot()
	byAddr := make(map[netip.Addr]byte)
	for _, name := range []byte("AB") {
		o.servers[name] = tcp.New(o.Internet, packet.MaxSize, o.sends(func() *sim.Role { return o.gateway }), places[name][0], places[name][1])
		t.Cleanup(o.servers[name].Close)
		o.servers[name].Listen(service, func(c *tcp.Conn) { o.accept(&link{Conn: c, server: name}) })
		byAddr[places[name][0]], byAddr[places[name][1]] = name, name
	}
	o.client.TUN = func(p []byte) {
		if o.checked(p).Proto() == packet.UDP {
			o.app = append(o.app, bytes.Clone(p)) // of DNS
			return
		}
		o.laptop.Receive(p)
	}
	o.gateway.TUN = func(p []byte) {
		if name := byAddr[o.checked(p).Dst()]; !o.dead[name] {
			o.servers[name].Receive(p)
		}
	}
	o.dns("A")
	return o
}

// boot gives the laptop a TCP that knows nothing of what was.
func (o *office) boot() {
	o.laptop = tcp.New(o.Internet, packet.MaxSize, o.sends(func() *sim.Role { return o.client }), laptop4, laptop6)
	o.t.Cleanup(o.laptop.Close)
}

func (o *office) sends(to func() *sim.Role) func(p []byte) {
	return func(p []byte) {
		if err := to().Send(p); err != nil {
			o.t.Error(err)
		}
	}
}

func (o *office) checked(raw []byte) packet.Packet {
	p, err := packet.Parse(raw)
	if err != nil || !p.ValidChecksums() {
		o.t.Fatalf("%x: %v, or wrong checksums", raw, err)
	}
	return p
}

// dns has the name's servers be these, one letter each, and the laptop ask for
// the name.
func (o *office) dns(servers string) {
	var addrs []netip.Addr
	for _, name := range []byte(servers) {
		addrs = append(addrs, places[name][0], places[name][1])
	}
	o.records["wiki.corp.example"] = addrs
	before := len(o.asked)
	o.proxy = netip.AddrPortFrom(o.resolve("wiki.corp.example", o.qtype)[0], service)
	o.Until(5*time.Second, func() bool { return len(o.asked) > before }) // what is lost is said again; the first time nobody is asked yet
	o.Run(100 * ms)
}

// accept is a server: it keeps what it is told.
func (o *office) accept(l *link) {
	l.Data = func(b []byte) { l.got = append(l.got, b...) }
	o.order = append(o.order, l)
}

// A call is a connection as the laptop sees it.
type call struct {
	*tcp.Conn
	got []byte
}

// dial connects from a port.
func (o *office) dial(from uint16) *call {
	c := &call{Conn: o.laptop.Dial(from, o.proxy)}
	c.Data = func(b []byte) { c.got = append(c.got, b...) }
	return c
}

// connect opens a connection from a port and returns both its ends; the server
// that answers must be this one.
func (o *office) connect(from uint16, server byte) (*call, *link) {
	o.t.Helper()
	before, began := len(o.order), o.Now()
	c := o.dial(from)
	if !o.Until(time.Minute, func() bool { return c.Open && len(o.order) > before || c.Err != nil }) || c.Err != nil {
		o.t.Fatalf("no connection from port %d after %v: %v, %s; %s", from, o.Since(began), c.Err, c.State(), o.state())
	}
	l := o.order[len(o.order)-1]
	if l.server != server {
		o.t.Errorf("port %d leads to server %c, want %c", from, l.server, server)
	}
	return c, l
}

// talk has both ends say something, and wants it to come over within a time.
func (o *office) talk(c *call, l *link, limit time.Duration) {
	o.t.Helper()
	began := o.Now()
	there, back := fmt.Sprint("there at ", began), fmt.Sprint("back at ", began)
	at, from := len(l.got), len(c.got)
	c.Write([]byte(there))
	l.Write([]byte(back))
	if !o.Until(limit, func() bool { return string(l.got[at:]) == there && string(c.got[from:]) == back }) {
		o.t.Fatalf("within %v the server hears %q, the laptop %q; want %q, %q; errors %v, %v; %s", limit, l.got[at:], c.got[from:], there, back, l.Err, c.Err, o.state())
	}
}

// lines are the ways of packets: as they should be, and as they sometimes are.
var lines = map[string]sim.Link{
	"good":  {Delay: uplink},
	"mixed": {Delay: uplink, Jitter: 15 * ms},
	"lossy": {Delay: uplink, Jitter: 2 * ms, Loss: 0.02},
}

// seeds is how many worlds each test has of a kind; make sim asks for more.
func seeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("STILE_SIM_SEEDS"), 10, 64); err == nil {
		return max(n/100, 1) // one of these takes as long as a hundred elsewhere
	}
	return 1
}

func onLine(t *testing.T, line sim.Link, do func(t *testing.T, o *office)) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for seed := range seeds() {
			t.Run(fmt.Sprintf("%s/%d", dns.TypeToString[qtype], seed), func(t *testing.T) {
				do(t, newOffice(t, 2*seed+uint64(qtype&1), line, qtype))
			})
		}
	}
}

func onLines(t *testing.T, do func(t *testing.T, o *office)) {
	for name, line := range lines {
		t.Run(name, func(t *testing.T) { onLine(t, line, do) })
	}
}

// A transfer both ways, while DNS changes its mind several times a second.
func TestTCPTransfer(t *testing.T) {
	onLines(t, func(t *testing.T, o *office) {
		up, down := make([]byte, 150_000), make([]byte, 150_000)
		for i := range up {
			up[i], down[i] = byte(o.Chance.Uint32()), byte(o.Chance.Uint32())
		}
		c, l := o.connect(5000, 'A')
		began := o.Now()
		for i := range 10 {
			c.Write(up[i*len(up)/10 : (i+1)*len(up)/10])
			l.Write(down[i*len(down)/10 : (i+1)*len(down)/10])
			o.dns([]string{"B", "AB", "", "A", "BA"}[i%5])
			o.Run(250 * ms)
		}
		if !o.lossy && len(o.asked) <= 10 {
			t.Errorf("the gateway asked %d times for the name", len(o.asked))
		}
		c.CloseWrite()
		l.CloseWrite()
		if !o.Until(time.Minute, func() bool { return c.EOF && l.EOF }) || !bytes.Equal(l.got, up) || !bytes.Equal(c.got, down) {
			t.Fatalf("after %v: %d and %d bytes of %d came; %v, %v; %s", o.Since(began), len(l.got), len(c.got), len(up), l.Err, c.Err, o.state())
		}
	})
}

// One side has said all; the other goes on an hour later, after all servers of
// the name have changed.
func TestTCPHalfClose(t *testing.T) {
	onLines(t, func(t *testing.T, o *office) {
		c, l := o.connect(5000, 'A')
		c.Write([]byte("question"))
		c.CloseWrite()
		if !o.Until(time.Minute, func() bool { return l.EOF }) || string(l.got) != "question" {
			t.Fatalf("the server hears %q, and an end: %v", l.got, l.EOF)
		}
		o.dns("B")
		o.Run(time.Hour)
		l.Write([]byte("answer"))
		l.CloseWrite()
		limit := time.Minute
		if o.lossy { // if what confirms new keys was lost, the gateway is mute until the next handshake
			limit = 5 * time.Minute
		}
		if !o.Until(limit, func() bool { return c.EOF }) || string(c.got) != "answer" || c.Err != nil || l.Err != nil {
			t.Fatalf("the laptop hears %q, and an end: %v; %v, %v; %s", c.got, c.EOF, c.Err, l.Err, o.state())
		}
		o.connect(5001, 'B')
	})
}

// Both say at once that this was all.
func TestTCPSimultaneousClose(t *testing.T) {
	onLines(t, func(t *testing.T, o *office) {
		for port := uint16(5000); port < 5010; port++ {
			c, l := o.connect(port, 'A')
			o.talk(c, l, time.Minute)
			o.After(0, c.CloseWrite)
			o.After(0, l.CloseWrite)
			if !o.Until(time.Minute, func() bool { return c.EOF && l.EOF }) || c.Err != nil || l.Err != nil {
				t.Fatalf("ends: %v, %v; %v, %v; %s", c.EOF, l.EOF, c.Err, l.Err, o.state())
			}
			o.Run(10 * time.Second)
			for _, state := range []string{c.State(), l.State()} {
				switch state {
				case "TIME-WAIT", "CLOSED":
				case "CLOSING", "FIN-WAIT2": // gVisor stays there, with no NAT between, too, when a FIN was lost or overtaken
					if o.good {
						t.Errorf("one end is %s, and has all it waits for", state)
					}
				default:
					t.Errorf("ten seconds after the end: %s", state)
				}
			}
		}
	})
}

// Either side gives up; the other hears it at once.
func TestTCPAbort(t *testing.T) {
	onLines(t, func(t *testing.T, o *office) {
		for port := uint16(5000); port < 5020; port += 2 {
			c, l := o.connect(port, 'A')
			o.talk(c, l, time.Minute)
			c.Abort()
			if !o.lossy && !o.Until(time.Second, func() bool { return l.Err != nil }) {
				t.Fatalf("the laptop gave up, the server is %s", l.State())
			}
			c, l = o.connect(port+1, 'A')
			o.talk(c, l, time.Minute)
			l.Abort()
			if !o.lossy && !o.Until(time.Second, func() bool { return c.Err != nil }) {
				t.Fatalf("the server gave up, the laptop is %s", c.State())
			}
		}
	})
}

// Hours without a word, and the first word is the server's.
func TestTCPIdle(t *testing.T) {
	onLine(t, lines["good"], func(t *testing.T, o *office) {
		c, l := o.connect(5000, 'A')
		o.talk(c, l, time.Minute)
		o.dns("B")
		o.connect(5001, 'A') // the laptop has just used the first one
		for _, idle := range []time.Duration{2*time.Minute + time.Second, 2*time.Hour + 3*time.Minute} {
			o.serverSpeaks(c, l, idle)
		}
		o.connect(5002, 'B') // the name went there in the first silence
		o.talk(c, l, time.Minute)
	})
}

func (o *office) serverSpeaks(c *call, l *link, later time.Duration) {
	o.t.Helper()
	o.Run(later)
	before := len(c.got)
	l.Write([]byte("are you there?"))
	if !o.Until(time.Minute, func() bool { return len(c.got) > before }) {
		o.t.Fatalf("after %v the laptop hears nothing; %v, %v; %s", later, c.Err, l.Err, o.state())
	}
	o.talk(c, l, time.Minute)
}

// Almost as long as an open session lives, and the first word is the server's.
func TestTCPIdleForADay(t *testing.T) {
	o := newOffice(t, 1, lines["good"], dns.TypeA)
	c, l := o.connect(5000, 'A')
	o.dns("B")
	o.serverSpeaks(c, l, 24*time.Hour-time.Minute)
}

// A minute longer than sessions live, and the name has moved: nobody else has got
// the place, so the laptop's next word finds its way as before.
func TestTCPIdleForLonger(t *testing.T) {
	o := newOffice(t, 1, lines["good"], dns.TypeAAAA)
	c, l := o.connect(5000, 'A')
	o.dns("B")
	o.Run(24*time.Hour + time.Minute)
	o.talk(c, l, time.Minute)
	o.connect(5001, 'B')
}

// One port after another time, whoever closed first, while the name moves.
func TestTCPPortReuse(t *testing.T) {
	reuse := func(t *testing.T, o *office) {
		for i := range 10 {
			server := "AB"[i%2]
			o.dns(string(server))
			began := o.Now()
			c, l := o.connect(5000, server)
			if took := o.Since(began); took > time.Second { // a SYN was repeated
				t.Errorf("connection %d from one port takes %v", i, took)
			}
			o.talk(c, l, time.Minute)
			l.CloseWrite()
			o.Until(time.Minute, func() bool { return c.EOF })
			c.CloseWrite()
			if !o.Until(time.Minute, func() bool { return l.EOF }) || c.Err != nil || l.Err != nil {
				t.Fatalf("ends: %v, %v; %v, %v", c.EOF, l.EOF, c.Err, l.Err)
			}
			c.Close()
			o.Run(time.Second)
		}
	}
	for _, name := range []string{"good", "mixed"} { // loss would decide which end may not use the port for a minute
		t.Run(name, func(t *testing.T) { onLine(t, lines[name], reuse) })
	}
}

// The laptop starts again and uses the port of a connection that the server, and
// the gateway, believe to be open.
func TestTCPAfterACrash(t *testing.T) {
	onLines(t, func(t *testing.T, o *office) {
		c, l := o.connect(5000, 'A')
		o.talk(c, l, time.Minute)
		for _, later := range []time.Duration{time.Second, time.Minute, time.Hour} {
			o.boot()
			o.Run(later)
			began := o.Now()
			c, l = o.connect(5000, 'A')
			t.Logf("%v later: %v", later, o.Since(began))
			if took := o.Since(began); !o.lossy && took > 3200*ms {
				t.Errorf("%v later it takes %v", later, took)
			}
			o.talk(c, l, time.Minute)
		}
		o.dns("B")
		o.boot()
		o.Run(time.Minute)
		o.connect(5000, 'B') // nothing holds the name any more, so N15 leads there
	})
}

// One of two servers hears nothing any more: who tries again with another port
// soon reaches the other one, and whoever is connected stays.
func TestTCPServerDies(t *testing.T) {
	onLines(t, func(t *testing.T, o *office) {
		o.dns("AB")
		first := o.dial(5000)
		if !o.Until(time.Minute, func() bool { return first.Open && len(o.order) == 1 }) {
			t.Fatal("no connection")
		}
		used := o.order[0]
		o.dead[used.server] = true
		o.Run(2 * time.Minute) // nothing holds it
		began, connected := o.Now(), false
		for port := uint16(5001); port < 5050 && !connected; port++ {
			c := o.dial(port)
			connected = o.Until(250*ms, func() bool { return c.Open })
		}
		if took := o.Since(began); !connected || !o.lossy && took > 3500*ms {
			t.Errorf("connected: %v, after %v", connected, took)
		} else {
			t.Logf("after %v", took)
		}
		o.dead[used.server] = false
		c := &call{Conn: first.Conn, got: first.got}
		c.Data = func(b []byte) { c.got = append(c.got, b...) }
		o.talk(c, used, time.Minute)
	})
}

// One of two servers refuses: the next try reaches the other one, and whoever is
// connected stays.
func TestTCPServerRefuses(t *testing.T) {
	onLines(t, func(t *testing.T, o *office) {
		c, l := o.connect(5000, 'A')
		o.talk(c, l, time.Minute)
		o.dns("AB")
		o.servers['A'].Unlisten(service)
		refused := o.dial(5001)
		if !o.Until(time.Minute, func() bool { return refused.Open || refused.Err != nil }) || refused.Open && !o.lossy {
			t.Fatal("it is not refused") // if the refusal is lost, the same SYN leads to the other one the next time
		}
		o.connect(5002, 'B')
		o.talk(c, l, time.Minute)
	})
}

// The same seed gives the same trace, for all the goroutines of the stacks.
func TestTCPIsDeterministic(t *testing.T) {
	run := func() uint64 {
		o := newOffice(t, 3, lines["lossy"], dns.TypeA)
		c, l := o.connect(5000, 'A')
		c.Write(make([]byte, 50_000))
		l.Write(make([]byte, 50_000))
		o.Run(time.Minute)
		return o.Trace()
	}
	want := run()
	for range 5 {
		if got := run(); got != want {
			t.Errorf("traces %x and %x", got, want)
		}
	}
}
