package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Bounds on what is read. The largest legitimate frame, an init with some ten
// thousand resources, stays far below each.
const (
	// MaxFrame is the largest WebSocket message in bytes.
	MaxFrame = 8 << 20
	// maxDepth is how deep JSON may nest; the deepest message has five levels.
	maxDepth = 32
	// maxList and maxMembers bound what one list and one object may hold: a
	// frame of nothing but commas must not become a hundred megabytes of slices.
	maxList    = 1 << 16
	maxMembers = 1 << 10
)

var (
	errNull    = errors.New("is null")
	errMissing = errors.New("is missing")
	errTwice   = errors.New("is given twice")
)

// An object is one JSON object on its way in. The first error sticks, so that
// the reader of a message states all its fields and then asks once.
type object struct {
	members []member
	err     error
}

type member struct {
	name  string
	value json.RawMessage
}

// parseObject splits the object b, which must be valid JSON. Members are kept
// in order, and duplicates seen, which a map would swallow and stock peers
// refuse. Values alias b.
func parseObject(b []byte) *object {
	o := &object{}
	i := skipSpace(b, 0)
	if i == len(b) || b[i] != '{' {
		o.err = errors.New("not an object")
		return o
	}
	for i = skipSpace(b, i+1); i < len(b) && b[i] != '}'; {
		end := valueEnd(b, i)
		m := member{name: unquote(b[i:end])}
		i = skipSpace(b, skipSpace(b, end)+1) // past the colon
		end = valueEnd(b, i)
		m.value = b[i:end:end]
		if len(o.members) == maxMembers {
			o.err = errors.New("too many fields")
			return o
		}
		o.members = append(o.members, m)
		i = next(b, end)
	}
	return o
}

// next skips the comma behind a member or element that ends at i.
func next(b []byte, i int) int {
	if i = skipSpace(b, i); i < len(b) && b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	return i
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return min(i, len(b))
}

// valueEnd returns where the value that begins at i ends, in valid JSON.
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ' ', '\n', '\t', '\r', ':':
			if depth == 0 {
				return i // behind a number or a word
			}
			continue
		default:
			if depth > 0 || i+1 < len(b) && b[i+1] != '}' && b[i+1] != ']' {
				continue
			}
		}
		if depth == 0 {
			return min(i+1, len(b))
		}
	}
	return len(b)
}

// unquote is the text of a JSON string.
func unquote(quoted []byte) string {
	if len(quoted) >= 2 && bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted) {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	json.Unmarshal(quoted, &s)
	return s
}

// find returns the value of the field that has one of names; nil if there is
// none. Two of them, or one twice, are an error.
func (o *object) find(names ...string) json.RawMessage {
	var found json.RawMessage
	for _, m := range o.members {
		for _, name := range names {
			if m.name != name {
				continue
			}
			if found != nil {
				o.fail(names[0], errTwice)
			}
			found = m.value
		}
	}
	return found
}

func (o *object) fail(name string, err error) {
	if o.err == nil && err != nil {
		o.err = fmt.Errorf("%q %w", name, err)
	}
}

// need reads a required field into dst, a pointer, under any of its names.
func (o *object) need(dst any, names ...string) {
	if v := o.find(names...); v != nil {
		o.fail(names[0], decode(v, dst))
	} else {
		o.fail(names[0], errMissing)
	}
}

// may reads a field that can be absent but not null.
func (o *object) may(dst any, names ...string) {
	if v := o.find(names...); v != nil {
		o.fail(names[0], decode(v, dst))
	}
}

// nullable reads a field that can be absent or null.
func (o *object) nullable(dst any, names ...string) {
	if v := o.find(names...); v != nil && !isNull(v) {
		o.fail(names[0], decode(v, dst))
	}
}

// needObject reads a required object with read.
func (o *object) needObject(name string, read func(*object)) {
	v := o.find(name)
	if v == nil {
		o.fail(name, errMissing)
		return
	}
	o.fail(name, readObject(v, read))
}

