package nat

import (
	"unsafe"

	"stile/platform/prefetch"
	"stile/tunnel/packet"
)

// A Look is where the session of a packet will be searched. Whoever has many
// packets at hand looks at all, then fetches all, and only then translates one
// after another: so the processor waits for the memory of many sessions at once,
// not for one after another. It is a hint: nothing depends on it, and the table
// may change meanwhile. The zero Look is of no packet.
type Look struct {
	table    *Table
	hash     uint32
	incoming bool
}

// IsZero reports whether there is nothing to fetch.
func (l Look) IsZero() bool { return l.table == nil }

// worthLook is how many sessions a table must have: fewer are in the cache of a
// processor that has anything to do with them.
const worthLook = 128

// LookOut looks at a packet that Out or OutFor will be given.
func (t *Table) LookOut(p packet.Packet) Look {
	if t.Len() < worthLook {
		return Look{}
	}
	k, _, _ := t.outboundKey(p)
	return t.look(&t.inside, &k, false)
}

// LookIn looks at a packet that Match will be given.
func (t *Table) LookIn(p packet.Packet) Look {
	if t.Len() < worthLook {
		return Look{}
	}
	k, _, _ := t.inboundKey(p)
	return t.look(&t.outside, &k, true)
}

func (t *Table) look(in *index, k *key, incoming bool) Look {
	hash := t.hasher.hash(k)
	in.approach(hash)
	return Look{t, hash, incoming}
}

// Fetch has the session brought near, if there is one.
func (l Look) Fetch() {
	if s := l.session(); s != nil {
		prefetch.Line(unsafe.Pointer(s))
		prefetch.Line(unsafe.Pointer(&s.sent))
	}
}

// session is probably the one: the first whose key has the hash. Its memory is
// not touched.
func (l Look) session() *Session {
	if l.IsZero() {
		return nil
	}
	t := l.table
	in := t.inside.entries
	if l.incoming {
		in = t.outside.entries
	}
	if len(in) == 0 {
		return nil
	}
	mask := uint32(len(in) - 1)
	for i := l.hash & mask; in[i].ref != 0; i = (i + 1) & mask {
		if in[i].hash == l.hash {
			return t.rows.at(in[i].ref)
		}
	}
	return nil
}
