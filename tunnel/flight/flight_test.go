package flight

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"stile/platform/clock"
	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
)

// Whatever comes, each packet and each byte of it is in exactly one line or is
// said to be left out, lines are of one flow each, and in order of time.
func TestPacketsAreAllAccountedFor(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		x := newBox()
		many := 1 + rng.IntN(600) // flows; more than the slots there are
		var given uint64
		sums := map[string]sum{} // of flows, by what identifies them: the whole model
		for range 300 {
			x.pass(time.Duration(rng.Int64N(int64(100 * time.Millisecond))))
			d := Direction(rng.IntN(2))
			outcome := []string{"", "", "held", "dropped: fragment"}[rng.IntN(4)]
			var batch []Packet
			for range rng.IntN(20) {
				p, flow := anyPacket(rng, rng.IntN(many))
				batch = append(batch, Packet{Bytes: p, Outcome: outcome})
				key := d.String() + flow + outcome
				sums[key] = sum{sums[key].packets + 1, sums[key].bytes + len(p)}
				given++
			}
			x.Packets(d, batch, x.time)
		}
		lines, end := x.dump(t)
		told, last := uint64(0), ""
		for _, l := range lines {
			if at := l["time"].(string); at < last {
				t.Fatalf("seed %d: %s comes after %s", seed, at, last)
			} else {
				last = at
			}
			if l["protocol"] == nil {
				continue
			}
			n := int(l["packets"].(float64))
			told += uint64(n)
			outcome, _ := l["outcome"].(string)
			key := fmt.Sprintf("%s%s%s%s%s", strings.TrimPrefix(l["message"].(string), "packet "), l["protocol"], l["source"], l["destination"], outcome)
			if sums[key].packets < n {
				t.Fatalf("seed %d: %s has %d packets more than were given", seed, key, n-sums[key].packets)
			}
			sums[key] = sum{sums[key].packets - n, sums[key].bytes - int(l["bytes"].(float64))}
		}
		var missing uint64
		for key, s := range sums {
			missing += uint64(s.packets)
			if s.packets == 0 && s.bytes != 0 {
				t.Fatalf("seed %d: %s lacks %d bytes", seed, key, s.bytes)
			}
		}
		if left := leftOut(end, "Packets") + leftOut(end, "DroppedPackets"); told+left != given || left != missing {
			t.Fatalf("seed %d: %d packets were given, %d told, %d left out, %d are missing", seed, given, told, left, missing)
		}
	}
}

type sum struct{ packets, bytes int }

// A flood of everything at once neither breaks the bound nor pushes out what is
// younger than Kept.
func TestFloodKeepsTenMinutes(t *testing.T) {
	x := newBox()
	rng := rand.New(rand.NewPCG(1, 1))
	log := slog.New(x.Beside(slog.DiscardHandler))
	began := x.time
	x.advance(x.time.UnixNano())
	packets := manyPackets(rng, 10_000)
	for i := 0; x.time.Sub(began) < 13*time.Minute; i++ {
		x.pass(500 * time.Millisecond)
		for range 4 {
			log.Info("flood", "text", strings.Repeat("x", rng.IntN(500)))
		}
		for range 20 {
			log.Debug("minor flood", "i", i)
		}
		x.Counted(nil, []core.Counter{{Name: strings.Repeat("y", 300), Value: uint64(i) + 1}})
		var batch []Packet
		for range 600 {
			batch = append(batch, Packet{Bytes: packets[rng.IntN(len(packets))], Outcome: []string{"", "dropped: fragment"}[rng.IntN(2)]})
		}
		x.Packets(Out, batch, x.time)
		if m := x.Memory(); m > Size {
			t.Fatalf("it takes %d bytes", m)
		}
	}
	for name, r := range map[string]*ring{"packets": &x.packets, "events": &x.events} {
		if len(r.chunks) < r.most*9/10 {
			t.Errorf("%s: %d chunks of %d: too little of a flood", name, len(r.chunks), r.most)
		}
		if age := x.time.Sub(time.Unix(0, r.chunks[0].epoch)); age < Kept {
			t.Errorf("%s go back %v only", name, age)
		}
		for _, c := range r.chunks {
			if cost := int(unsafe.Sizeof(*c)) + cap(c.bytes) + cap(c.outcomes)*int(unsafe.Sizeof("")) + cap(c.ends)*int(unsafe.Sizeof(end{})); cost > chunkCost {
				t.Fatalf("a chunk takes %d bytes", cost)
			}
		}
	}
	if s := int(unsafe.Sizeof(flows{})); s > flowsCost {
		t.Errorf("flows take %d bytes", s)
	}
	end := lastLine(t, x.dumped(t, Unlimited), 1)
	for c := range classes {
		if leftOut(end, strings.ToUpper(classKeys[c][:1])+classKeys[c][1:]) == 0 {
			t.Errorf("of %s nothing is said to be left out", classKeys[c])
		}
	}
}

