package flight

import (
	"encoding/json"
	"strconv"
)

// A line is the text of a record, or a part of one.
type line []byte

// text appends a field.
func (l *line) text(key, value string) {
	quoted, _ := json.Marshal(value) // a string can always be
	l.key(key)
	*l = append(*l, quoted...)
}

func (l *line) number(key string, n int) {
	l.key(key)
	*l = strconv.AppendInt(*l, int64(n), 10)
}

func (l *line) bool(key string, is bool) {
	l.key(key)
	*l = strconv.AppendBool(*l, is)
}

func (l *line) key(key string) {
	*l = append(append(append(*l, `,"`...), key...), `":`...)
}
