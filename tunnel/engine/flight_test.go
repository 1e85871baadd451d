package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stile/platform/clock"
	"stile/tunnel/core"
	"stile/tunnel/flight"
	"stile/tunnel/packet"
	"stile/tunnel/wg"
)

// The flight record has each packet once, with what became of it, and what the
// role noted.
func TestFlightRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flight.New(time.Now)
		s := &script{}
		s.outbound = func(packet.Packet, time.Time) core.Route {
			s.out.Notes = append(s.out.Notes, core.Note{What: "authorization asked"})
			return core.Route{}
		}
		g := start(t, new(ether), here, Config{Role: explained{s}, Flight: r})
		g.device.in <- [][]byte{udpPacket(0, 0, 10), {1, 2, 3}}
		synctest.Wait()
		g.finish()
		text := dumpOf(t, r)
		for want, n := range map[string]int{`"packet out"`: 1, `"outcome":"held"`: 1, `"authorization asked"`: 1} {
			if strings.Count(text, want) != n {
				t.Errorf("%s is not there %d times:\n%s", want, n, text)
			}
		}
	})
}

// Both ends record what passes, also what waited and what policy drops.
func TestFlightRecordOfBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(ether)
		records := [2]*flight.Recorder{flight.New(time.Now), flight.New(time.Now)}
		pa, pb := newPeers(t, time.Now(), netip.MustParseAddrPort(here), netip.MustParseAddrPort(there))
		a := start(t, e, here, Config{Role: pa, Flight: records[0]})
		b := start(t, e, there, Config{Role: pb, Flight: records[1]})
		a.device.in <- [][]byte{udpPacket(0, 0, 10)} // waits for the handshake
		synctest.Wait()
		inbound := pb.inbound
		pb.inbound = func(k *wg.Keys, counter uint64, plain []byte, now time.Time) []byte {
			if p := inbound(k, counter, plain, now); len(p) != 28+20 {
				return p
			}
			return nil
		}
		a.device.in <- [][]byte{udpPacket(1, 0, 10), udpPacket(1, 1, 20)}
		synctest.Wait()
		a.finish()
		b.finish()
		for i, want := range []map[string]int{
			{`"packet out"`: 4, `"outcome":"not carried"`: 1, `"remote":"` + there: 3},
			{`"packet in"`: 3, `"outcome":"not carried"`: 1, `"remote":"` + here: 3},
		} {
			text := dumpOf(t, records[i])
			for what, n := range want {
				if got := packets(text, what); got != n {
					t.Errorf("end %d: %s stands for %d packets, want %d:\n%s", i, what, got, n, text)
				}
			}
		}
	})
}

// packets adds up the packets of all lines with a text.
func packets(text, with string) (sum int) {
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, `"packets":`); ok && strings.Contains(line, with) {
			var n int
			fmt.Sscanf(rest, "%d", &n)
			sum += n
		}
	}
	return sum
}

func dumpOf(t *testing.T, r *flight.Recorder) string {
	var b bytes.Buffer
	if err := r.Dump(&b, flight.Order{Limit: flight.Unlimited}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// explained is a role that says what it does.
type explained struct{ *script }

func (explained) Outcome() string { return "held" }

// BenchmarkFlightRecord carries batches with and without the record by turns, so
// that both have the same share of whatever else the machine does.
func BenchmarkFlightRecord(b *testing.B) {
	x, y := realPair(b)
	l := newLane(b, x, y)
	for _, c := range []struct {
		name    string
		prepare func()
		batch   func()
	}{
		{"outbound", func() { l.fill() }, l.engineOut},
		{"inbound", func() { l.fill(); l.bareOut() }, l.engineIn},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var took [2][]time.Duration
			for i := range took {
				took[i] = make([]time.Duration, 0, 1<<20)
			}
			records := [2]*flight.Recorder{nil, flight.New(clock.Now)}
			for b.Loop() {
				for i, r := range records {
					x.c.Flight, y.c.Flight = r, r
					c.prepare()
					begin := time.Now()
					c.batch()
					if len(took[i]) < cap(took[i]) {
						took[i] = append(took[i], time.Since(begin))
					}
					if c.name == "outbound" {
						l.drain()
					}
				}
			}
			var tenth [2]float64
			for i := range took {
				slices.Sort(took[i])
				tenth[i] = float64(took[i][len(took[i])/10].Nanoseconds()) / laneSize
			}
			b.ReportMetric(tenth[0], "ns/packet-without")
			b.ReportMetric(tenth[1], "ns/packet-with")
			b.ReportMetric(100*(tenth[1]/tenth[0]-1), "%more")
		})
	}
}
