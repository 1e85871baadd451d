package client

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/wire"
)

// in makes a binding in a state; its last announcement was at epoch.
func in(s state, buffering bool) *binding {
	b := &binding{queue: queue{limit: bindingQueue}}
	b.start(buffering, epoch)
	b.state = s
	return b
}

// TestTransitions is the table of 18.3 for a binding that exists.
func TestTransitions(t *testing.T) {
	const soon, late = time.Second, 2 * time.Second
	update := func(after time.Duration) func(*binding) bool {
		return func(b *binding) bool { return b.update(epoch.Add(after)) }
	}
	status := func(active bool) func(*binding) bool {
		return func(b *binding) bool { b.status(active); return false }
	}
	queried := func(b *binding) bool { b.queried(); return false }
	for _, c := range []struct {
		name      string
		from      state
		buffering bool
		event     func(*binding) bool
		to        state
		then      bool // buffering
		announce  bool
	}{
		{"pending, update soon", pending, true, update(soon), pending, true, false},
		{"pending, update after 2 s", pending, true, update(late), pending, true, true},
		{"pending without buffer, update after 2 s", pending, false, update(late), pending, false, true},
		{"pending, active", pending, true, status(true), confirmed, false, false},
		{"pending, inactive", pending, true, status(false), failed, false, false},
		{"confirmed, inactive", confirmed, false, status(false), failed, false, false},
		{"recreating, inactive", recreating, true, status(false), failed, false, false},
		{"confirmed, queried again", confirmed, false, queried, recreating, false, false},
		{"failed, queried again", failed, false, queried, recreating, true, false},
		{"pending, queried again", pending, true, queried, pending, true, false},
		{"pending without buffer, queried again", pending, false, queried, pending, false, false},
		{"recreating, queried again", recreating, true, queried, recreating, true, false},
		{"recreating, update", recreating, false, update(soon), pending, false, true},
		{"recreating with buffer, update", recreating, true, update(soon), pending, true, true},
		{"recreating, active late", recreating, false, status(true), confirmed, false, false},
		{"failed, active late", failed, false, status(true), confirmed, false, false},
		{"confirmed, active again", confirmed, false, status(true), confirmed, false, false},
		{"failed, update without a query", failed, false, update(late), failed, false, false},
		{"confirmed, update", confirmed, false, update(late), confirmed, false, false},
	} {
		b := in(c.from, c.buffering)
		announce := c.event(b)
		if b.state != c.to || b.buffering != c.then || announce != c.announce {
			t.Errorf("%s: state %d, buffering %v, announce %v", c.name, b.state, b.buffering, announce)
		}
	}
}

// TestPacketsByState is the table of 18.2.
func TestPacketsByState(t *testing.T) {
	for _, c := range []struct {
		name           string
		state          state
		buffering      bool
		hold, announce bool // after 2 s
	}{
		{"pending", pending, true, true, true},
		{"pending without buffer", pending, false, false, true},
		{"confirmed", confirmed, false, false, false},
		{"recreating", recreating, false, false, false},
		{"recreating with buffer", recreating, true, false, false},
		{"failed", failed, false, false, false},
	} {
		b := in(c.state, c.buffering)
		if hold, announce := b.packet(epoch.Add(announceGap - 1)); hold != c.hold || announce {
			t.Errorf("%s, soon: hold %v, announce %v", c.name, hold, announce)
		}
		if hold, announce := b.packet(epoch.Add(announceGap)); hold != c.hold || announce != c.announce {
			t.Errorf("%s, after 2 s: hold %v, announce %v", c.name, hold, announce)
		}
		if _, announce := b.packet(epoch.Add(announceGap + 1)); announce {
			t.Errorf("%s: announced twice in 2 s", c.name)
		}
	}
}

// TestLostAnnouncementIsRepeatedByTimer: 18.4, the requirement: after 2, 4, 8 s
// and so on until 30 s have passed.
func TestLostAnnouncementIsRepeatedByTimer(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.resolved("wiki.example")
	b.send(syn("100.96.0.1", 1, 80))
	b.grant(1, 1)
	b.wait(7 * time.Second) // until there is a session, nothing can be lost
	b.took()
	b.up(1)
	var at []time.Duration
	begin := b.now
	for range 600 {
		for range b.took() {
			at = append(at, b.now.Sub(begin))
		}
		b.wait(100 * time.Millisecond)
	}
	s := time.Second
	if want := []time.Duration{0, 2 * s, 6 * s, 14 * s, 22 * s, 30 * s}; !slices.Equal(at, want) {
		t.Errorf("announced at %v, want %v", at, want)
	}
	if next := b.c.Next(); !next.IsZero() {
		t.Errorf("a timer is left: %v", next)
	}
	b.send(syn("100.96.0.1", 1, 80))
	b.want("traffic goes on repeating", "sent names 1 wiki.example 100.96.0.1+7 to 1")
}

