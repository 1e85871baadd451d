package support

import (
	"bytes"
	"strings"
)

// A redactor makes text fit for strangers. It replaces secrets by what they
// are, always, and names of people, hosts and things, and addresses, by
// pseudonyms, unless it is to keep them. Whatever looks like one of these is
// one: better a word too much than a name.
//
// It goes from word to word. What stands for a word that was seen before is
// remembered, because logs repeat themselves and a support file has a hundred
// megabytes of them; only what depends on the words around it is looked at anew.
type redactor struct {
	*pseudonyms
	keep bool // names and addresses

	memo    [forms]map[string]*study
	recent  [forms][]*study // some of memo, by the slot of the word
	learned int             // how much was learned when memo was begun
	scratch []byte
}

func newRedactor(keep bool) *redactor {
	r := &redactor{pseudonyms: newPseudonyms(), keep: keep}
	r.forget()
	return r
}

// A form says how a text is to be read.
type form uint8

const (
	text  form = iota
	jsons      // JSON, or a line of it each: a backslash escapes
	code       // stack traces: package paths are no host names
	forms
)

// A study is what is known of a word by itself.
type study struct {
	word string
	out  string // what stands for it, if nothing around it says otherwise
	field
	url        bool // it has a scheme, and what follows may have a password
	contextual bool // it may be the beginning of a name of several words
}

const (
	memoWords = 1 << 16 // that are remembered; then all is forgotten
	memoBytes = 100     // longer words are seldom seen twice
	longWord  = 1 << 10 // a longer one is no word of ours, and would take long
)

// redact appends b in another form to dst. b holds whole lines.
func (r *redactor) redact(dst, b []byte, f form) []byte {
	for i := 0; i < len(b); {
		if r.learned != r.version {
			r.forget()
		}
		if n := gap(b, i, f); n > 0 {
			if b[i] == 0xe2 && !r.keep {
				if name, whole := quotation(b[i:]); whole > 0 && (f != jsons || unbroken(name)) {
					dst, i = r.quoted(dst, b[i:i+whole], name), i+whole
					continue
				}
			}
			dst = append(dst, b[i:i+n]...)
			i += n
			continue
		}
		j := wordEnd(b, i)
		if isDigit(b[i]) { // most of these are seen once: remembering them would not help
			if isTime(b[i:j]) || j-i < 19 && isNumber(b[i:j]) {
				dst = append(dst, b[i:j]...)
				i = j
				continue
			}
			if !r.keep {
				if out, n := r.ip4(dst, b[i:j], 0); n > 0 && (n == j-i || b[i+n] == ':' && isNumber(b[i+n+1:j])) {
					dst = append(out, b[i+n:j]...)
					i = j
					continue
				}
			}
		}
		if j-i < shortest && !r.begins[lowered(b[i])] && isHexNumber(b[i:j]) {
			dst = append(dst, b[i:j]...)
			i = j
			continue
		}
		if j-i > longWord {
			dst = append(dst, "[long]"...)
			i = j
			continue
		}
		if bytes.HasSuffix(b[i:j], beginPEM) {
			dst, _, _ = r.word(dst, b, i, j-len(beginPEM), f)
			dst = append(dst, "[key]"...)
			i = endOfPEM(b, j, f)
			continue
		}
		dst, i = r.inContext(dst, b, i, j, f, r.look(b, i, j, f))
	}
	return dst
}

const slots = 1 << 12

// slot is where a word is among the recent ones.
func slot(w []byte) int {
	h := uint32(len(w))*0x9e3779b1 ^ uint32(w[0]) ^ uint32(w[len(w)/2])<<8 ^ uint32(w[len(w)-1])<<16
	return int(h * 0x85ebca6b >> (32 - 12))
}

func (r *redactor) forget() {
	for f := range forms {
		r.memo[f], r.recent[f] = map[string]*study{}, make([]*study, slots)
	}
	r.learned = r.version
}

// look returns what is known of the word b[i:j], and remembers it. The table of
// recent words is there because a map takes as long as all the rest.
func (r *redactor) look(b []byte, i, j int, f form) *study {
	if i > 0 && b[i-1] == '\\' || j-i > memoBytes {
		return r.study(b, i, j, f)
	}
	at := slot(b[i:j])
	if s := r.recent[f][at]; s != nil && s.word == string(b[i:j]) {
		return s
	}
	s := r.memo[f][string(b[i:j])]
	if s == nil {
		s = r.study(b, i, j, f)
		s.word = string(b[i:j])
		if len(r.memo[f]) >= memoWords {
			clear(r.memo[f])
		}
		r.memo[f][s.word] = s
	}
	r.recent[f][at] = s
	return s
}