// A chunk refers to many ends, and then to none; it does not take more memory.
func TestTablesAreBounded(t *testing.T) {
	x := newBox()
	p, _ := anyPacket(rand.New(rand.NewPCG(1, 1)), 1)
	for i := range 1000 {
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(i+1))
		x.pass(time.Second)
		x.Packets(Out, []Packet{{Bytes: p, Remote: &remote}}, x.time)
	}
	if c := x.packets.chunks[0]; len(c.ends) != maxTable || len(x.packets.chunks) != 1 {
		t.Errorf("%d ends in the first of %d chunks", len(c.ends), len(x.packets.chunks))
	}
	with := 0
	lines, _ := x.dump(t)
	for _, l := range lines {
		if l["remote"] != nil {
			with++
		}
	}
	if with != maxTable {
		t.Errorf("%d lines say where the packet went", with)
	}
}

// A service that has little to do takes little memory, however long it runs.
func TestIdleTakesLittle(t *testing.T) {
	x := newBox()
	p, _ := anyPacket(rand.New(rand.NewPCG(1, 1)), 1)
	if m := x.Memory(); m != 0 {
		t.Errorf("%d bytes before anything happened", m)
	}
	for range 7 * 24 * 60 {
		x.pass(time.Minute)
		x.Packets(In, []Packet{{Bytes: p}}, x.time)
	}
	if m := x.Memory(); m > 3*chunkCost+flowsCost {
		t.Errorf("%d bytes after a quiet week", m)
	}
}

func TestPacketLines(t *testing.T) {
	x := newBox()
	remote := netip.MustParseAddrPort("203.0.113.7:52625")
	udp4 := packet.AppendUDP(nil, netip.MustParseAddrPort("100.64.0.1:5000"), netip.MustParseAddrPort("10.0.0.5:53"), []byte("question"))
	udp6 := packet.AppendUDP(nil, netip.MustParseAddrPort("[fd00::1]:5000"), netip.MustParseAddrPort("[fd00::2]:443"), []byte("hello"))
	syn := tcp(5001, 443, packet.SYN)
	x.Packets(Out, []Packet{{Bytes: udp4, Remote: &remote}, {Bytes: udp4, Remote: &remote}, {Bytes: syn}, {Bytes: []byte{1}, Outcome: "dropped: malformed"}}, x.time)
	x.pass(100 * time.Millisecond)
	ping := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0, 0, 1, 0, 1}
	x.Packets(In, []Packet{{Bytes: udp6}, {Bytes: tcp(443, 5001, packet.SYN|packet.ACK)}, {Bytes: ping}}, x.time)
	x.Packets(Out, []Packet{{Bytes: udp4, Remote: &remote}}, x.time)
	lines, end := x.dump(t)
	wants := []string{
		`"packet out","target":"tunnel/flight","protocol":"udp","source":"100.64.0.1:5000","destination":"10.0.0.5:53","packets":3,"bytes":108,"overMs":100,"remote":"203.0.113.7:52625"}`,
		`"packet out","target":"tunnel/flight","protocol":"tcp","source":"100.64.0.1:5001","destination":"10.0.0.5:443","flags":"S","packets":1,"bytes":40}`,
		`"packet out","target":"tunnel/flight","protocol":"none","packets":1,"bytes":1,"outcome":"dropped: malformed"}`,
		`"packet in","target":"tunnel/flight","protocol":"udp","source":"[fd00::1]:5000","destination":"[fd00::2]:443","packets":1,"bytes":53}`,
		`"packet in","target":"tunnel/flight","protocol":"tcp","source":"100.64.0.1:443","destination":"10.0.0.5:5001","flags":"SA","packets":1,"bytes":40}`,
		`"packet in","target":"tunnel/flight","protocol":"icmp","source":"10.0.0.1","destination":"10.0.0.2","type":8,"code":0,"packets":1,"bytes":28}`,
	}
	for _, want := range wants {
		if !bytes.Contains(x.text, []byte(`"severity":"DEBUG","message":`+want+"\n")) {
			t.Errorf("there is no line %s in\n%s", want, x.text)
		}
	}
	if len(lines) != len(wants) || end["packetLines"] != float64(len(wants)) {
		t.Errorf("%d lines; %v", len(lines), end)
	}
}

