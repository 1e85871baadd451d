package config

import (
	"crypto/sha256"

	"stile/tunnel/id"
)

// derive makes the UUID of what is called name: SHA-256 over the account's ID,
// the kind and the name, each with a length in front, cut to 16 bytes and
// marked as version 8, which is what RFC 9562 §5.8 has for such inventions.
func derive[I uuid](account id.Account, kind, name string) I {
	h := sha256.New()
	for _, part := range []string{string(account[:]), kind, name} {
		h.Write([]byte{byte(len(part) >> 8), byte(len(part))})
		h.Write([]byte(part))
	}
	u := [16]byte(h.Sum(nil))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return I(u)
}

// A uuid is any of package id's types.
type uuid interface {
	~[16]byte
	comparable
}

// names maps the names of one kind to IDs and finds what is used twice.
type names[I uuid] struct {
	kind string
	ids  map[string]I
	at   map[string]int // name → line
	used map[I]int
}

func newNames[I uuid](kind string) *names[I] {
	return &names[I]{kind, map[string]I{}, map[string]int{}, map[I]int{}}
}

// add registers name; explicit is the ID from the file, or zero. It returns
// the ID and whether all is well.
func (s *names[I]) add(r *reader, n *node, account id.Account, name string, explicit I) (I, bool) {
	if line, taken := s.at[name]; taken {
		r.fail(n, "the "+s.kind+" "+quote(name)+" stands in line "+itoa(line)+" already", "give it another name")
		return explicit, false
	}
	u := explicit
	if u == *new(I) {
		u = derive[I](account, s.kind, name)
	}
	if line, taken := s.used[u]; taken {
		r.fail(n, "the id is that of the "+s.kind+" in line "+itoa(line), "remove one of the two")
		return u, false
	}
	s.ids[name], s.at[name], s.used[u] = u, n.Line, n.Line
	return u, true
}

// find returns the ID of a name that is used at n.
func (s *names[I]) find(r *reader, n *node, name string) (I, bool) {
	u, ok := s.ids[name]
	if !ok {
		help := "add it to " + s.kind + "s"
		if near := s.near(name); near != "" {
			help = "did you mean " + quote(near) + "?"
		}
		r.fail(n, "there is no "+s.kind+" "+quote(name), help)
	}
	return u, ok
}

// near looks for a name that differs by a slip, in short lists only.
func (s *names[I]) near(name string) string {
	best, distance := "", 3
	if len(s.at) > 1000 {
		return ""
	}
	for candidate, line := range s.at {
		d := editDistance(name, candidate)
		if d < distance || d == distance && best != "" && line < s.at[best] {
			best, distance = candidate, d
		}
	}
	return best
}