// study looks at the word b[i:j].
func (r *redactor) study(b []byte, i, j int, f form) *study {
	s := &study{field: fieldOf(b[i:j])}
	if isEscaped(b, i) && s.class == nothing && i+1 < j {
		if s.field = fieldOf(b[i+1 : j]); s.delim > 0 {
			s.delim++
		}
	}
	s.url = bytes.Index(b[i:j], []byte("://")) > 0
	r.scratch, _, s.contextual = r.word(r.scratch[:0], b, i, j, f)
	s.out = string(r.scratch)
	return s
}

// isEscaped reports whether the word that begins at b[i] may begin with the rest of
// an escape: "\\nalice" may be a path, or JSON in JSON.
func isEscaped(b []byte, i int) bool {
	return i > 0 && b[i-1] == '\\' && (b[i] == 'n' || b[i] == 'r' || b[i] == 't')
}

// inContext appends what stands for the word b[i:j] where it stands, and returns
// what comes after it.
func (r *redactor) inContext(dst, b []byte, i, j int, f form, s *study) ([]byte, int) {
	if s.class != nothing && (s.class == secret || !r.keep) {
		if out, next := r.fieldValue(dst, b, i, j, f, s.field); next > 0 {
			return out, next
		}
	}
	if out, next := r.parameter(dst, b, i, j, f); next > 0 {
		return out, next
	}
	switch {
	case s.scheme:
		if end := credentials(b, i, j); end > 0 {
			return append(append(dst, b[i:j+1]...), "[secret]"...), end
		}
	case s.url:
		return r.url(dst, b, i, j, f)
	case r.keep:
	case b[max(i-1, 0)] == '\\' && j < len(b) && b[j] == '\\':
		if out, next := r.backslashed(dst, b, i, j, f); next > 0 {
			return out, next
		}
	case s.asks:
		out, next := r.say(dst, b, i, j, f, s)
		if end := singleLabel(b, j, lowered(b[i]) != 'l'); next == j && end > 0 && !plain[strings.ToLower(string(b[j+1:end]))] {
			return append(append(out, ' '), r.of(aLabel, string(b[j+1:end]))...), end
		}
		return out, next
	}
	return r.say(dst, b, i, j, f, s)
}

// say appends what stands for the word b[i:j], or for the words that it is the
// first of.
func (r *redactor) say(dst, b []byte, i, j int, f form, s *study) ([]byte, int) {
	if s.contextual {
		out, next, _ := r.word(dst, b, i, j, f)
		return out, next
	}
	return append(dst, s.out...), j
}

// A byte is part of a word, or not, or that depends on those after it.
const (
	inWord = iota
	between
	perhaps // the first byte of a punctuation mark beyond ASCII, or of a letter
)

var kinds [256]uint8

func init() {
	for c := range 256 {
		switch {
		case c <= ' ' || c == 0x7f, strings.IndexByte("\"'`,;<>(){}[]|\\^!#$&?", byte(c)) >= 0:
			kinds[c] = between
		case c == 0xc2 || c == 0xe2:
			kinds[c] = perhaps
		}
	}
}

// gap returns how many bytes at b[i] are of no word: an escape of JSON is one.
func gap(b []byte, i int, f form) int {
	switch kinds[b[i]] {
	case inWord:
		return 0
	case perhaps:
		return mark(b, i)
	}
	if b[i] == '\\' && f == jsons {
		if i+1 < len(b) && b[i+1] == 'u' {
			return min(6, len(b)-i)
		}
		if n := i + 7; n <= len(b) && b[i+1] == '\\' && string(b[i+2:i+5]) == "u00" && allHex(b[i+5:n]) {
			return 7 // an escape of JSON in JSON
		}
		return min(2, len(b)-i)
	}
	return 1
}

// mark returns the length of a punctuation mark, arrow or white space in UTF-8 at
// b[i]: U+00A0 to U+00BF, U+2000 to U+206F, U+2190 to U+21FF.
func mark(b []byte, i int) int {
	if b[i] == 0xc2 && i+1 < len(b) && b[i+1] >= 0xa0 && b[i+1] <= 0xbf {
		return 2
	}
	if b[i] == 0xe2 && i+2 < len(b) {
		switch b[i+1] {
		case 0x80, 0x81, 0x86, 0x87:
			return 3
		}
	}
	return 0
}

