package operator

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"stile/platform/forward"
	"stile/tunnel/gateway"
	"stile/tunnel/id"
)

func TestStatus(t *testing.T) {
	o := New(Config{Engine: newGateway(t, 3), Log: quiet, Conntrack: func() (forward.Tracked, error) { return forward.Tracked{Count: 5, Max: 100}, nil }})
	s := o.Status()
	if !s.PortalUp || s.IPv4 != addr("100.64.0.1") || s.Sessions != 5 || s.Carried != (Carried{1, 20, 300, 4000}) || s.Unreadable["forged"] != 7 ||
		s.Tracked.Max != 100 || time.Since(s.Time).Abs() > time.Minute || s.Version == "" || len(s.Relays) != 1 {
		t.Errorf("%+v", s)
	}
	if len(s.Clients) != 2 || s.Clients[0].ID != alice || s.Clients[0].Actor != "alice@corp.example" || s.Clients[0].State != "connecting" ||
		len(s.Clients[0].Authorizations) != 2 || s.Clients[0].Sessions != 4 || s.Clients[1].Sessions != 1 {
		t.Errorf("%+v", s.Clients)
	}
	if until := time.Until(s.Clients[0].Authorizations[0].ExpiresAt); until < 59*time.Minute || until > time.Hour {
		t.Errorf("authorized for %v", until)
	}
}

// Each way to ask for sessions.
func TestQueries(t *testing.T) {
	o := New(Config{Engine: newGateway(t, 3), Log: quiet})
	for _, row := range []struct {
		q              Query
		total, matched int
		shown          []uint16 // client ports
	}{
		{Query{Limit: 100}, 5, 5, []uint16{10000, 10001, 10002, 5000, 5000}},
		{Query{Limit: 2}, 5, 5, []uint16{10000, 10001}},
		{Query{Limit: 9, Client: "alice"}, 4, 4, []uint16{10000, 10001, 10002, 5000}},
		{Query{Limit: 9, Client: "BOB@corp"}, 1, 1, []uint16{5000}},
		{Query{Limit: 9, Client: "100.64.0.9"}, 1, 1, []uint16{5000}},
		{Query{Limit: 9, Client: "fd00:2021:1111::7", Name: "lab"}, 4, 3, []uint16{10000, 10001, 10002}},
		{Query{Limit: 9, Client: "100.64.0"}, 0, 0, nil},
		{Query{Limit: 9, Client: bob.String()[:8]}, 1, 1, []uint16{5000}},
		{Query{Limit: 9, Client: "nobody"}, 0, 0, nil},
		{Query{Limit: 9, Name: "wiki"}, 5, 2, []uint16{5000, 5000}},
		{Query{Limit: 9, Name: "WIKI.CORP"}, 5, 2, []uint16{5000, 5000}},
		{Query{Limit: 9, Name: "*.corp.example"}, 5, 2, []uint16{5000, 5000}},
		{Query{Limit: 9, Name: "l?b"}, 5, 3, []uint16{10000, 10001, 10002}},
		{Query{Limit: 9, Name: "?b"}, 5, 0, nil},
		{Query{Limit: 9, State: "unconfirmed"}, 5, 5, []uint16{10000, 10001, 10002, 5000, 5000}},
		{Query{Limit: 9, State: "established"}, 5, 0, nil},
	} {
		s := o.Sessions(row.q)
		var shown []uint16
		for _, f := range s.Sessions {
			shown = append(shown, f.ClientPort)
		}
		if s.Total != row.total || s.Matched != row.matched || !slices.Equal(shown, row.shown) {
			t.Errorf("%+v: %d of %d, %v", row.q, s.Matched, s.Total, shown)
		}
	}
}

