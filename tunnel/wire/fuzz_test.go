package wire

import (
	"encoding/json"
	"reflect"
	"testing"
)

func FuzzParseFrame(f *testing.F) {
	for _, row := range golden() {
		f.Add([]byte(row.frame))
	}
	f.Add(AppendFrame(nil, OK("phoenix", 1<<63)))
	f.Add([]byte(`{"topic":"\ud800","event":"","payload":null,"ref":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ParseFrame(b)
		if err != nil {
			return
		}
		again, err := ParseFrame(AppendFrame(nil, frame))
		if err != nil || !reflect.DeepEqual(again, frame) {
			t.Fatalf("%+v → %+v, %v", frame, again, err)
		}
		ParseReply(frame.Payload)
	})
}

// Every receiver reads every payload; what parses survives a round trip.
func FuzzMessages(f *testing.F) {
	for _, row := range golden() {
		frame, err := ParseFrame([]byte(row.frame))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame.Event, []byte(frame.Payload))
	}
	receivers := []func(Version, string, []byte) (Message, error){
		DecodeForClient, DecodeFromClient, DecodeForGateway, DecodeFromGateway,
		func(_ Version, event string, payload []byte) (Message, error) { return DecodeForRelay(event, payload) },
		func(_ Version, event string, payload []byte) (Message, error) { return DecodeFromRelay(event, payload) },
	}
	f.Fuzz(func(t *testing.T, event string, payload []byte) {
		for _, decode := range receivers {
			for v := V1; v <= V2; v++ {
				roundTrip(t, decode, v, event, payload)
			}
		}
	})
}

func roundTrip(t *testing.T, decode func(Version, string, []byte) (Message, error), v Version, event string, payload []byte) {
	m, err := decode(v, event, payload)
	if _, unknown := m.(Unknown); unknown || err != nil {
		return
	}
	encoded, err := AppendPayload(nil, m)
	if err != nil {
		t.Fatalf("%+v: %v", m, err)
	}
	if init, is := m.(ClientInit); is {
		init.Skipped = 0
		m = init
	}
	again, err := decode(v, m.Event(v), encoded)
	if err != nil || !reflect.DeepEqual(withoutFilters(again), withoutFilters(m)) {
		t.Fatalf("%+v → %s → %+v, %v", m, encoded, again, err)
	}
}

// withoutFilters removes what does not come back: an Internet resource has no
// filters (9.3), whatever a portal sends.
func withoutFilters(m Message) Message {
	strip := func(r *Resource) {
		if r.Type == Internet {
			r.Filters = nil
		}
	}
	switch m := m.(type) {
	case ClientInit:
		for i := range m.Resources {
			strip(&m.Resources[i])
		}
	case ResourceUpserted:
		strip(&m.Resource)
		return m
	}
	return m
}

// An init with ten thousand resources, about the most that fits into a frame
// of 8 MiB.
func BenchmarkLargeInit(b *testing.B) {
	m := ClientInit{Interface: zeroInterface(), FlowLogs: logsOff}
	for range 10_000 {
		m.Resources = append(m.Resources, wikiResource)
	}
	payload, err := AppendPayload(nil, m)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			AppendPayload(nil, m)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeForClient(V2, "init", payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Splitting an object finds the members that encoding/json finds.
func FuzzObject(f *testing.F) {
	for _, row := range golden() {
		f.Add([]byte(row.frame))
	}
	f.Add([]byte(" {\t\"a\\\"}\" : [1,{\"b\":\"]\\\\\"}] ,\n\"\\ud800\":-1e5,\"c\":true,\"a\":null}\r"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var want map[string]json.RawMessage
		if json.Unmarshal(b, &want) != nil || want == nil {
			return
		}
		o := parseObject(b)
		got := map[string]json.RawMessage{}
		for _, m := range o.members {
			got[m.name] = m.value
		}
		if len(o.members) < maxMembers && (o.err != nil || !reflect.DeepEqual(got, want)) {
			t.Fatalf("%s → %s, %v; want %s", b, got, o.err, want)
		}
		for _, v := range got {
			var list []json.RawMessage
			if v[0] != '[' || json.Unmarshal(v, &list) != nil {
				continue
			}
			var elements []json.RawMessage
			eachElement(v, func(e json.RawMessage) error { elements = append(elements, e); return nil })
			if len(list) <= maxList && len(list)+len(elements) > 0 && !reflect.DeepEqual(elements, list) {
				t.Fatalf("%s → %s, want %s", v, elements, list)
			}
		}
	})
}