// wordEnd returns where the word that begins at b[i] ends.
func wordEnd(b []byte, i int) int {
	for i < len(b) && (kinds[b[i]] == inWord || kinds[b[i]] == perhaps && mark(b, i) == 0) {
		i++
	}
	return i
}

// quotation reads “name” or „name“, in which our sentences put names.
func quotation(b []byte) (name []byte, whole int) {
	var end string
	switch {
	case bytes.HasPrefix(b, []byte("“")):
		end = "”"
	case bytes.HasPrefix(b, []byte("„")):
		end = "“"
	default:
		return nil, 0
	}
	n := bytes.Index(b[:min(len(b), 400)], []byte(end))
	if n < 0 || n == len(end) || bytes.IndexByte(b[:n], '\n') >= 0 {
		return nil, 0
	}
	return b[len(end):n], n + len(end) // all three marks have three bytes
}

// quoted appends a quotation with another name in it.
func (r *redactor) quoted(dst, whole, name []byte) []byte {
	dst = append(dst, whole[:3]...)
	if isWhole(name) {
		dst, _, _ = r.word(dst, name, 0, len(name), text)
	} else if known := r.exact(string(name)); known != "" {
		dst = append(dst, known...)
	} else {
		dst = append(dst, r.of(aResource, string(name))...)
	}
	return append(dst, whole[len(whole)-3:]...)
}

// isTime reports whether w is a time of day with its date: every line has one, and
// no two are alike.
func isTime(w []byte) bool {
	if len(w) < 19 || w[4] != '-' || w[7] != '-' || w[10] != 'T' || w[13] != ':' || w[16] != ':' {
		return false
	}
	for i, c := range w {
		if !isDigit(c) && i != 4 && i != 7 && i != 10 && i != 13 && i != 16 && c != '.' && c != 'Z' && c != '+' && c != ':' && c != '-' {
			return false
		}
	}
	return len(w) < 36
}

// isHexNumber reports whether w may be a hexadecimal number, and is no word.
func isHexNumber(w []byte) bool {
	digits := false
	for _, c := range w {
		if !isHex(c) {
			return false
		}
		digits = digits || isDigit(c)
	}
	return digits
}

