package client

import (
	"fmt"
	"slices"
	"testing"

	"stile/tunnel/packet"
)

// TestQueue: duplicates once, SYNs replaced, the oldest overwritten (17).
func TestQueue(t *testing.T) {
	syn1 := tcp("10.0.0.1", 1000, 80, packet.SYN, "first")
	syn2 := tcp("10.0.0.1", 1000, 80, packet.SYN, "again")
	for _, c := range []struct {
		name string
		add  [][]byte
		want []string
	}{
		{"in order", [][]byte{udp("10.0.0.1", 1, "a"), udp("10.0.0.1", 1, "b")}, []string{"a", "b"}},
		{"identical", [][]byte{udp("10.0.0.1", 1, "a"), udp("10.0.0.1", 1, "b"), udp("10.0.0.1", 1, "a")}, []string{"a", "b"}},
		{"SYN sent again", [][]byte{syn1, udp("10.0.0.1", 1, "b"), syn2}, []string{"again", "b"}},
		{"SYN of another connection", [][]byte{syn1, tcp("10.0.0.1", 1001, 80, packet.SYN, "other")}, []string{"first", "other"}},
		{"SYN to another host", [][]byte{syn1, tcp("10.0.0.2", 1000, 80, packet.SYN, "other")}, []string{"first", "other"}},
		{"SYN to another port", [][]byte{syn1, tcp("10.0.0.1", 1000, 81, packet.SYN, "other")}, []string{"first", "other"}},
		{"SYN ACK is no SYN", [][]byte{syn1, tcp("10.0.0.1", 1000, 80, packet.SYN|packet.ACK, "other")}, []string{"first", "other"}},
		{"segment behind a SYN", [][]byte{syn1, tcp("10.0.0.1", 1000, 80, packet.ACK, "data")}, []string{"first", "data"}},
		{"too many", [][]byte{udp("10.0.0.1", 1, "a"), udp("10.0.0.1", 1, "b"), udp("10.0.0.1", 1, "c"), udp("10.0.0.1", 1, "d")}, []string{"b", "c", "d"}},
	} {
		q := queue{limit: 3}
		for _, b := range c.add {
			raw := slices.Clone(b)
			p, _ := packet.Parse(raw)
			q.add(p, target{})
			clear(raw) // the queue has a copy
		}
		if got := texts(q.packets); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func texts(packets []held) []string {
	var list []string
	for _, p := range packets {
		list = append(list, string(p.Payload()))
	}
	return list
}

// TestAllQueuesTogetherAreBounded: a scan of many resources.
func TestAllQueuesTogetherAreBounded(t *testing.T) {
	b := newBench(t)
	for n := range 60 {
		b.message(upserted(cidrResource(byte(n+1), fmt.Sprintf("10.%d.0.0/16", n))))
	}
	for n := range 60 {
		for i := range 100 {
			b.send(udp(fmt.Sprintf("10.%d.0.1", n), 9, fmt.Sprint(i)))
		}
	}
	if b.c.held != maxHeld || b.count("dropped: too many packets waiting") != 60*100-maxHeld {
		t.Errorf("%d held, %d dropped", b.c.held, b.count("dropped: too many packets waiting"))
	}
	b.message(initOf())
	if b.c.held != 0 {
		t.Errorf("%d held without resources", b.c.held)
	}
}