func TestAnswerStopsTheTimer(t *testing.T) {
	for _, active := range []bool{true, false} {
		b := newBench(t, dnsResource(1, "*.example"))
		b.resolved("wiki.example")
		b.send(syn("100.96.0.1", 1, 80))
		b.grant(1, 1)
		b.up(1)
		b.status(1, 1, "wiki.example", active)
		b.took()
		b.wait(time.Minute)
		b.want("quiet")
	}
}

// TestNoneToPending: the first rows of 18.3.
func TestNoneToPending(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example", ports(wire.TCP, 80, 80)), dnsResource(2, "**.example", ports(wire.TCP, 22, 22)))
	b.resolved("wiki.example")
	b.send(syn("100.96.0.1", 1, 80))
	b.grant(1, 1)
	b.up(1)
	b.want("resolved, then authorized", "request 1 []", "sent names 1 wiki.example 100.96.0.1+7 to 1")
	b.query("git.example", dns.TypeAAAA)
	b.want("authorized, then resolved", "sent names 1 git.example 100.96.0.5+7 to 1", "answered dns NOERROR 4")
	b.query("git.example", dns.TypeA)
	b.want("the other family's query at once", "answered dns NOERROR 4")
	b.status(1, 2, "git.example", true)
	b.want("status for a resource that is not there")
	b.send(syn("100.96.0.5", 1, 22))
	b.want("another resource of the same name", "request 2 [1]")
	b.grant(2, 1)
	b.want("has a NAT of its own", "sent names 2 git.example 100.96.0.5+7 to 1", "sent names 2 wiki.example 100.96.0.1+7 to 1")
	b.status(1, 2, "git.example", true)
	b.want("active", "sent tcp 100.96.0.5:1>22  to 1")
}

// TestAcceptance17: NAT inactive, then a query, then a packet.
func TestAcceptance17(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.resolved("wiki.example")
	b.send(udp("100.96.0.1", 1, "a"))
	b.grant(1, 1)
	b.up(1)
	b.took()
	b.status(1, 1, "wiki.example", false)
	b.want("inactive: what waited is dropped")
	b.send(udp("100.96.0.1", 1, "b"))
	b.want("passed through: the gateway answers", "sent udp 100.96.0.1:4000>1 b to 1")
	b.query("wiki.example", dns.TypeA)
	b.want("queried again", "sent names 1 wiki.example 100.96.0.1+7 to 1", "answered dns NOERROR 4")
	b.send(udp("100.96.0.1", 1, "c"))
	b.want("waits")
	b.status(1, 1, "wiki.example", true)
	b.want("active", "sent udp 100.96.0.1:4000>1 c to 1")
}

// TestAcceptance18: confirmed, queried again: packets never stop.
func TestAcceptance18(t *testing.T) {
	b := connected(t)
	for range 3 {
		b.query("wiki.example", dns.TypeA)
		b.want("queried again", "sent names 1 wiki.example 100.96.0.1+7 to 1", "answered dns NOERROR 4")
		b.send(udp("100.96.0.1", 1, "a"))
		b.want("passes", "sent udp 100.96.0.1:4000>1 a to 1")
		b.status(1, 1, "wiki.example", true)
	}
}

// TestAcceptance22: of 33 packets while pending the last 32 come, in order.
func TestAcceptance22(t *testing.T) {
	b := connected(t)
	b.query("new.example", dns.TypeA)
	b.took()
	var want []string
	for i := range 33 {
		b.send(udp("100.96.0.5", 1, fmt.Sprint(i)))
		if i > 0 {
			want = append(want, fmt.Sprintf("sent udp 100.96.0.5:4000>1 %d to 1", i))
		}
	}
	b.want("pending")
	b.status(1, 1, "new.example", true)
	b.want("active", want...)
}

// TestRememberedName is not announced before somebody uses it, and then
// without a query.
func TestRememberedName(t *testing.T) {
	first := newBench(t, dnsResource(1, "*.example"))
	first.resolved("wiki.example")
	b := emptyBench(t, Config{Names: first.c.resolver.Names()})
	b.init(dnsResource(1, "*.example"))
	b.took()
	b.send(udp("100.96.0.2", 1, "a"))
	b.want("a packet without a query", "request 1 []")
	b.grant(1, 1)
	b.up(1)
	b.want("session", "sent names 1 wiki.example 100.96.0.1+7 to 1")
	b.status(1, 1, "wiki.example", true)
	b.want("active", "sent udp 100.96.0.2:4000>1 a to 1")
}

