package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stile/platform/sock"
	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
	"stile/tunnel/upstream"
	"stile/tunnel/wg"
	"stile/tunnel/wire"
)

const here, there = "192.0.2.1:52625", "192.0.2.2:52625"

// pair starts two engines whose peers know each other.
func pair(t *testing.T) (a, b *rig, pa, pb *peer) {
	t.Helper()
	e := new(ether)
	pa, pb = newPeers(t, time.Now(), netip.MustParseAddrPort(here), netip.MustParseAddrPort(there))
	return start(t, e, here, Config{Role: pa}), start(t, e, there, Config{Role: pb}), pa, pb
}

// Packets that wait for the handshake and packets after it arrive unchanged
// and in order, both ways.
func TestPacketsCrossTheTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := pair(t)
		rng := rand.New(rand.NewPCG(1, 2))
		for round := range 20 {
			for _, way := range [][2]*rig{{a, b}, {b, a}} {
				from, to := way[0], way[1]
				var batch [][]byte
				for i := range 1 + rng.IntN(128) {
					batch = append(batch, udpPacket(round, i, rng.IntN(1200)))
				}
				from.device.in <- batch
				for i, want := range batch {
					if got := <-to.device.out; !bytes.Equal(got, want) {
						t.Fatalf("round %d: packet %d:\ngot  %x\nwant %x", round, i, got, want)
					}
				}
			}
		}
		a.finish()
		b.finish()
	})
}

// A batch of equal packets for one peer leaves as one run.
func TestABatchLeavesAsRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := pair(t)
		a.device.in <- [][]byte{udpPacket(0, 0, 10)}
		<-b.device.out
		before := len(a.end.runs())
		batch := [][]byte{}
		for i := range 100 {
			batch = append(batch, udpPacket(1, i, 1000))
		}
		a.device.in <- batch
		for range batch {
			<-b.device.out
		}
		got := []int{}
		for _, r := range a.end.runs()[before:] {
			got = append(got, len(r.Datagrams))
		}
		if want := []int{61, 39}; !slices.Equal(got, want) { // 1060 bytes each, 65507 in all
			t.Errorf("runs of %v, want %v", got, want)
		}
		a.finish()
		b.finish()
	})
}

// Over a relay, four bytes of ChannelData stand in front.
func TestChannelData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, pa, _ := pair(t)
		a.device.in <- [][]byte{udpPacket(0, 0, 10)}
		<-b.device.out
		relay := core.Way{Remote: netip.MustParseAddrPort("203.0.113.1:3478"), Channel: 0x4001}
		a.mu.Lock()
		pa.outbound = func(packet.Packet, time.Time) core.Route { return core.Route{Keys: pa.session.Send(), Way: &relay} }
		a.mu.Unlock()
		p := udpPacket(1, 0, 1252) // as large as they get
		a.device.in <- [][]byte{p}
		synctest.Wait()
		runs := a.end.runs()
		d := runs[len(runs)-1].Datagrams[0]
		if len(p) != packet.MaxSize || len(d) != 4+wg.Overhead+len(p) || binary.BigEndian.Uint16(d) != 0x4001 || int(binary.BigEndian.Uint16(d[2:])) != len(d)-4 || wg.Classify(d[4:]) != wg.Data {
			t.Errorf("a packet of %d bytes became %d: % x…", len(p), len(d), d[:8])
		}
		a.finish()
		b.finish()
	})
}

// ECN bits go out with the datagram; on the way in a mark moves to packets that
// know of it (spec connectivity.md 2.1).
func TestECN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := pair(t)
		a.device.in <- [][]byte{udpPacket(0, 0, 10)}
		<-b.device.out
		for inner := range uint8(4) {
			p := udpPacket(1, int(inner), 100)
			parse(t, p).SetECN(inner)
			before := len(a.end.runs())
			a.device.in <- [][]byte{p}
			if got := <-b.device.out; !bytes.Equal(got, p) {
				t.Errorf("ECN %d: the packet changed", inner)
			}
			run := a.end.runs()[before]
			if run.ECN != inner {
				t.Errorf("ECN %d left as %d", inner, run.ECN)
			}
			// The same again, marked on its way.
			a.end.ether.intercept(func(m *sock.Message) bool { m.ECN = ce; return true })
			a.device.in <- [][]byte{p}
			want := inner
			if inner != 0 {
				want = ce
			}
			if got := parse(t, <-b.device.out); got.ECN() != want || !got.ValidChecksums() {
				t.Errorf("ECN %d, marked on the way, arrived as %d, checksums right: %v", inner, got.ECN(), got.ValidChecksums())
			}
			a.end.ether.intercept(nil)
		}
		a.finish()
		b.finish()
	})
}

