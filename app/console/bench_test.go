package console

import (
	"fmt"
	"io"
	"testing"
	"time"

	"stile/tunnel/ipc"
)

// many is a state with 500 resources and 20 gateways.
func many() *ipc.State {
	s := connected()
	for i := range 500 {
		r := s.Resources[3+i%5]
		if err := r.ID.UnmarshalText(fmt.Appendf(nil, "00000000-0000-4000-8000-%012x", i)); err != nil {
			panic(err)
		}
		r.Name, r.Address = fmt.Sprintf("server %03d", i), fmt.Sprintf("s%03d.acme.example", i)
		s.Resources = append(s.Resources, r)
	}
	for i := range 20 {
		n := s.Connections[i%2]
		n.Gateway = someGateway(i)
		s.Connections = append(s.Connections, n)
	}
	return s
}

func BenchmarkPage500(b *testing.B) {
	d := newDesk(b)
	d.view.State = many()
	c := open(Config{Desk: d}, nowhere{})
	lived(b, c, d)
	for _, page := range []string{"status", "resources", "resources?all=yes", "diagnostics"} {
		name, q := where(page)
		b.Run(page, func(b *testing.B) {
			for b.Loop() {
				m := c.model(b.Context(), &guest{token: "TOKEN"}, name, q)
				m.fill(true)
				if err := layout().ExecuteTemplate(io.Discard, "page", m); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("live "+page, func(b *testing.B) {
			sent := map[string]string{}
			for b.Loop() {
				m := c.model(b.Context(), &guest{token: "TOKEN"}, name, q)
				m.fill(false)
				if _, err := parts(pages[name].parts, m, sent); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What watching costs while nobody looks: one change of the state.
func BenchmarkObserve500(b *testing.B) {
	d := newDesk(b)
	v := d.View()
	v.State = many()
	c := open(Config{Desk: d}, nowhere{})
	now := noon
	c.now = func() time.Time { return now }
	for b.Loop() {
		now = now.Add(250 * time.Millisecond)
		s := *v.State
		v.State = &s
		c.observe(v)
	}
}
