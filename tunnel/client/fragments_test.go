package client

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/packet/cut"
	"stile/tunnel/path"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

// sends has applications send packets, fragments among them, and returns what
// goes to each gateway, in order. What applications hear is noted.
func (b *bench) sends(packets ...[]byte) map[string][][]byte {
	b.t.Helper()
	out := make(map[string][][]byte)
	for _, raw := range packets {
		raw = slices.Clone(raw)
		p, err := packet.ParseFragment(raw)
		if err != nil {
			b.t.Fatalf("% x: %v", raw, err)
		}
		b.drains(out, func() {
			if r := b.c.Outbound(p, b.now); r.Keys != nil {
				to := b.paths.owner(r.Keys)
				out[to] = append(out[to], bytes.Clone(raw))
			}
		})
		clear(raw) // the buffer is used again
	}
	return out
}

// drains runs an input and adds packets that were released to out.
func (b *bench) drains(out map[string][][]byte, input func()) {
	b.t.Helper()
	var o core.Output
	input()
	b.c.Drain(&o)
	for _, h := range o.Held {
		to := b.paths.owner(h.Route.Keys)
		if p, err := packet.Parse(h.Packet); err == nil && p.Proto() != packet.UDP {
			b.note("sent %s to %s", describe(h.Packet), to)
			continue
		}
		out[to] = append(out[to], h.Packet)
	}
	for _, p := range o.Packets {
		b.note("answered %s", describe(p))
	}
	for _, a := range o.Actions {
		b.note("%s", describeAction(a))
	}
}

// large is a datagram that does not fit into one packet, in fragments.
func large(dst netip.Addr, port uint16, size int, id uint32) (whole []byte, fragments [][]byte) {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i * 7 / 3)
	}
	whole = packet.AppendUDP(nil, netip.AddrPortFrom(ownFor(dst), 4000), netip.AddrPortFrom(dst, port), payload)
	return whole, cut.Apart(whole, packet.MaxSize, id)
}

// carried wants fragments to be just those of a datagram.
func (b *bench) carried(what string, got [][]byte, whole []byte) {
	b.t.Helper()
	joined, _, ok := cut.Together(got...)
	if !ok || !cut.Sound(joined) || !bytes.Equal(joined[len(joined)-len(whole)+28:], whole[28:]) {
		b.t.Errorf("%s: %d fragments are not the datagram", what, len(got))
	}
}

// served is a client with a network and a name, both for UDP port 7 only, on
// gateway 1.
func served(t *testing.T) (b *bench, byName []netip.Addr) {
	b = newBench(t, cidrResource(1, "10.0.0.0/8", ports(wire.UDP, 7, 7)), dnsResource(2, "*.corp.example", ports(wire.UDP, 7, 7)))
	byName = b.addresses("wiki.corp.example")
	b.sends(udp("10.0.0.1", 7, "x"), datagram(own4, byName[0], 4000, 7, "x"))
	b.grant(1, 1)
	b.grant(2, 1)
	b.up(1)
	b.status(1, 2, "wiki.corp.example", true)
	b.lines = nil
	return b, byName
}

// addresses asks for a name, and returns the first proxy address of each family.
func (b *bench) addresses(name string) []netip.Addr {
	b.t.Helper()
	b.query(name, dns.TypeA)
	b.query(name, dns.TypeAAAA)
	b.lines = nil
	n := b.c.resolver.Named(name)
	all := b.c.resolver.ProxyAddrs(n, res(2))
	i := slices.IndexFunc(all, netip.Addr.Is6)
	return []netip.Addr{all[0], all[i]}
}

func TestLargeDatagramsGoOut(t *testing.T) {
	b, byName := served(t)
	for i, to := range append(byName, addr("10.0.0.1")) {
		for k, size := range []int{1253, 4000, 8000, 65507} {
			whole, fragments := large(to, 7, size, uint32(10*i+k))
			b.carried(fmt.Sprint(size, " bytes to ", to), b.sends(fragments...)["1"], whole)
			slices.Reverse(fragments)
			b.carried(fmt.Sprint(size, " bytes to ", to, ", reversed"), b.sends(fragments...)["1"], whole)
		}
	}
	b.want("nobody is told anything")
	if n := b.count("dropped: fragment"); n != 0 || b.c.fragments.Len() != 0 {
		t.Errorf("%d dropped, %d datagrams left", n, b.c.fragments.Len())
	}
	b.wait(10 * time.Second)
	if !b.c.fragments.Empty() || !b.c.sweepDue.IsZero() {
		t.Error("memory is not freed")
	}
}