// TestResourceGoneForgetsItsNames: the last rows of 18.3.
func TestResourceGoneForgetsItsNames(t *testing.T) {
	b := newBench(t, dnsResource(1, "*.example"))
	b.resolved("wiki.example")
	b.send(udp("100.96.0.1", 1, "a"))
	b.grant(1, 1)
	b.up(1)
	b.took()
	b.message(wire.ResourceDeleted{ID: res(1)})
	if b.c.held != 0 || len(b.c.bindings.list) != 0 {
		t.Errorf("%d held, %d bindings", b.c.held, len(b.c.bindings.list))
	}
	b.send(udp("100.96.0.1", 1, "b"))
	b.want("no route", "flush")
	b.message(upserted(dnsResource(1, "*.example")))
	b.took()
	b.wait(askGap)
	b.send(udp("100.96.0.1", 1, "c"))
	b.want("re-added: known names work without a query", "request 1 [1]")
}

// TestBindingAgainstModel drives a binding and a slow, obvious model of 18.2
// and 18.3 with the same events.
func TestBindingAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := newBench(t, dnsResource(1, "*.example"))
		b.resolved("wiki.example")
		b.send(udp("100.96.0.1", 1, "first"))
		b.grant(1, 1)
		b.up(1)
		b.took()
		m := natModel{state: "Pending(buffer)", sent: b.now, began: b.now, held: []string{"first"}, gap: 2 * time.Second, timer: b.now.Add(2 * time.Second)}
		for step := range 60 {
			what := ""
			switch rng.IntN(6) {
			case 0, 1:
				what = "packet"
				text := fmt.Sprint(step)
				b.send(udp("100.96.0.1", 1, text))
				m.packet(text, b.now)
			case 2:
				what = "query"
				b.query("wiki.example", dns.TypeA)
				m.query(b.now)
			case 3:
				what = "active"
				b.status(1, 1, "wiki.example", true)
				m.active()
			case 4:
				what = "inactive"
				b.status(1, 1, "wiki.example", false)
				m.inactive()
			case 5:
				what = "time"
				d := time.Duration(rng.IntN(3000)) * time.Millisecond
				end := b.now.Add(d)
				b.wait(d)
				m.time(end)
			}
			var got []string
			for _, line := range b.took() {
				switch {
				case line == "answered dns NOERROR 4":
				case line == "sent names 1 wiki.example 100.96.0.1+7 to 1":
					got = append(got, "announce")
				default:
					got = append(got, line)
				}
			}
			if !slices.Equal(got, m.out) {
				t.Fatalf("seed %d, step %d, %s in %s:\n got %q\nwant %q", seed, step, what, m.before, got, m.out)
			}
			m.out, m.before = nil, m.state
		}
	}
}

// natModel is the tables of 18.2 and 18.3 in words.
type natModel struct {
	state, before      string
	held, out          []string
	sent, began, timer time.Time
	gap                time.Duration
}

func (m *natModel) announce(now time.Time) {
	m.sent = now
	m.out = append(m.out, "announce")
}

func (m *natModel) packet(text string, now time.Time) {
	if m.state == "Pending(buffer)" {
		m.held = append(m.held, text)
		m.held = m.held[max(0, len(m.held)-32):]
	} else {
		m.pass(text)
	}
	if (m.state == "Pending(buffer)" || m.state == "Pending") && now.Sub(m.sent) >= 2*time.Second {
		m.announce(now)
	}
}

func (m *natModel) pass(text string) {
	m.out = append(m.out, "sent udp 100.96.0.1:4000>1 "+text+" to 1")
}

func (m *natModel) query(now time.Time) {
	switch m.state {
	case "Confirmed":
		m.state = "Recreating"
	case "Failed":
		m.state = "Recreating(buffer)"
	}
	switch m.state { // an update follows at once
	case "Recreating":
		m.pending("Pending", now)
	case "Recreating(buffer)":
		m.pending("Pending(buffer)", now)
	default:
		if now.Sub(m.sent) >= 2*time.Second {
			m.announce(now)
		}
	}
}

func (m *natModel) pending(state string, now time.Time) {
	m.state, m.began, m.gap, m.timer = state, now, 2*time.Second, now.Add(2*time.Second)
	m.announce(now)
}

func (m *natModel) active() {
	for _, text := range m.held {
		m.pass(text)
	}
	m.state, m.held, m.timer = "Confirmed", nil, time.Time{}
}

func (m *natModel) inactive() { m.state, m.held, m.timer = "Failed", nil, time.Time{} }

func (m *natModel) time(now time.Time) {
	for !m.timer.IsZero() && !m.timer.After(now) {
		at := m.timer
		if at.Sub(m.began) > 30*time.Second {
			m.timer = time.Time{}
			return
		}
		m.announce(at)
		m.gap = min(2*m.gap, 8*time.Second)
		m.timer = at.Add(m.gap)
	}
}
