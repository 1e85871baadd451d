package nat

import (
	"unsafe"

	"stile/platform/prefetch"
	"stile/tunnel/packet"
)

// A Look is where the session of a packet will be searched. Whoever has many
// packets at hand looks at all, then prefetches all, and only then translates one
// after another: so the processor waits for the memory of many sessions at once,
// not for one after another. It is a hint: nothing depends on it, and the table
// may change meanwhile. The zero Look is of no packet.
type Look struct {
	rows *rows
	in   *index
	hash uint32
}

// IsZero reports whether there is nothing to prefetch.
func (l Look) IsZero() bool { return l.in == nil }

// worthLook is how many sessions a table must have: fewer are in the cache of a
// processor that has anything to do with them.
const worthLook = 128

// LookOut looks at a packet that Out or OutFor will be given.
func (t *Table) LookOut(p packet.Packet) Look {
	if t.Len() < worthLook {
		return Look{}
	}
	k, _, _ := t.outboundKey(p)
	return Look{&t.rows, &t.inside, t.hasher.hash(k)}
}

// LookIn looks at a packet that Match will be given.
func (t *Table) LookIn(p packet.Packet) Look {
	if t.Len() < worthLook {
		return Look{}
	}
	k, _, _ := t.inboundKey(p)
	return Look{&t.rows, &t.outside, t.hasher.hash(k)}
}

// Prefetch has sessions brought near: first where the indexes lead to them, then
// what is probably them. Each time all are asked for in one go, with nothing
// between: the processor then waits for as many as it can at a time.
func Prefetch(looks []Look) {
	var lines [64]unsafe.Pointer
	for len(looks) > 0 {
		some := looks[:min(len(looks), len(lines)/2)]
		looks = looks[len(some):]
		n := 0
		for _, l := range some {
			if !l.IsZero() {
				lines[n] = l.in.home(l.hash)
				n++
			}
		}
		prefetch.Lines(lines[:n])
		n = 0
		for _, l := range some {
			if s := l.session(); s != nil {
				lines[n], lines[n+1] = unsafe.Pointer(s), unsafe.Pointer(&s.sent)
				n += 2
			}
		}
		prefetch.Lines(lines[:n])
	}
}

// session is probably the one: the first whose key has the hash. Its memory is
// not touched.
func (l Look) session() *Session {
	if l.IsZero() {
		return nil
	}
	r := l.in.first(l.hash)
	if r == 0 {
		return nil
	}
	return l.rows.at(r)
}