func isNumber(w []byte) bool {
	for _, c := range w {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

var beginPEM, endPEM = []byte("-----BEGIN"), []byte("-----END")

// endOfPEM returns where a block ends that begins before b[i], or what is there of
// it.
func endOfPEM(b []byte, i int, f form) int {
	limit := stringEnd(b, i, f)
	if f != jsons {
		limit = len(b)
	}
	if end := bytes.Index(b[i:limit], endPEM); end >= 0 {
		end += i + len(endPEM)
		if dashes := bytes.Index(b[end:limit], []byte("-----")); dashes >= 0 {
			return end + dashes + len("-----")
		}
	}
	return stringEnd(b, i, f)
}

// credentials returns where what follows an authentication scheme ends, such as
// "Bearer abc" and "Basic YWxpY2U6cHc="; 0: nothing does.
func credentials(b []byte, i, j int) int {
	if j+1 >= len(b) || b[j] != ' ' || bytes.HasPrefix(b[j+1:], beginPEM) {
		return 0
	}
	end := solid(b, j+1)
	for end > j+1 && (b[end-1] == ',' || b[end-1] == '\'') {
		end--
	}
	n := end - j - 1
	if n >= 16 || n > 0 && len(b[i:j]) == len("bearer") {
		return end
	}
	return 0
}

// singleLabel returns where a name without dots ends that follows at b[j] after a
// space, perhaps only with a port; 0: there is none. Names with dots show what they
// are by themselves.
func singleLabel(b []byte, j int, port bool) int {
	if j+1 >= len(b) || b[j] != ' ' {
		return 0
	}
	end, letters := j+1, false
	for end < len(b) && (alphanumeric(b[end]) || b[end] == '-' || b[end] == '_') {
		letters = letters || !isDigit(b[end])
		end++
	}
	switch {
	case !letters, port && (end+1 >= len(b) || b[end] != ':' || !isDigit(b[end+1])):
		return 0
	case end < len(b) && b[end] != ':' && kinds[b[end]] == inWord, bytes.HasPrefix(b[end:], []byte("://")):
		return 0
	}
	return end
}

// backslashed takes care of the component of a Windows path that is a name: the
// user's in C:\Users\NAME, and the server's in \\SERVER\share. b[i:j] is a
// component between backslashes.
func (r *redactor) backslashed(dst, b []byte, i, j int, f form) ([]byte, int) {
	one := 1 // backslashes that are one
	if f == jsons {
		one = 2
	}
	before := 0
	for before < i && b[i-1-before] == '\\' {
		before++
	}
	if before >= 2*one {
		return append(dst, r.of(aLabel, string(b[i:j]))...), j
	}
	if !strings.EqualFold(string(b[i:j]), "users") || j+one >= len(b) || b[j+one-1] != '\\' {
		return nil, 0
	}
	begin := j + one
	first := wordEnd(b, begin)
	end := first
	for end < len(b) && end < begin+64 && (b[end] == ' ' || kinds[b[end]] == inWord && b[end] != ':') {
		end++
	}
	if end == len(b) || b[end] != '\\' { // a name of several words only if the path goes on
		end = first
	}
	if end == begin {
		return nil, 0
	}
	return append(append(dst, b[i:begin]...), r.of(aUser, string(b[begin:end]))...), end
}

// parameter takes care of a parameter in the query of a URL, "?code=abc" and
// "&state=abc": of those nobody knows what they say.
func (r *redactor) parameter(dst, b []byte, i, j int, f form) ([]byte, int) {
	if i == 0 || b[i-1] != '?' && b[i-1] != '&' && !(f == jsons && i >= 6 && string(b[i-6:i]) == `\u0026`) {
		return nil, 0
	}
	at := bytes.IndexByte(b[i:j], '=')
	if at <= 0 || j-i-at-1 < 6 || isNumber(b[i+at+1:j]) {
		return nil, 0
	}
	if r.keep && !oneTime[string(lower(nil, b[i:i+at]))] {
		return nil, 0
	}
	return append(append(dst, b[i:i+at+1]...), "[secret]"...), j
}

// oneTime are parameters that are secrets though their names are everyday words.
var oneTime = map[string]bool{"code": true, "state": true, "sig": true, "signature": true, "key": true, "auth": true, "ticket": true, "fragment": true}

// url appends a URL without who asks, and its host in another form. The scheme is
// in b[i:j]; a password may have bytes that are in no word.
func (r *redactor) url(dst, b []byte, i, j int, f form) ([]byte, int) {
	begin := i + bytes.Index(b[i:j], []byte("://")) + 3
	scheme := b[i : begin-3]
	for k := len(scheme); k > 0; k-- { // what is before the scheme is a word of its own
		if !alphanumeric(scheme[k-1]) && scheme[k-1] != '+' {
			dst, _, _ = r.word(dst, b, i, i+k, f)
			scheme = scheme[k:]
			break
		}
	}
	dst = append(append(dst, scheme...), "://"...)
	stop := min(solid(b, begin), begin+512) // of the part with user and host
	for k := begin; k < stop; k++ {
		if slash := b[k] == '/' || b[k] == '?'; slash && !password(b[begin:k], b[k:stop]) || kinds[b[k]] == perhaps && mark(b, k) > 0 {
			stop = k
		}
	}
	if at := bytes.LastIndexByte(b[begin:stop], '@'); at >= 0 {
		dst = append(dst, "[secret]@"...)
		begin += at + 1
	}
	j = wordEnd(b, begin)
	end := begin
	for end < j && b[end] != '/' && b[end] != ':' {
		end++
	}
	host := b[begin:end]
	if _, ours := schemes[string(lower(nil, scheme))]; len(host) == 0 || r.keep || ours || plain[string(lower(nil, host))] || isWhole(host) {
		end = begin
	} else if known := r.exact(string(host)); known != "" {
		dst = append(dst, known...)
	} else if isNumber(host) || end < j && b[end] == ':' && !ports(b[end+1:j]) { // an IPv6 address without brackets
		end = begin
	} else {
		dst = append(dst, r.of(aLabel, string(host))...)
	}
	dst, next, _ := r.word(dst, b, end, j, f)
	return dst, next
}

// password reports whether a part of a URL before a slash has the beginning of a
// password, and no port: "alice:pa" of https://alice:pa/ss@host, which should not
// have a slash there.
func password(before, after []byte) bool {
	colon := bytes.IndexByte(before, ':')
	return colon >= 0 && !isNumber(before[colon+1:]) && bytes.IndexByte(after, '@') >= 0
}

// schemes are those of URLs whose first part is no host.
var schemes = map[string]bool{"unix": true, "file": true, "stile": true}

// ports reports whether w begins with a port number and nothing that an address
// could go on with.
func ports(w []byte) bool {
	n := 0
	for n < len(w) && isDigit(w[n]) {
		n++
	}
	return n > 0 && (n == len(w) || w[n] == '/')
}