// The fragments of spec gateway-nat.md 8.3. The numbers are those of the
// datagram's fragments in order of arrival; 4 overlaps 1 and 2.
func TestFragmentsFollowTheFirst(t *testing.T) {
	whole, fragments := large(addr("10.0.0.1"), 7, 4500, 3)
	fragments = append(fragments, cut.Piece(whole, 2400, 3200, 3))
	for _, test := range []struct {
		name  string
		order []int
		sent  int
		drops uint64
	}{
		{"in order", []int{0, 1, 2, 3}, 4, 0},
		{"mixed", []int{2, 3, 0, 1}, 4, 0},
		{"first missing", []int{1, 2, 3}, 0, 3},
		{"duplicate", []int{0, 1, 1, 2, 3}, 4, 1},
		{"overlap", []int{0, 1, 4, 2, 3}, 2, 3},
	} {
		b, _ := served(t)
		var sent [][]byte
		for _, i := range test.order {
			sent = append(sent, fragments[i])
		}
		if got := b.sends(sent...)["1"]; len(got) != test.sent {
			t.Errorf("%s: %d go, want %d", test.name, len(got), test.sent)
		}
		b.wait(time.Minute)
		if n := b.count("dropped: fragment"); n != test.drops || !b.c.fragments.Empty() {
			t.Errorf("%s: %d dropped, want %d", test.name, n, test.drops)
		}
	}
}

// A datagram waits whole for an authorization, for the gateway to know its name,
// and for a session, however large it is.
func TestLargeDatagramsWait(t *testing.T) {
	for family := range 2 {
		b := newBench(t, dnsResource(2, "*.corp.example", ports(wire.UDP, 7, 7)))
		whole, fragments := large(b.addresses("wiki.corp.example")[family], 7, 65507, 3)
		got := b.sends(fragments[:20]...)
		b.want("asked once", "request 2 []")
		if n := len(b.c.resources[res(2)].request.queue.packets); n != 20 || len(got) != 0 {
			t.Fatalf("%d wait, %d go", n, len(got))
		}
		b.drains(got, func() { b.c.Message(granted(2, 1), b.now) })
		if now := b.sends(fragments[20:40]...); len(now) != 0 {
			t.Fatal("fragments go before there is a session")
		}
		b.up(1)
		if now := b.sends(fragments[40:]...); len(now) != 0 {
			t.Fatal("fragments go before the gateway knows the name")
		}
		s := wire.DomainStatus{Resource: res(2), Domain: "wiki.corp.example", Active: true}
		b.drains(got, func() {
			b.c.Inbound(b.paths.keys(gw(1)), 1, packet.AppendControl(nil, wire.EventDomainStatus, s.Append(nil)), b.now)
		})
		b.carried("released", got["1"], whole)
		for i := range got["1"] {
			if !bytes.Equal(got["1"][i], fragments[i]) {
				t.Fatalf("fragment %d is not in its place", i)
			}
		}
		if b.c.held != 0 {
			t.Errorf("%d held", b.c.held)
		}
	}

	// To a network, they wait for the session itself.
	b := newBench(t, cidrResource(1, "10.0.0.0/8"))
	whole, fragments := large(addr("10.0.0.1"), 7, 65507, 3)
	b.sends(fragments[:1]...)
	b.grant(1, 1)
	b.sends(fragments[1:]...)
	b.lines = nil
	got := make(map[string][][]byte)
	b.paths.up[id.PeerOf(gw(1))] = new(wg.Keys)
	b.paths.event(path.Established{Peer: id.PeerOf(gw(1))})
	b.drains(got, func() { b.c.Datagram(core.Datagram{}, b.now) })
	b.drains(got, func() {})
	b.carried("with the session", got["1"], whole)
}

