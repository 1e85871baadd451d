package path_test

import (
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/path"
	"stile/tunnel/sim"
	"stile/tunnel/wg"
)

const (
	ms     = time.Millisecond
	uplink = 5 * ms
)

// A world is a client and a gateway behind port-restricted routers, and a
// relay. What their paths raise is kept.
type world struct {
	*sim.Internet
	portal          *sim.Portal
	relay           *sim.Relay
	client, gateway *sim.Node
	raised          map[*sim.Node][]path.Event
}

func newWorld(f sim.Families) *world {
	w := &world{Internet: sim.New(1), raised: make(map[*sim.Node][]path.Event)}
	w.relay = w.Relay(f, sim.Link{})
	w.portal = w.Portal(w.relay)
	w.gateway = w.portal.Gateway(w.Site(sim.PortRestricted, f, sim.Link{Delay: uplink}), uplink)
	w.client = w.portal.Client(w.Site(sim.PortRestricted, f, sim.Link{Delay: uplink}), uplink)
	for _, n := range []*sim.Node{w.client, w.gateway} {
		n.Watch = func(e path.Event) { w.raised[n] = append(w.raised[n], e) }
	}
	w.Run(time.Second)
	return w
}

func connected(t testing.TB) *world {
	t.Helper()
	w := newWorld(sim.Dual)
	w.portal.Authorize(w.client, w.gateway)
	w.Run(500 * ms)
	if !w.client.Send(w.gateway.ID, "hello") {
		t.Fatal("no connection")
	}
	w.Run(100 * ms)
	if len(w.gateway.Inbox) != 1 {
		t.Fatal("nothing arrived")
	}
	clear(w.raised)
	return w
}

// events returns what a node raised since the last call.
func (w *world) events(n *sim.Node) []path.Event {
	all := w.raised[n]
	w.raised[n] = nil
	return all
}

func (w *world) candidates(n *sim.Node) (told []path.Candidates) {
	for _, e := range w.events(n) {
		if c, ok := e.(path.Candidates); ok {
			told = append(told, c)
		}
	}
	return told
}

func (w *world) failures(n *sim.Node) (failed []path.Reason) {
	for _, e := range w.events(n) {
		if f, ok := e.(path.Failed); ok {
			failed = append(failed, f.Reason)
		}
	}
	return failed
}

// sealed returns a data message from client to gateway with a payload, and
// the ends it arrives with.
func (w *world) sealed(t testing.TB, size int) core.Datagram {
	t.Helper()
	route := w.client.Path.Route(w.gateway.ID, size, w.Now())
	if route.Keys == nil {
		t.Fatal("no way")
	}
	buf := make([]byte, wg.Overhead+size)
	g, _ := w.gateway.Connection(w.client.ID)
	return core.Datagram{Local: g.Local, Remote: g.Remote, Payload: route.Keys.Seal(buf, size)}
}