// A TCP segment from 100.64.0.1 to 10.0.0.5.
func tcp(from, to uint16, flags packet.TCPFlags) []byte {
	b := make([]byte, 40)
	copy(b, []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 100, 64, 0, 1, 10, 0, 0, 5, byte(from >> 8), byte(from), byte(to >> 8), byte(to)})
	b[32], b[33] = 5<<4, byte(flags)
	return b
}

func TestEvents(t *testing.T) {
	x := newBox()
	var files bytes.Buffer
	log := slog.New(x.Beside(slog.NewTextHandler(&files, nil))).With("part", "a").WithGroup("g")
	log.Debug("deep", "n", 3)
	log.Error("broken", "error", errors.New("no\n\"way\""))
	x.Logger().Info("only here")
	x.Notes([]core.Note{
		{What: "authorization asked", Resource: id.Resource{15: 1}},
		{What: "name answered", Name: "wiki.corp.example"},
		{What: "connected", Peer: id.Peer{15: 2}, Connection: 0xabc, Relayed: true, Remote: netip.MustParseAddrPort("192.0.2.1:3478")},
	})
	x.Counted([]core.Counter{{Name: "a", Value: 1}, {Name: "c", Value: 4}}, []core.Counter{{Name: "a", Value: 1}, {Name: `b: "`, Value: 2}, {Name: "c", Value: 9}})
	x.Counted([]core.Counter{{Name: "a", Value: 1}}, []core.Counter{{Name: "a", Value: 1}}) // nothing
	lines, _ := x.dump(t)
	for i, want := range []map[string]any{
		{"severity": "DEBUG", "message": "deep", "part": "a", "gN": 3.0, "target": "tunnel/flight"},
		{"severity": "ERROR", "message": "broken", "gError": "no\n\"way\""},
		{"severity": "INFO", "message": "only here"},
		{"severity": "INFO", "message": "authorization asked", "resource": id.Resource{15: 1}.String()},
		{"severity": "DEBUG", "message": "name answered", "name": "wiki.corp.example"},
		{"severity": "INFO", "message": "connected", "peer": id.Peer{15: 2}.String(), "connection": "000abc", "relayed": true, "remote": "192.0.2.1:3478"},
		{"severity": "DEBUG", "message": "counted"},
	} {
		if i >= len(lines) {
			t.Fatalf("there is no line with %v", want)
		}
		for key, value := range want {
			if lines[i][key] != value {
				t.Errorf("line %d: %s is %v, want %v", i, key, lines[i][key], value)
			}
		}
	}
	if got := fmt.Sprint(lines[6]["counts"]); got != `map[b: ":2 c:5]` || len(lines) != 7 {
		t.Errorf("%d lines, counts are %s", len(lines), got)
	}
	if text := files.String(); !strings.Contains(text, "broken") || strings.Contains(text, "deep") || strings.Contains(text, "only here") {
		t.Errorf("beside it was logged %s", text)
	}
}

func TestHugeEventsAreCut(t *testing.T) {
	x := newBox()
	x.Logger().Info("short", "field", strings.Repeat("\n", 100<<10))
	x.Logger().Info(strings.Repeat("long ", 100<<10))
	lines, _ := x.dump(t)
	if len(lines) != 2 || lines[0]["field"] != nil || lines[0]["message"] == "" || len(lines[1]["message"].(string)) > maxEvent {
		t.Errorf("%.300v", lines)
	}
	var counters []core.Counter
	for i := range 1000 {
		counters = append(counters, core.Counter{Name: fmt.Sprintf("counter %04d", i), Value: 1})
	}
	x.Counted(nil, counters)
	if lines, _ = x.dump(t); len(lines) != 3 {
		t.Error("too many counters are none")
	}
}