// What finds the resource is the port in the first fragment.
func TestFragmentsGoWhereTheFirstGoes(t *testing.T) {
	b := newBench(t, cidrResource(1, "10.0.0.0/8", ports(wire.UDP, 7, 7)), cidrResource(2, "10.0.0.0/16", ports(wire.UDP, 9, 9)))
	b.sends(udp("10.0.0.1", 7, "x"), udp("10.0.0.1", 9, "x"))
	b.grant(1, 1)
	b.grant(2, 2)
	b.up(1)
	b.up(2)
	b.lines = nil
	one, a := large(addr("10.0.0.1"), 7, 3000, 1)
	two, z := large(addr("10.0.0.1"), 9, 3000, 2)
	got := b.sends(a[0], z[0], a[1], z[1], z[2], a[2])
	b.carried("port 7", got["1"], one)
	b.carried("port 9", got["2"], two)
}

// Only the first fragment is answered, and none goes.
func TestFragmentsAreRefusedAsTheFirst(t *testing.T) {
	_, filtered := large(addr("10.0.0.1"), 8, 3000, 1)
	_, nowhere := large(addr("11.0.0.1"), 7, 3000, 1)
	_, itself := large(own4, 7, 3000, 1)
	_, sentinel := large(addr("100.100.111.1"), 53, 3000, 1)
	_, multicast := large(addr("224.0.0.251"), 53, 3000, 1)
	strange := cut.Apart(packet.AppendUDP(nil, netip.MustParseAddrPort("192.168.1.7:4000"), netip.MustParseAddrPort("10.0.0.1:7"), make([]byte, 3000)), packet.MaxSize, 1)
	icmpError := cut.Apart(icmp(own4, addr("10.0.0.1"), 3, 3, make([]byte, 1500)), packet.MaxSize, 1)
	for _, test := range []struct {
		name      string
		fragments [][]byte
		counter   string
		want      []string
	}{
		{"filtered", filtered, "prohibited by filters", []string{"answered icmp 3/13 from 10.0.0.1"}},
		{"no resource", nowhere, "dropped: no resource has the address", nil},
		{"to itself", itself, "dropped: to our own address", nil},
		{"to a sentinel", sentinel, "dropped: to a sentinel, not DNS over UDP", nil},
		{"multicast", multicast, "dropped: multicast", nil},
		{"another source", strange, "dropped: source is not our address", nil},
		{"an ICMP error", icmpError, "dropped: fragment", nil},
	} {
		b, _ := served(t)
		if got := b.sends(test.fragments...); len(got) != 0 {
			t.Errorf("%s: goes to %v", test.name, got)
		}
		b.want(test.name, test.want...)
		b.wait(time.Minute)
		if n := b.count(test.counter); n != uint64(len(test.fragments)) {
			t.Errorf("%s: %d counted as %q, want %d", test.name, n, test.counter, len(test.fragments))
		}
	}
}

// A datagram ends with what it was allowed by.
func TestFragmentsDoNotOutliveTheirResource(t *testing.T) {
	_, fragments := large(addr("10.0.0.1"), 7, 3000, 1)
	for _, test := range []struct {
		name string
		end  wire.Message
	}{
		{"filters", upserted(cidrResource(1, "10.0.0.0/8", ports(wire.UDP, 9, 9)))},
		{"removed", wire.ResourceDeleted{ID: res(1)}},
	} {
		b, _ := served(t)
		if got := b.sends(fragments[:2]...)["1"]; len(got) != 2 {
			t.Fatalf("%s: %d go", test.name, len(got))
		}
		b.message(test.end)
		b.lines = nil
		if got := b.sends(fragments[2]); len(got) != 0 {
			t.Errorf("%s: goes on", test.name)
		}
		b.want(test.name)
	}
}