// What cannot be right is dropped and counted, and what comes with it passes.
func TestBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := pair(t)
		good := udpPacket(0, 0, 10)
		fragment := bytes.Clone(good)
		fragment[6] |= 0x20
		a.device.in <- [][]byte{{}, {0x45}, []byte("garbage"), fragment, good}
		if got := <-b.device.out; !bytes.Equal(got, good) {
			t.Error("the good packet changed")
		}
		if got := a.counter("engine malformed"); got != 4 {
			t.Errorf("%d malformed, want 4", got)
		}

		var m sock.Message
		a.end.ether.intercept(func(sent *sock.Message) bool { m = *sent; return false })
		a.device.in <- [][]byte{good}
		synctest.Wait()
		forged := bytes.Clone(m.Payload)
		forged[len(forged)-1] ^= 1
		for _, bad := range [][]byte{forged, {}, {4}, make([]byte, core.MaxDatagram), bytes.Repeat([]byte{0xff}, 300)} {
			b.end.in <- sock.Message{Local: m.Local, Remote: m.Remote, Segment: len(bad), Payload: bad}
		}
		large := make([]byte, 2*core.MaxDatagram+2)
		b.end.in <- sock.Message{Local: m.Local, Remote: m.Remote, Segment: core.MaxDatagram + 1, Payload: large}
		again := m
		again.Payload = bytes.Clone(m.Payload)
		b.end.in <- m
		if got := <-b.device.out; !bytes.Equal(got, good) {
			t.Error("the good packet changed")
		}
		b.end.in <- again
		synctest.Wait()
		if len(b.device.out) != 0 {
			t.Error("the replay was delivered")
		}
		if forged, oversized := b.counter("engine forged"), b.counter("engine oversized"); forged != 1 || oversized != 2 {
			t.Errorf("%d forged, %d oversized, want 1 and 2", forged, oversized)
		}
		a.finish()
		b.finish()
	})
}

// The role is asked again exactly when it said.
func TestTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		s := &script{}
		s.advance = func(now time.Time) {
			if s.next.IsZero() || now.Before(s.next) {
				return
			}
			at = append(at, now.Sub(begin))
			s.next = time.Time{}
			if len(at) < 5 {
				s.next = now.Add(time.Duration(len(at)) * 7 * time.Second)
			}
		}
		s.done = func(core.Result, time.Time) { s.next = begin.Add(3 * time.Second) }
		r := start(t, new(ether), here, Config{Role: s})
		time.Sleep(time.Second)
		r.Do(core.InternetResource{})
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if want := []time.Duration{3e9, 10e9, 24e9, 45e9, 73e9}; !slices.Equal(at, want) {
			t.Errorf("advanced at %v, want %v", at, want)
		}
		r.finish()
	})
}

// Handshakes are renewed by timers alone, for as long as the engines run.
func TestSessionsLiveOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, pb := pair(t)
		a.device.in <- [][]byte{udpPacket(0, 0, 10)}
		<-b.device.out
		time.Sleep(time.Hour)
		a.device.in <- [][]byte{udpPacket(0, 1, 10)}
		<-b.device.out
		b.mu.Lock()
		if ago := time.Since(pb.session.LastHandshake()); ago > 3*time.Minute {
			t.Errorf("the last handshake was %v ago", ago)
		}
		b.mu.Unlock()
		a.finish()
		b.finish()
	})
}

