package operator

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"stile/tunnel/gateway"
	"stile/tunnel/id"
)

const (
	// DefaultLimit is how many sessions, or names, are shown unless told.
	DefaultLimit = 100
	// MaxLimit is how many may be: all of them are in memory for a moment.
	MaxLimit = 100_000
)

// A Query says what to show. The zero Query, but for its Limit, is everything.
type Query struct {
	Client string // a client's ID or its beginning, tunnel address, or part of its actor's name
	Name   string // part of a name or resource's name; with * or ?, all of it
	State  string // of sessions
	Limit  int
}

// Status looks at everything but single sessions.
func (o *Operator) Status() Status {
	s := Status{Version: version(), StartedAt: o.startedAt, FlowLogs: []FlowLog{}, Unreadable: map[string]uint64{}}
	o.inspect(func(c *gateway.Core, m gateway.Moment) {
		s.Summary = c.Summary()
		s.Time = m.Wall.UTC().Truncate(time.Millisecond)
	})
	s.Clients = o.clients()
	t := o.c.Engine.Traffic()
	s.Carried = Carried{t.PacketsIn, t.BytesIn, t.PacketsOut, t.BytesOut}
	for _, c := range o.c.Engine.Counters() {
		s.Unreadable[strings.TrimPrefix(c.Name, "engine ")] = c.Value
	}
	for _, l := range o.c.FlowLogs {
		// What the gateway could not hand on, no log has.
		s.FlowLogs = append(s.FlowLogs, FlowLog{l.Name(), l.Written(), l.Lost() + s.LostFlows, l.Waiting()})
	}
	if o.c.Conntrack != nil {
		if tracked, err := o.c.Conntrack(); err == nil {
			s.Tracked = tracked
		} else {
			o.c.Log.Debug("connection tracking cannot be read", "error", err)
		}
	}
	return s
}

// clients looks at one client after the other.
func (o *Operator) clients() []gateway.Client {
	var ids []id.Client
	o.inspect(func(c *gateway.Core, _ gateway.Moment) { ids = c.Clients(nil) })
	list := make([]gateway.Client, 0, len(ids))
	for _, who := range ids {
		o.inspect(func(c *gateway.Core, m gateway.Moment) {
			if v, ok := c.Client(who, m); ok {
				list = append(list, v)
			}
		})
	}
	slices.SortFunc(list, func(a, b gateway.Client) int {
		return cmp.Or(a.IPv4.Compare(b.IPv4), a.ID.Compare(b.ID))
	})
	return list
}

// matchClient reports whether the query means a client.
func (q *Query) matchClient(v *gateway.Client) bool {
	if q.Client == "" {
		return true
	}
	if a, err := netip.ParseAddr(q.Client); err == nil {
		return a == v.IPv4 || a == v.IPv6
	}
	text := strings.ToLower(q.Client)
	return strings.HasPrefix(v.ID.String(), text) || strings.Contains(strings.ToLower(v.Actor), text)
}

// matchName reports whether the query means one of names.
func (q *Query) matchName(names ...string) bool {
	if q.Name == "" {
		return true
	}
	pattern := strings.ToLower(q.Name)
	for _, name := range names {
		name = strings.ToLower(name)
		if strings.ContainsAny(pattern, "*?") {
			if ok, err := path.Match(pattern, name); ok && err == nil {
				return true
			}
		} else if strings.Contains(name, pattern) {
			return true
		}
	}
	return false
}

// Sessions are those that a query means, the latest packet first.
type Sessions struct {
	Time     time.Time         `json:"time"`     // of the answer
	Total    int               `json:"total"`    // that were looked at
	Matched  int               `json:"matched"`  // of them
	Sessions []gateway.Session `json:"sessions"` // of them, no more than the limit
}

// Sessions looks at sessions page by page.
func (o *Operator) Sessions(q Query) Sessions {
	s := Sessions{Time: time.Now().UTC().Truncate(time.Millisecond)}
	best := latest{limit: q.Limit}
	var page []gateway.Session
	for _, k := range o.clients() {
		if !q.matchClient(&k) {
			continue
		}
		for cursor := uint32(0); ; {
			o.inspect(func(c *gateway.Core, m gateway.Moment) { page, cursor = c.SessionsOf(page[:0], k.ID, cursor, m) })
			for i := range page {
				s.Total++
				if f := &page[i]; (q.State == "" || q.State == f.State) && q.matchName(f.Name, f.ResourceAs) {
					s.Matched++
					best.add(f)
				}
			}
			if cursor == 0 {
				break
			}
		}
	}
	s.Sessions = best.sorted()
	return s
}

// latest keeps the sessions with the latest packets, no more than limit. Twice
// as many are collected before the older half goes.
type latest struct {
	limit int
	list  []gateway.Session
}

func (l *latest) add(s *gateway.Session) {
	if l.list = append(l.list, *s); len(l.list) >= 2*l.limit {
		l.list = l.sorted()
	}
}

func (l *latest) sorted() []gateway.Session {
	slices.SortFunc(l.list, func(a, b gateway.Session) int {
		return cmp.Or(b.LastAt.Compare(a.LastAt), a.ClientIP.Compare(b.ClientIP), cmp.Compare(a.ClientPort, b.ClientPort), a.Real.Compare(b.Real), cmp.Compare(a.Port, b.Port))
	})
	if l.list == nil {
		return []gateway.Session{}
	}
	return l.list[:min(len(l.list), l.limit)]
}
