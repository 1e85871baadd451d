package sim_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"stile/tunnel/packet"
	"stile/tunnel/packet/cut"
	"stile/tunnel/sim"
)

// A kernel puts fragments together, as hosts do: by addresses, protocol and ID.
type kernel struct {
	t     *testing.T
	parts map[string][][]byte
	whole func(b []byte)
}

func (k *kernel) receive(b []byte) {
	k.t.Helper()
	p, err := packet.ParseFragment(b)
	if err != nil || !p.ValidChecksums() {
		k.t.Errorf("% x …: %v", b[:min(60, len(b))], err)
		return
	}
	if !p.IsFragment() {
		k.whole(slices.Clone(b))
		return
	}
	f := p.Fragment()
	key := fmt.Sprint(p.Src(), p.Dst(), f.Proto, f.ID)
	k.parts[key] = append(k.parts[key], slices.Clone(b))
	if whole, _, ok := cut.Together(k.parts[key]...); ok {
		delete(k.parts, key)
		if !cut.Sound(whole) {
			k.t.Errorf("%s: wrong checksums", key)
		}
		k.whole(whole)
	}
}

// TestWholePathLargeDatagrams: several datagrams at a time that do not fit into
// the tunnel's packets, the first ones before anything is connected, over links
// that change the order of packets; and the answers, as large.
func TestWholePathLargeDatagrams(t *testing.T) {
	for seed := range uint64(40) {
		jitter := time.Duration(seed%4) * 5 * ms
		w := newWholeOn(t, seed, sim.Link{Delay: uplink, Jitter: jitter}, sim.PortRestricted, sim.PortRestricted, byName(), network("10.0.0.0/8"))
		rng := rand.New(rand.NewPCG(seed, 3))
		from, qtype := laptop4, dns.TypeA
		if seed%2 == 1 {
			from, qtype = laptop6, dns.TypeAAAA
		}
		to := w.resolve("wiki.corp.example", qtype)
		if from.Is4() {
			to = append(to, w.records["wiki.corp.example"][0]) // the same host, not translated
		}

		id := uint32(500) // of the host's answers
		host := &kernel{t: t, parts: make(map[string][][]byte)}
		host.whole = func(b []byte) { // it sends back what it got
			ends, udp := 12, 20
			if b[0]>>4 == 6 {
				ends, udp = 8, 40
			}
			size := (udp - ends) / 2
			b = slices.Concat(b[:ends], b[ends+size:udp], b[ends:ends+size], b[udp+2:udp+4], b[udp:udp+2], b[udp+4:])
			id++
			for _, f := range cut.Apart(b, packet.MaxSize, id) {
				w.After(0, func() {
					if err := w.gateway.Send(f); err != nil {
						t.Error(err)
					}
				})
			}
		}
		sent, back := make(map[string][]byte), 0
		app := &kernel{t: t, parts: make(map[string][][]byte)}
		app.whole = func(b []byte) {
			ends, udp := 12, 20
			if b[0]>>4 == 6 {
				ends, udp = 8, 40
			}
			key := string(b[ends : udp+4])
			if want, ok := sent[key]; !ok || !bytes.Equal(b[udp+8:], want) {
				t.Errorf("seed %d: an answer that nobody waits for", seed)
			}
			delete(sent, key)
			back++
		}
		w.gateway.TUN, w.client.TUN = host.receive, app.receive

		for round := range 4 { // the first is cold
			for i, dst := range to {
				payload := make([]byte, 1300+rng.IntN(7000))
				for k := range payload {
					payload[k] = byte(rng.Uint32())
				}
				port := uint16(6000 + round)
				whole := packet.AppendUDP(nil, netip.AddrPortFrom(from, port), netip.AddrPortFrom(dst, 7), payload)
				answer := packet.AppendUDP(nil, netip.AddrPortFrom(dst, 7), netip.AddrPortFrom(from, port), nil)
				if from.Is4() {
					sent[string(answer[12:24])] = payload
				} else {
					sent[string(answer[8:44])] = payload
				}
				for _, f := range cut.Apart(whole, packet.MaxSize, uint32(77+i/3)) { // some share an ID
					w.fromApp(f)
				}
			}
			w.Run(time.Second)
			if len(sent) != 0 {
				t.Fatalf("seed %d, round %d: %d of %d datagrams came back; %s", seed, round, len(to)-len(sent), len(to), w.state())
			}
		}
		if back != 4*len(to) {
			t.Errorf("seed %d: %d answers, want %d", seed, back, 4*len(to))
		}
	}
}