// Each action reaches what it is meant for, and its answer the role.
func TestActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var results []core.Result
		var did []string
		s := &script{}
		s.done = func(r core.Result, _ time.Time) { results = append(results, r) }
		up := &upstreams{}
		p := &portal{events: make(chan core.PortalEvent)}
		wish := core.TUN{IPv4: netip.MustParseAddr("100.64.0.1")}
		s.up = func(time.Time) {
			s.act(core.Tell{Message: wire.NoRelays{}}, core.Configure{TUN: wish}, core.Flush{},
				core.Remember{Names: []core.ProxyName{{Name: "old"}}}, core.Remember{Names: []core.ProxyName{{Name: "new"}}},
				core.Notify{Text: "Hello."}, core.Lookup{ID: 1, Name: "a.example"}, core.Exchange{ID: 2, Query: []byte("q")},
				core.Exchange{ID: 3, Query: []byte("silence")}, core.Rebind{}, core.Reconnect{PublicKey: wire.Key{9}})
			s.out.Datagrams = append(s.out.Datagrams, core.Datagram{Remote: netip.MustParseAddrPort(there), Payload: []byte("d")})
			s.out.Packets = append(s.out.Packets, []byte("answer"))
		}
		r := start(t, new(ether), here, Config{
			Role: s, PublicKey: wire.Key{1}, Portal: p, Upstream: up,
			Configure: func(iface string, got core.TUN) error {
				did = append(did, fmt.Sprint("configure ", iface, got.Equal(wish)))
				return failure("no rights")
			},
			Flush:    func() error { did = append(did, "flush"); return nil },
			Remember: func(n []core.ProxyName) error { did = append(did, "remember "+n[0].Name); return nil },
			Notify:   func(n core.Notify) { did = append(did, "notify "+n.Text) },
		})
		p.events <- core.PortalEvent{Up: true}
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []string{"configure tun-testtrue", "flush", "remember new", "notify Hello."}; !slices.Equal(did, want) {
			t.Errorf("did %q, want %q", did, want)
		}
		if want := []any{wire.Key{1}, wire.NoRelays{}, wire.Key{9}}; !slices.Equal(p.told, want) {
			t.Errorf("the portal was told %v, want %v", p.told, want)
		}
		if r.end.rebinds != 1 || len(r.end.runs()) != 1 || string(r.end.runs()[0].Datagrams[0]) != "d" {
			t.Errorf("%d rebinds, sent %v", r.end.rebinds, r.end.runs())
		}
		if got := <-r.device.out; string(got) != "answer" {
			t.Errorf("delivered %q", got)
		}
		got := map[string]bool{}
		for _, r := range results {
			got[fmt.Sprintf("%+v", r)] = true
		}
		for _, want := range []core.Result{
			core.Configured{Err: failure("no rights")},
			core.Looked{ID: 1, V4: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, TTL4: time.Minute, Err6: failure("refused"), TTL6: time.Hour},
			core.Exchanged{ID: 2, Reply: []byte("q!")},
			core.Exchanged{ID: 3, Err: core.ErrTimeout},
		} {
			if !got[fmt.Sprintf("%+v", want)] {
				t.Errorf("no %+v among %v", want, results)
			}
		}
		r.finish()
	})
}

// Beyond a thousand look-ups at once, the role is told that it is too busy.
func TestTooManyLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered, refused := 0, 0
		s := &script{}
		s.done = func(r core.Result, _ time.Time) {
			switch r := r.(type) {
			case core.InternetResource:
				for i := range maxSlow + 10 {
					s.act(core.Lookup{ID: uint64(i), Name: "slow"})
				}
			case core.Looked:
				if r.Err4 == errBusy {
					refused++
				} else {
					answered++
				}
			}
		}
		r := start(t, new(ether), here, Config{Role: s, Upstream: &upstreams{}})
		r.Do(core.InternetResource{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if answered != maxSlow || refused != 10 || r.counter("engine busy") != 10 {
			t.Errorf("%d answered, %d refused, want %d and 10", answered, refused, maxSlow)
		}
		r.finish()
	})
}

// Stop is called once; what it wants is sent and stored before the end.
func TestOrderlyStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stops := 0
		var stored []core.ProxyName
		s := &script{}
		s.stop = func(time.Time) {
			stops++
			s.out.Datagrams = append(s.out.Datagrams, core.Datagram{Remote: netip.MustParseAddrPort(there), Payload: []byte("goodbye")})
			s.act(core.Remember{Names: []core.ProxyName{{Name: "last"}}}, core.Configure{})
		}
		r := start(t, new(ether), here, Config{
			Role: s, Portal: &portal{}, Remember: func(n []core.ProxyName) error { stored = n; return nil },
			Configure: func(string, core.TUN) error { t.Error("configured after the end"); return nil },
		})
		time.Sleep(time.Second)
		if err := r.finish(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if runs := r.end.runs(); stops != 1 || len(runs) != 1 || string(runs[0].Datagrams[0]) != "goodbye" || len(stored) != 1 {
			t.Errorf("%d stops, sent %v, stored %v", stops, runs, stored)
		}
		r.Do(core.InternetResource{}) // too late, and no deadlock
	})
}

