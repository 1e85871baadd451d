//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// What a scenario calls cut rests on this.
func TestTalkersNoticeWhatBecomesOfThem(t *testing.T) {
	for _, row := range []struct {
		name    string
		stream  bool
		answers [][]byte
		want    string // of the last answer; "": fine
	}{
		{"in order", true, [][]byte{number(1), number(2)}, ""},
		{"bytes lost", true, [][]byte{number(1), number(3)}, "bytes were lost"},
		{"datagram lost", false, [][]byte{[]byte("a " + string(number(1))), []byte("a " + string(number(3)))}, ""},
		{"led elsewhere", false, [][]byte{[]byte("a " + string(number(1))), []byte("b " + string(number(2)))}, "was with a and is answered by b"},
		{"mangled", false, [][]byte{[]byte("a 123")}, "an answer of 3 bytes"},
	} {
		c := &talker{stream: row.stream, server: "a", last: time.Now()}
		var err error
		for _, a := range row.answers {
			err = c.took(a)
		}
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: got %v; want %q", row.name, err, row.want)
		}
	}
}

func TestFateCountsTheLost(t *testing.T) {
	now := time.Now()
	c := crowd{{name: "x", last: now, longest: time.Second}, {name: "y", last: now.Add(-time.Minute)}, {name: "z", last: now.Add(-2 * time.Minute)}}
	c[2].end(errFailed)
	lost, longest, err := c.fate()
	if lost != 1 || longest < time.Minute || longest >= 2*time.Minute || err == nil || !strings.Contains(err.Error(), "z") {
		t.Errorf("got %d, %v, %v", lost, longest, err)
	}
	c.mark()
	if _, longest, _ := c.fate(); longest > time.Minute {
		t.Errorf("after the mark: %v", longest)
	}
}

func TestTooBigQuotesAValidDatagram(t *testing.T) {
	from, to := netip.MustParseAddrPort("[2001:db8::1]:5000"), netip.MustParseAddrPort("[2001:db8::2]:9")
	e := tooBig(from, to, []byte("payload"))
	if e[0] != 2 || binary.BigEndian.Uint32(e[4:]) != 1280 {
		t.Errorf("header %x", e[:8])
	}
	quote := e[8:]
	udp := quote[40:]
	if !bytes.HasSuffix(udp, []byte("payload")) || len(udp) != 15 {
		t.Fatalf("quotes %q", udp)
	}
	// a sum over what carries its own checksum is zero
	if sum := checksum(quote[8:24], quote[24:40], []byte{0, 17, 0, 15}, udp); sum != 0 && sum != 0xffff {
		t.Errorf("its checksum is off by %#x", sum)
	}
	if got := len(tooBig(from, to, make([]byte, 1232))); got != 1240 {
		t.Errorf("%d bytes long; want 1240, to fit into 1280 with its header", got)
	}
}