// Fragments in order cost no memory each.
func TestFragmentsDoNotAllocate(t *testing.T) {
	b, byName := served(t)
	_, fragments := large(byName[0], 7, 4000, 1)
	var packets []packet.Packet
	for _, f := range fragments {
		p, err := packet.ParseFragment(f)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
	n := testing.AllocsPerRun(200, func() {
		for _, p := range packets {
			if b.c.Outbound(p, b.now).Keys == nil {
				t.Fatal("dropped")
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A queue counts datagrams. The oldest makes room with all its fragments.
func TestQueueOfFragments(t *testing.T) {
	q := queue{limit: 2}
	add := func(raw []byte) {
		p, err := packet.ParseFragment(slices.Clone(raw))
		if err != nil {
			t.Fatal(err)
		}
		q.add(p, target{})
		clear(p.Bytes())
	}
	sizes := func() (list []int) {
		for _, h := range q.packets {
			list = append(list, len(h.Bytes()))
		}
		return list
	}
	_, a := large(addr("10.0.0.1"), 7, 4000, 1) // 1276, 1276, 1276, 260
	_, z := large(addr("10.0.0.1"), 7, 2000, 2) // 1276, 772
	small := udp("10.0.0.1", 7, "small")        // 33
	for _, f := range [][]byte{a[0], z[0], a[1], a[2], z[1], a[3], a[1]} {
		add(f)
	}
	if got, want := sizes(), []int{1276, 1276, 1276, 1276, 772, 260}; !slices.Equal(got, want) || q.later != 4 {
		t.Errorf("two datagrams: %v, %d later", got, q.later)
	}
	add(small)
	if got, want := sizes(), []int{1276, 772, 33}; !slices.Equal(got, want) || q.later != 1 {
		t.Errorf("the oldest is gone: %v, %d later; want %v", got, q.later, want)
	}
	add(a[0])
	if got, want := sizes(), []int{33, 1276}; !slices.Equal(got, want) || q.later != 0 {
		t.Errorf("the next is gone: %v, %d later; want %v", got, q.later, want)
	}

	q = queue{limit: 100}
	for id := range uint32(10) {
		_, f := large(addr("10.0.0.1"), 7, 65507, id)
		for _, f := range f {
			add(f)
		}
	}
	if len(q.packets) != 4*53 || q.later != 4*52 {
		t.Errorf("%d wait, %d later; want four of the largest datagrams", len(q.packets), q.later)
	}
	c := &Core{held: len(q.packets)}
	if n := len(c.release(&q)); n != 4*53 || c.held != 0 || len(q.packets) != 0 || q.later != 0 {
		t.Errorf("%d released, %d held; %d and %d left", n, c.held, len(q.packets), q.later)
	}
}

// What gateways send is judged by addresses, which all fragments have.
func TestFragmentsFromGateways(t *testing.T) {
	b, byName := served(t)
	from := func(src, dst netip.Addr) [][]byte {
		return cut.Apart(packet.AppendUDP(nil, netip.AddrPortFrom(src, 7), netip.AddrPortFrom(dst, 4000), make([]byte, 3000)), packet.MaxSize, 9)
	}
	tiny := cut.Piece(segment(addr("10.0.0.1"), own4, 7, 4000, packet.SYN, "data"), 0, 16, 9)
	for _, test := range []struct {
		name      string
		fragments [][]byte
		counter   string
	}{
		{"of a network", from(addr("10.0.0.1"), own4), ""},
		{"of a name", from(byName[0], own4), ""},
		{"of a name, IPv6", from(byName[1], own6), ""},
		{"of the gateway", from(addr("100.64.0.1"), own4), ""},
		{"of another host", from(addr("11.0.0.1"), own4), "dropped: from a gateway, not its address"},
		{"of an unused proxy address", from(addr("100.96.77.1"), own4), "dropped: from a gateway, not its address"},
		{"for another host", from(addr("10.0.0.1"), addr("100.64.9.9")), "dropped: from a gateway, not for us"},
		{"an ICMP error, which may come from anywhere", cut.Apart(icmp(addr("11.0.0.1"), own4, 3, 3, udp("10.0.0.1", 7, strings.Repeat("x", 100))), 100, 9)[:1], "dropped: ICMP error about no flow of ours"},
		{"a tiny one", [][]byte{tiny}, "dropped: fragment"},
	} {
		before := b.count(test.counter)
		for i, raw := range test.fragments {
			got := b.c.Inbound(b.paths.keys(gw(1)), 1, slices.Clone(raw), b.now)
			if (test.counter == "") != bytes.Equal(got, raw) {
				t.Errorf("%s: fragment %d delivered: %v", test.name, i, got != nil)
			}
		}
		if n := b.count(test.counter) - before; test.counter != "" && n != uint64(len(test.fragments)) {
			t.Errorf("%s: %d counted as %q, want %d", test.name, n, test.counter, len(test.fragments))
		}
	}
	b.want("nobody is told anything")
}
