package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/packet"
)

// What a role says of flows reaches Flows with each kind of input, once and in
// order, also what it says last; and nothing goes wrong when nobody listens.
func TestFlowsAreToldOnce(t *testing.T) {
	for _, listening := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s, n := &script{}, 0
			say := func() {
				for range 3 {
					s.out.Flows = append(s.out.Flows, core.Flow{Reason: fmt.Sprint(n)})
					n++
				}
			}
			s.outbound = func(packet.Packet, time.Time) core.Route { say(); return core.Route{} }
			s.datagram = func(core.Datagram, time.Time) core.Sealed { say(); return core.Sealed{} }
			s.done = func(core.Result, time.Time) { say() }
			s.stop = func(time.Time) { say() }
			var told []string
			c := Config{Role: s}
			if listening {
				c.Flows = func(list []core.Flow) {
					for _, f := range list {
						told = append(told, f.Reason)
					}
				}
			}
			e := new(ether)
			r := start(t, e, here, c)
			other := start(t, e, there, Config{Role: &script{}})
			r.device.in <- [][]byte{udpPacket(0, 0, 10)}
			synctest.Wait()
			r.Do(core.Configured{})
			synctest.Wait()
			sender := other.role.(*script)
			other.newCarrier().step(func(core.Role, time.Time) {
				sender.out.Datagrams = append(sender.out.Datagrams, core.Datagram{Remote: netip.MustParseAddrPort(here), Payload: []byte("d")})
			})
			synctest.Wait()
			r.finish()
			other.finish()
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint(i))
			}
			if n != 12 || listening && !slices.Equal(told, want) || !listening && told != nil {
				t.Errorf("of %d flows, told %v", n, told)
			}
		})
	}
}

// The memory for many flows at once is given back.
func TestManyFlowsAreNotKept(t *testing.T) {
	e := New(Config{Role: &script{}, Flows: func(list []core.Flow) {}})
	c := e.newCarrier()
	c.out.Flows = make([]core.Flow, 10*keepFlows)
	c.perform()
	if cap(c.out.Flows) > keepFlows {
		t.Errorf("room for %d flows is kept", cap(c.out.Flows))
	}
	c.out.Flows = append(c.out.Flows, core.Flow{Reason: "idle"})
	c.perform()
	if len(c.out.Flows) != 0 || cap(c.out.Flows) == 0 || c.out.Flows[:1][0].Reason != "" {
		t.Errorf("after a few: %d of %d kept", len(c.out.Flows), cap(c.out.Flows))
	}
}

// Inspect sees the role at a time that never lies behind what it knows.
func TestInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		r := start(t, new(ether), here, Config{Role: s})
		synctest.Wait()
		r.Inspect(func(got core.Role, now time.Time) {
			s.see(now)
			if got != core.Role(s) {
				t.Errorf("another role: %v", got)
			}
		})
		r.finish()
	})
}

// What was carried is counted on both ends.
func TestTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := pair(t)
		a.device.in <- [][]byte{udpPacket(0, 0, 0)} // waits for the handshake: it is held, not carried here
		<-b.device.out
		a.device.in <- [][]byte{udpPacket(0, 1, 100), udpPacket(0, 2, 200)}
		<-b.device.out
		<-b.device.out
		synctest.Wait()
		if got, want := a.Traffic(), (Traffic{PacketsOut: 2, BytesOut: 356}); got != want {
			t.Errorf("sender %+v, want %+v", got, want)
		}
		if got, want := b.Traffic(), (Traffic{PacketsIn: 3, BytesIn: 384}); got != want {
			t.Errorf("receiver %+v, want %+v", got, want)
		}
		a.finish()
		b.finish()
	})
}
