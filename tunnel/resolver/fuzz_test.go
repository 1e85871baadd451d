package resolver

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

// FuzzQuery: no payload may cause a panic, an answer to a response, an answer
// that is not one, or memory that stays in use.
func FuzzQuery(f *testing.F) {
	for _, q := range []*dns.Msg{
		new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeA),
		new(dns.Msg).SetQuestion("wiki.corp.example.", dns.TypeANY),
		new(dns.Msg).SetQuestion(`a\.b\000.deep.example.`, dns.TypeAAAA),
		new(dns.Msg).SetQuestion("www.example.", dns.TypeTXT),
		new(dns.Msg).SetQuestion("1.0.96.100.in-addr.arpa.", dns.TypePTR),
		new(dns.Msg).SetEdns0(4096, true).SetQuestion("known.example.", dns.TypeAAAA),
		new(dns.Msg).SetNotify("example."),
		new(dns.Msg).SetAxfr("."),
	} {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b)
		f.Add(b[:len(b)/2], b[:12])
	}
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), []byte{})
	f.Fuzz(func(t *testing.T, payload, upstream []byte) {
		r := fixture(t)
		before := bytes.Clone(payload)
		d := r.Query(app, sentinel, payload, start)
		if !bytes.Equal(before, payload) {
			t.Fatal("the payload was written to")
		}
		answer := d.Reply
		if d.Ask != nil {
			out, ok := r.Answered(d.Ask.ID, upstream, nil)
			if !ok {
				t.Fatal("no answer")
			}
			answer = out.Message
		}
		if len(r.inFlight) != 0 {
			t.Fatal("a slot is in use")
		}
		if answer == nil {
			return
		}
		if len(answer) < headerLen || len(answer) > maxUDP || answer[2]&flagQR == 0 || !bytes.Equal(answer[:2], payload[:2]) {
			t.Fatalf("%x is no answer to %x", answer, payload)
		}
		if d.Reply != nil && new(dns.Msg).Unpack(answer) != nil {
			t.Fatalf("%x does not parse", answer)
		}
	})
}
