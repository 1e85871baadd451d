package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

func parseObject(b []byte) *object {
	o := &object{}
	o.err = o.parse(b)
	return o
}

// parse keeps the members in order and so sees duplicates, which a map would
// swallow and stock peers refuse.
func (o *object) parse(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	open, err := dec.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if open != json.Delim('{') {
		return errors.New("not an object")
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var m member
		m.name, _ = name.(string)
		if err := dec.Decode(&m.value); err != nil {
			return err
		}
		if len(o.members) == maxMembers {
			return errors.New("too many fields")
		}
		o.members = append(o.members, m)
	}
	return end(dec)
}

// end consumes the closing delimiter and refuses anything behind it.
func end(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
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

// eachElement calls f for each element of the list v.
func eachElement(v json.RawMessage, f func(json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(v))
	open, err := dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('[') {
		return errors.New("is not a list")
	}
	for n := 0; dec.More(); n++ {
		if n == maxList {
			return fmt.Errorf("has more than %d elements", maxList)
		}
		var element json.RawMessage
		if err := dec.Decode(&element); err != nil {
			return err
		}
		if err := f(element); err != nil {
			return fmt.Errorf("element %d: %w", n, err)
		}
	}
	return end(dec)
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