// readMessage reads an object that comes from outside: nothing is known of b.
func readMessage(b []byte, read func(*object)) error {
	if !json.Valid(b) {
		return errors.New("not JSON")
	}
	return readObject(b, read)
}

func readObject(b []byte, read func(*object)) error {
	o := parseObject(b)
	if o.err == nil {
		read(o)
	}
	return o.err
}

func isNull(v json.RawMessage) bool { return string(v) == "null" }

// decode is json.Unmarshal without its tolerance of null.
func decode(v json.RawMessage, dst any) error {
	if isNull(v) {
		return errNull
	}
	if err := json.Unmarshal(v, dst); err != nil {
		return fmt.Errorf("is wrong: %w", err)
	}
	return nil
}

// eachElement calls f for each element of the list v, which is valid JSON.
func eachElement(v json.RawMessage, f func(json.RawMessage) error) error {
	if v[0] != '[' {
		return errors.New("is not a list")
	}
	n := 0
	for i := skipSpace(v, 1); i < len(v) && v[i] != ']'; n++ {
		if n == maxList {
			return fmt.Errorf("has more than %d elements", maxList)
		}
		end := valueEnd(v, i)
		if err := f(v[i:end:end]); err != nil {
			return fmt.Errorf("element %d: %w", n, err)
		}
		i = next(v, end)
	}
	return nil
}

// needList reads a required list of values, each by json.Unmarshal.
func needList[E any](o *object, names ...string) []E { return listOf[E](o, true, names) }

// mayList is needList for a field that can be absent.
func mayList[E any](o *object, names ...string) []E { return listOf[E](o, false, names) }

func listOf[E any](o *object, required bool, names []string) []E {
	var list []E
	o.list(required, func(v json.RawMessage) error {
		var e E
		err := decode(v, &e)
		list = append(list, e)
		return err
	}, names)
	return list
}

// objects reads a list of objects, each with read.
func objects[E any](o *object, required bool, read func(*E, *object), names ...string) []E {
	var list []E
	o.list(required, func(v json.RawMessage) error {
		var e E
		err := readObject(v, func(o *object) { read(&e, o) })
		list = append(list, e)
		return err
	}, names)
	return list
}

func (o *object) list(required bool, each func(json.RawMessage) error, names []string) {
	v := o.find(names...)
	switch {
	case v != nil:
		o.fail(names[0], eachElement(v, each))
	case required:
		o.fail(names[0], errMissing)
	}
}

// strings of a list; elements that are no strings are skipped (candidates, 3.8).
func (o *object) lenientStrings(name string) []string {
	var list []string
	o.list(true, func(v json.RawMessage) error {
		var s string
		if decode(v, &s) == nil {
			list = append(list, s)
		}
		return nil
	}, []string{name})
	return list
}

// A writer builds JSON on its way out. The first error sticks.
type writer struct {
	b   []byte
	err error
}

// field appends a member whose value is v's JSON.
func (w *writer) field(name string, v any) {
	w.key(name)
	w.value(v)
}

// key starts a member.
func (w *writer) key(name string) {
	w.comma()
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

// comma separates members and elements: whatever does not follow an opening
// bracket or a key needs one.
func (w *writer) comma() {
	if n := len(w.b); n > 0 && w.b[n-1] != '{' && w.b[n-1] != '[' && w.b[n-1] != ':' {
		w.b = append(w.b, ',')
	}
}

func (w *writer) value(v any) {
	buf := bytes.NewBuffer(w.b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil && w.err == nil {
		w.err = err
	}
	w.b = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// object appends an object whose members write appends.
func (w *writer) object(write func()) {
	w.b = append(w.b, '{')
	write()
	w.b = append(w.b, '}')
}

// list appends a member that is a list; a nil list is "[]".
func writeList[E any](w *writer, name string, list []E, element func(E)) {
	w.key(name)
	w.b = append(w.b, '[')
	for _, e := range list {
		w.comma()
		element(e)
	}
	w.b = append(w.b, ']')
}

// values is writeList for elements that encoding/json knows.
func values[E any](w *writer, name string, list []E) {
	writeList(w, name, list, func(e E) { w.value(e) })
}