// Every reason to end is what Run returns.
func TestWhatEndsARun(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *rig, s *script, p *portal)
		want string
	}{
		{"the role gives up", func(r *rig, s *script, _ *portal) {
			s.done = func(core.Result, time.Time) { s.act(core.Fail{Err: failure("given up")}) }
			r.Do(core.InternetResource{})
		}, "given up"},
		{"the portal refuses", func(_ *rig, _ *script, p *portal) { close(p.events) }, "token refused"},
		{"the device is gone", func(r *rig, _ *script, _ *portal) {
			r.device.fail <- fmt.Errorf("the device was removed: %w", os.ErrClosed)
		}, "read the tunnel device: the device was removed: file already closed"},
		{"the device only fails", func(r *rig, _ *script, _ *portal) {
			for range patience + 1 {
				r.device.fail <- failure("input/output error")
			}
		}, "read the tunnel device: input/output error"},
		{"a socket only fails", func(r *rig, _ *script, _ *portal) {
			for range patience + 1 {
				r.end.in <- sock.Message{Segment: -1}
			}
		}, "network is down"},
		{"no sockets after roaming", func(r *rig, s *script, _ *portal) {
			r.end.fail = failure("too many open files")
			s.network = func(wire.Key, time.Time) { s.act(core.Rebind{}) }
			r.NetworkChanged()
		}, "too many open files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := &script{}, &portal{events: make(chan core.PortalEvent)}
				r := start(t, new(ether), here, Config{Role: s, Portal: p})
				synctest.Wait()
				c.do(r, s, p)
				if err := <-r.err; err == nil || err.Error() != c.want {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		})
	}
}

// Passing trouble does not end a run.
func TestTroubleThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := pair(t)
		for range 3 * patience {
			a.device.fail <- failure("input/output error")
			b.end.in <- sock.Message{Segment: -1}
			if len(a.device.fail) >= patience/2 {
				time.Sleep(time.Minute)
				a.device.in <- [][]byte{udpPacket(0, 0, 10)}
				<-b.device.out
			}
		}
		a.finish()
		b.finish()
	})
}

func TestNothingToOpen(t *testing.T) {
	no := failure("create tunnel device: not allowed: run as root")
	s := &script{stop: func(time.Time) { t.Error("stopped without a start") }}
	err := New(Config{Role: s, TUN: func() (Device, error) { return nil, no }, Sockets: func() (Sockets, error) { return new(ether).endpoint(here), nil }}).Run(t.Context())
	if !errors.Is(err, no) {
		t.Errorf("%v, want %v", err, no)
	}
	err = New(Config{Role: s, Sockets: func() (Sockets, error) { return nil, sock.ErrMark }}).Run(t.Context())
	if !errors.Is(err, sock.ErrMark) {
		t.Errorf("%v, want ErrMark", err)
	}
}

// A new network gets a new key, each time.
func TestNetworkChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := map[wire.Key]bool{}
		s := &script{}
		s.network = func(k wire.Key, _ time.Time) { keys[k] = true }
		r := start(t, new(ether), here, Config{Role: s})
		for range 3 {
			r.NetworkChanged()
		}
		synctest.Wait()
		if len(keys) != 3 || keys[wire.Key{}] {
			t.Errorf("%d keys: %v", len(keys), keys)
		}
		r.finish()
	})
}

// Portal events arrive in order, between other inputs.
func TestPortalEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		s := &script{}
		s.up = func(time.Time) { got = append(got, "up") }
		s.down = func(time.Time) { got = append(got, "down") }
		s.message = func(m wire.Message, _ time.Time) { got = append(got, fmt.Sprintf("%T", m)) }
		p := &portal{events: make(chan core.PortalEvent)}
		r := start(t, new(ether), here, Config{Role: s, Portal: p})
		for _, ev := range []core.PortalEvent{{Up: true}, {Message: wire.ResourceDeleted{ID: id.Resource{}}}, {Message: wire.NoRelays{}}, {Down: true}, {Up: true}} {
			p.events <- ev
		}
		synctest.Wait()
		if want := []string{"up", "wire.ResourceDeleted", "wire.NoRelays", "down", "up"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		r.finish()
	})
}

func TestReportIsSorted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, new(ether), here, Config{Role: &script{}})
		synctest.Wait()
		names := []string{}
		for _, c := range r.Report().Counters {
			names = append(names, c.Name)
		}
		if !slices.IsSorted(names) || !slices.Contains(names, "role") {
			t.Errorf("counters %v", names)
		}
		r.finish()
	})
}

// upstreams answer what is asked of them by name.
type upstreams struct{}

func (upstreams) Exchange(ctx context.Context, _ netip.AddrPort, query []byte) ([]byte, error) {
	if string(query) == "silence" {
		time.Sleep(5 * time.Second)
		return nil, fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
	}
	return append(query, '!'), nil
}

// udpPacket makes a packet of 28 bytes more than size.
func udpPacket(round, number, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(round*31 + number + i)
	}
	from, to := netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:2000")
	return packet.AppendUDP(nil, from, to, p)
}

func parse(t *testing.T, b []byte) packet.Packet {
	t.Helper()
	p, err := packet.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (upstreams) Lookup(ctx context.Context, name string) upstream.LookupResult {
	if name == "slow" {
		time.Sleep(time.Second)
	}
	return upstream.LookupResult{V4: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, TTL4: time.Minute, Err6: failure("refused"), TTL6: time.Hour}
}