// What is behind a packet's headers is nowhere, neither in a dump nor in the
// memory of the record.
func TestPayloadIsNeverThere(t *testing.T) {
	x := newBox()
	const marker = "PaYlOaD-mArKeR"
	payload := strings.Repeat(marker, 20)
	var batch []Packet
	add := func(b []byte) {
		batch = append(batch, Packet{Bytes: b}, Packet{Bytes: b, Outcome: "dropped: fragment"})
	}
	v4, v6 := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("[fd00::1]:1")
	udp4, udp6 := packet.AppendUDP(nil, v4, v4, []byte(payload)), packet.AppendUDP(nil, v6, v6, []byte(payload))
	for _, whole := range [][]byte{udp4, udp6} {
		for proto := range 256 {
			for _, fragment := range []byte{0, 0x20, 1} { // none, the first, a later one
				b := bytes.Clone(whole)
				if b[0]>>4 == 4 {
					b[6], b[9] = fragment, byte(proto)
				} else {
					b[6] = byte(proto)
				}
				add(b)
			}
		}
		for version := range byte(16) {
			b := bytes.Clone(whole)
			b[0] = version<<4 | 5
			add(b)
		}
	}
	add([]byte(payload))
	add(append(tcp(1, 2, packet.SYN), payload...))
	for i := range batch {
		x.pass(100 * time.Millisecond)
		x.Packets(Direction(i&1), batch[i:i+1], x.time)
	}
	x.dump(t)
	if n := bytes.Count(x.text, []byte("\n")); n < len(batch)/4 {
		t.Fatalf("%d lines of %d packets", n, len(batch))
	}
	holds := func(b []byte) bool {
		for i := 0; i+6 <= len(marker); i++ { // any part of it
			if bytes.Contains(b, []byte(marker[i:i+6])) {
				return true
			}
		}
		return false
	}
	if holds(x.text) {
		t.Error("a dump holds payload")
	}
	for _, c := range x.packets.chunks {
		if holds(c.bytes[:cap(c.bytes)]) {
			t.Error("the record holds payload")
		}
	}
}

// Recording, logging and dumping at once. Run with the race detector.
func TestConcurrently(t *testing.T) {
	r := New(clock.Now)
	stop := make(chan struct{})
	var g sync.WaitGroup
	run := func(f func(i int)) {
		g.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 1))
	packets := manyPackets(rng, 1000)
	for d := range In + 1 {
		run(func(i int) {
			r.Packets(d, []Packet{{Bytes: packets[i%1000]}, {Bytes: packets[i/7%1000], Outcome: "held"}}, clock.Now())
		})
	}
	log := slog.New(r.Beside(slog.DiscardHandler))
	run(func(i int) { log.With("a", i).Info("said") })
	run(func(int) { r.Notes([]core.Note{{What: "noted", Name: "n"}}) })
	for range 5 {
		var b bytes.Buffer
		if err := r.Dump(&b, Order{Limit: Unlimited}); err != nil {
			t.Fatal(err)
		}
		parse(t, b.Bytes())
	}
	close(stop)
	g.Wait()
}

// A dump goes on where the ring has overtaken it, and says nothing twice.
func TestRingOvertakesDump(t *testing.T) {
	x := newBox()
	log := x.Logger()
	fill := func() {
		for range eventChunks {
			for k := x.events.number; x.events.number == k; {
				x.left[steps] = 1 << 20
				log.Info("event", "number", x.count, "text", strings.Repeat("x", 1000))
				x.count++
			}
		}
	}
	fill()
	seen := map[float64]bool{}
	first := true
	err := x.Dump(writer(func(b []byte) (int, error) {
		if first { // the buffer is about one chunk long
			first = false
			fill()
		}
		for _, l := range parse(t, b) {
			if n, is := l["number"].(float64); is {
				if seen[n] {
					t.Fatalf("%v comes twice", n)
				}
				seen[n] = true
			}
		}
		return len(b), nil
	}), Order{Limit: Unlimited})
	if err != nil || len(seen) == 0 || len(seen) == x.count {
		t.Errorf("%d events of %d; %v", len(seen), x.count, err)
	}
	full := errors.New("disk full")
	if err := x.Dump(writer(func([]byte) (int, error) { return 0, full }), Order{Limit: Unlimited}); err != full {
		t.Error(err)
	}
}