// Of many sessions those with the latest packets are kept, however they come.
func TestLatestSessions(t *testing.T) {
	base := time.Unix(1_800_000_000, 0)
	for _, limit := range []int{1, 7, 100} {
		for _, step := range []int{1, 7919, -1} { // in order, mixed, against it
			l := latest{limit: limit}
			for i := range 1000 {
				n := (i*step%1000 + 1000) % 1000
				l.add(&gateway.Session{ClientPort: uint16(n), LastAt: base.Add(time.Duration(n) * time.Second)})
			}
			if cap(l.list) > 4*limit+8 {
				t.Errorf("room for %d with a limit of %d", cap(l.list), limit)
			}
			got := l.sorted()
			for i, s := range got {
				if len(got) != limit || s.ClientPort != uint16(999-i) {
					t.Fatalf("limit %d, step %d: %d at %d of %d", limit, step, s.ClientPort, i, len(got))
				}
			}
		}
	}
}

// A gateway with many sessions is looked at in many short moments.
func TestManyLooks(t *testing.T) {
	const n = 4000
	e := newGateway(t, n)
	s := New(Config{Engine: e, Log: quiet}).Sessions(Query{Limit: MaxLimit})
	if s.Total != n+2 || len(s.Sessions) != n+2 || e.looks < n/gateway.PageSize {
		t.Errorf("%d sessions in %d looks", s.Total, e.looks)
	}
}

func TestResources(t *testing.T) {
	o := New(Config{Engine: newGateway(t, 0), Log: quiet})
	r := o.Resources(Query{Limit: 100})
	if len(r.Resources) != 2 || r.Resources[0].Name != "Lab" || r.Resources[1].Name != "Wiki" || r.Matched != 2 || r.Shown != 2 {
		t.Fatalf("%+v", r)
	}
	lab, wiki := r.Resources[0], r.Resources[1]
	if len(lab.Clients) != 1 || len(lab.Names) != 0 || lab.Address != "10.9.0.0/16" || lab.Type != "cidr" {
		t.Errorf("%+v", lab)
	}
	if len(wiki.Clients) != 2 || wiki.Clients[0].Actor != "alice@corp.example" || fmt.Sprint(wiki.Filters) != "[tcp/443 icmp]" || len(wiki.Names) != 2 {
		t.Errorf("%+v", wiki)
	}
	n := wiki.Names[0]
	if n.Name != "wiki.corp.example" || n.Client != alice || !slices.Equal(n.Answer, []netip.Addr{addr("10.0.0.8")}) || len(n.Proxies) != 4 {
		t.Fatalf("%+v", n)
	}
	first, second := n.Proxies[0], n.Proxies[1]
	if first.Addr != proxies(alice[0])[0] || first.Real != addr("10.0.0.7") || first.Pending != addr("10.0.0.8") || first.HeldBy == nil || first.HeldBy.ClientPort != 5000 {
		t.Errorf("%+v", first)
	}
	if second.Real != addr("10.0.0.8") || second.HeldBy != nil || second.Waiting {
		t.Errorf("%+v", second)
	}
	for _, row := range []struct {
		q                                  Query
		resources, clients, matched, shown int
	}{
		{Query{Limit: 100, Name: "wiki"}, 1, 2, 2, 2},
		{Query{Limit: 100, Name: "wiki", Client: "bob"}, 1, 1, 1, 1},
		{Query{Limit: 100, Name: "10.9."}, 1, 1, 0, 0},
		{Query{Limit: 1}, 2, 3, 2, 1},
		{Query{Limit: 100, Client: "nobody"}, 0, 0, 0, 0},
	} {
		r := o.Resources(row.q)
		clients := 0
		for _, res := range r.Resources {
			clients += len(res.Clients)
		}
		if len(r.Resources) != row.resources || clients != row.clients || r.Matched != row.matched || r.Shown != row.shown {
			t.Errorf("%+v: %+v", row.q, r)
		}
	}
	if same := sortedSet([]id.Resource{{2}, {1}, {2}}, id.Resource.Compare); len(same) != 2 {
		t.Errorf("%v", same)
	}
}
