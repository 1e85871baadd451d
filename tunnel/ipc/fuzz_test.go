package ipc

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// FuzzFrames cuts any bytes into frames, as a reader of the socket does, and
// puts them together again.
func FuzzFrames(f *testing.F) {
	var stream []byte
	for _, row := range requests {
		stream, _ = AppendFrame(stream, []byte(row.body), MaxRequest)
	}
	f.Add(stream)
	f.Add([]byte{0, 0, 0, 2, '{', '}', 0, 0})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) >= HeaderLen {
			n, err := BodyLen([HeaderLen]byte(b), MaxRequest)
			if err != nil || len(b) < HeaderLen+n {
				return
			}
			body := b[HeaderLen : HeaderLen+n]
			again, err := AppendFrame(nil, body, MaxRequest)
			if err != nil || !bytes.Equal(again, b[:HeaderLen+n]) {
				t.Fatalf("%x, %v", again, err)
			}
			ParseRequest(body)
			ParseMessage(body)
			b = b[HeaderLen+n:]
		}
	})
}

func FuzzRequest(f *testing.F) {
	for _, row := range requests {
		f.Add([]byte(row.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseRequest(body)
		if err != nil {
			if p, is := errors.AsType[*Problem](err); !is || p.Code == "" || p.Text == "" || r.Command != nil {
				t.Fatalf("%+v, %#v", r, err)
			}
			return
		}
		frame, err := AppendRequest(nil, r)
		if err != nil {
			t.Fatalf("%+v cannot be sent: %v", r, err)
		}
		if again, err := ParseRequest(frame[HeaderLen:]); err != nil || again != r {
			t.Fatalf("%+v → %+v, %v", r, again, err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	state := exampleState()
	for _, m := range []Message{{Hello: &Hello{1, "0.1.0"}}, {State: &state}, {Answer: &Answer{7, Problemf(Internal, "No.")}}, {Goodbye: &Problem{}}, {Part: &Part{ID: 7, File: &FilePart{Name: "a", Data: []byte("x"), Left: 1}}}} {
		f.Add(marshal(m))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := ParseMessage(body)
		if err != nil {
			return
		}
		once := marshal(m)
		again, err := ParseMessage(once)
		if err != nil || !bytes.Equal(marshal(again), once) {
			t.Fatalf("%s → %s, %v", once, marshal(again), err)
		}
		if m.State == nil && !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v → %+v", m, again)
		}
	})
}