func TestDumpIsLimited(t *testing.T) {
	x := newBox()
	rng := rand.New(rand.NewPCG(1, 1))
	packets := manyPackets(rng, 10_000)
	for range 700 {
		x.pass(time.Second)
		var batch []Packet
		for range 400 {
			batch = append(batch, Packet{Bytes: packets[rng.IntN(len(packets))]})
		}
		x.Packets(Out, batch, x.time)
	}
	const limit = 8 << 20
	whole, part := x.dumped(t, Unlimited), x.dumped(t, limit)
	of, is := lastLine(t, whole, 2)["destination"], lastLine(t, part, 2)["destination"]
	if len(part) > limit || len(part) < limit/4 || is != of {
		t.Errorf("%d bytes of %d; the last packet is to %v, not %v", len(part), len(whole), is, of)
	}
	t.Logf("the whole: %d lines, %d bytes", bytes.Count(whole, []byte("\n")), len(whole))
}

func TestNilKeepsNothing(t *testing.T) {
	var r *Recorder
	r.Packets(Out, []Packet{{Bytes: []byte{1}}}, time.Now())
	r.Notes([]core.Note{{What: "x"}})
	r.Counted(nil, nil)
	r.Logger().Info("x")
	if h := slog.DiscardHandler; r.Beside(h) != h {
		t.Error("nothing has a handler")
	}
}

// A panic is told of before the program ends with it, also if it came while a
// batch was recorded; and it stays the same panic.
func TestPanicking(t *testing.T) {
	x := newBox()
	p, _ := anyPacket(rand.New(rand.NewPCG(1, 1)), 1)
	var told any
	var text bytes.Buffer
	x.OnPanic = func(reason any) {
		told = reason
		if err := x.Dump(&text, Order{Limit: Unlimited, Dying: true}); err != nil {
			t.Error(err)
		}
	}
	func() {
		defer func() {
			if reason := recover(); reason != "wrong" {
				t.Errorf("the panic is %v", reason)
			}
		}()
		defer x.Panicking()
		b := x.Begin(In, x.time)
		b.Carried(p, nil, nil)
		panic("wrong")
	}()
	if told != "wrong" || !bytes.Contains(text.Bytes(), []byte(`"packet in"`)) {
		t.Errorf("told of %v: %s", told, text.Bytes())
	}
	func() {
		defer x.Panicking()
	}()
}

func FuzzHeader(f *testing.F) {
	f.Add(tcp(1, 2, packet.SYN))
	f.Add(packet.AppendUDP(nil, netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2"), []byte("x")))
	f.Add([]byte{0x60, 0, 0, 0, 0, 16, 0, 64, 39: 0, 40: 6})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h header
		h.read(b)
		if p, err := packet.ParseFragment(b); err == nil {
			ports := uint32(p.SrcPort())<<16 | uint32(p.DstPort())
			if typ, code, ok := p.ICMP(); ok {
				ports = uint32(typ)<<16 | uint32(code)
			}
			if int(h.version) != p.Version() || h.addr(0) != p.Src() || h.addr(1) != p.Dst() {
				t.Fatalf("%+v is not %v", h, b)
			}
			if h.proto == p.Proto() && (h.ports != ports || h.flags != p.TCPFlags()) {
				t.Fatalf("%+v, want ports %x and flags %x", h, ports, p.TCPFlags())
			}
			if h.proto != p.Proto() && p.Proto() != packet.Proto(59) && !p.IsFragment() {
				t.Fatalf("protocol %d, want %d", h.proto, p.Proto())
			}
		}
		// What is written is read back.
		x := newBox()
		x.Packets(Out, []Packet{{Bytes: b, Outcome: "held"}}, x.time)
		x.flush()
		var got flow
		c := x.Recorder.packets.chunks[0]
		if rest := got.next(c, c.bytes); len(rest) != 0 || got.header != h || got.outcome != "held" || got.packets != 1 || got.bytes != uint32(len(b)) || got.first != x.time.UnixNano() {
			t.Fatalf("%+v came back as %+v", h, got)
		}
	})
}

func BenchmarkPackets(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, flows := range []int{1, 8, 1000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			r := New(clock.Now)
			batch := make([]Packet, 128)
			for i := range batch {
				batch[i].Bytes, _ = anyPacket(rng, rng.IntN(flows))
			}
			for b.Loop() {
				r.Packets(Out, batch, clock.Now())
			}
			b.ReportAllocs()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/packet")
		})
	}
}

// A box is a record with a clock that is turned by hand.
type box struct {
	*Recorder
	time  time.Time
	text  []byte // the last dump
	count int
}

func newBox() *box {
	x := &box{time: time.Unix(1_800_000_000, 0)}
	x.Recorder = New(func() time.Time { return x.time })
	return x
}

func (x *box) pass(d time.Duration) { x.time = x.time.Add(d) }

// dump returns the lines of a dump, and apart from them the last one.
func (x *box) dump(t *testing.T) (lines []map[string]any, end map[string]any) {
	t.Helper()
	var b bytes.Buffer
	if err := x.Dump(&b, Order{Reason: "test", More: map[string]string{"more": "yes"}, Limit: Unlimited}); err != nil {
		t.Fatal(err)
	}
	x.text = b.Bytes()
	lines = parse(t, x.text)
	end = lines[len(lines)-1]
	if end["reason"] != "test" || end["more"] != "yes" {
		t.Errorf("it ends with %v", end)
	}
	return lines[:len(lines)-1], end
}

// dumped returns the text of a dump.
func (x *box) dumped(t *testing.T, limit int) []byte {
	var b bytes.Buffer
	if err := x.Dump(&b, Order{Reason: "test", Limit: limit}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// lastLine returns the n-th line from the end.
func lastLine(t *testing.T, text []byte, n int) map[string]any {
	for range n - 1 {
		text = text[:bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n')+1]
	}
	return parse(t, text[bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n')+1:])[0]
}

// parse reads lines, all of which must be of the format of the log files.
func parse(t *testing.T, text []byte) (lines []map[string]any) {
	t.Helper()
	for line := range bytes.Lines(text) {
		var l map[string]any
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, key := range []string{"time", "severity", "message", "target"} {
			if _, is := l[key].(string); !is {
				t.Fatalf("%s is %v in %s", key, l[key], line)
			}
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000000000Z", l["time"].(string)); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

func leftOut(end map[string]any, what string) uint64 {
	n, _ := end["leftOut"+what].(float64)
	return uint64(n)
}

// anyPacket makes a packet of flow n, and what identifies the flow.
func anyPacket(rng *rand.Rand, n int) (b []byte, flow string) {
	payload := make([]byte, rng.IntN(100))
	from, to := netip.MustParseAddrPort("100.64.0.1:4000"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), uint16(n+1))
	switch n % 3 {
	case 1:
		from, to = netip.MustParseAddrPort("[fd00::1]:4000"), netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(n >> 8), 15: byte(n)}), uint16(n+1))
	case 2:
		to := uint16(n + 1)
		flags := []packet.TCPFlags{packet.ACK, packet.ACK | packet.PSH, packet.SYN, packet.FIN | packet.ACK}[rng.IntN(4)]
		b = append(tcp(4000, to, flags), payload...)
		return b, fmt.Sprintf("tcp100.64.0.1:400010.0.0.5:%d", to)
	}
	return packet.AppendUDP(nil, from, to, payload), fmt.Sprintf("udp%v%v", from, to)
}

func manyPackets(rng *rand.Rand, n int) (list [][]byte) {
	for i := range n {
		p, _ := anyPacket(rng, i)
		list = append(list, p)
	}
	return list
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// A Packet is one of a batch to be recorded.
type Packet struct {
	Bytes   []byte
	Remote  *netip.AddrPort
	Outcome string
}

// Packets records a batch.
func (r *Recorder) Packets(d Direction, batch []Packet, now time.Time) {
	b := r.Begin(d, now)
	defer b.End()
	for _, p := range batch {
		if p.Outcome == "" {
			b.Carried(p.Bytes, nil, p.Remote)
		} else {
			b.Other(p.Bytes, nil, p.Remote, p.Outcome)
		}
	}
}
