package support

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// A redactor makes text fit for strangers. It replaces secrets by what they
// are, always, and names of people, hosts and things, and addresses, by
// pseudonyms, unless it is to keep them. Whatever looks like one of these is
// one: better a word too much than a name.
//
// It works line by line and looks at each word once, because a support file is
// a hundred megabytes.
type redactor struct {
	*pseudonyms
	keep bool // names and addresses
}

// A form says how a text is to be read.
type form uint8

const (
	text  form = iota
	jsons      // JSON, or a line of it each: a backslash escapes
	code       // stack traces: package paths are no host names
)

// separator tells which bytes no name, address or secret has.
var separator [256]bool

func init() {
	for c := range 256 {
		switch {
		case c <= ' ' || c == 0x7f, strings.IndexByte("\"'`,;<>(){}[]|\\^!#$&?", byte(c)) >= 0:
			separator[c] = true
		}
	}
}

// wordEnd returns where the first word of s ends.
func wordEnd(s string) int {
	n := 0
	for n < len(s) && !separator[s[n]] {
		n++
	}
	return n
}

// redact appends b in another form to dst. b holds whole lines.
func (r *redactor) redact(dst, b []byte, f form) []byte {
	for i := 0; i < len(b); {
		c := b[i]
		if c == '\\' && f == jsons {
			n := 2
			if i+1 < len(b) && b[i+1] == 'u' {
				n = 6
			}
			n = min(n, len(b)-i)
			dst = append(dst, b[i:i+n]...)
			i += n
			continue
		}
		if separator[c] {
			dst = append(dst, c)
			i++
			continue
		}
		if c == 0xe2 && !r.keep { // the quotation marks that our sentences put around names
			if name, whole, is := inQuotes(b[i:]); is {
				dst = append(dst, "“"...)
				dst = append(dst, r.of(aResource, name)...)
				dst = append(dst, "”"...)
				i += whole
				continue
			}
		}
		if c == '-' && bytes.HasPrefix(b[i:], []byte("-----BEGIN ")) {
			dst = append(dst, "[key]"...)
			i += endOfPEM(b[i:])
			continue
		}
		if name, n := r.phraseAt(b, i); n > 0 && !isKey(b, i, i+n) && !inHost(b, i, i+n) {
			dst = append(dst, name...)
			i += n
			continue
		}
		j := i + 1
		for j < len(b) && !separator[b[j]] {
			if joint(b[j-1]) && r.begins[lowered(b[j])] {
				if _, n := r.phraseAt(b, j); n > 0 && !inHost(b, i, j+n) {
					break
				}
			}
			j++
		}
		word := b[i:j]
		if k := class(word); k != nothing {
			if begin, end := value(b, j, f); end > begin && !(k == private && r.keep) && worth(b[begin:end]) {
				dst = append(append(dst, word...), b[j:begin]...)
				dst = r.hide(dst, k, word, b[begin:end])
				i = end
				continue
			}
		}
		if at := bytes.IndexByte(word, '='); at > 0 { // key=value
			if k := class(word[:at]); k != nothing && !(k == private && r.keep) && at+1 < len(word) && worth(word[at+1:]) {
				dst = append(dst, word[:at+1]...)
				dst = r.hide(dst, k, word[:at], word[at+1:])
				i = j
				continue
			}
		}
		if len(word) == 6 && strings.EqualFold(string(word), "bearer") || len(word) == 5 && strings.EqualFold(string(word), "basic") {
			if n := len(word) + 1; j < len(b) && b[j] == ' ' && i+n < len(b) && !separator[b[i+n]] {
				end := i + n + wordEnd(string(b[i+n:min(len(b), i+n+16<<10)]))
				if end-i-n >= 16 || len(word) == 6 {
					dst = append(append(dst, b[i:i+n]...), "[secret]"...)
					i = end
					continue
				}
			}
		}
		dst = r.word(dst, word, f)
		i = j
	}
	return dst
}

// inQuotes reads “name” at the beginning of b.
func inQuotes(b []byte) (name string, whole int, is bool) {
	const open, end = "“", "”"
	if !bytes.HasPrefix(b, []byte(open)) {
		return "", 0, false
	}
	n := bytes.Index(b[:min(len(b), 400)], []byte(end))
	if n < 0 || bytes.IndexByte(b[:n], '\n') >= 0 || n == len(open) {
		return "", 0, false
	}
	return string(b[len(open):n]), n + len(end), true
}

// endOfPEM returns the length of a block, or of what is there of it.
func endOfPEM(b []byte) int {
	if end := bytes.Index(b, []byte("-----END ")); end >= 0 {
		if dashes := bytes.Index(b[end+9:], []byte("-----")); dashes >= 0 {
			return end + 9 + dashes + 5
		}
	}
	if end := bytes.IndexByte(b, '\n'); end >= 0 {
		return end
	}
	return len(b)
}

// phraseAt finds a known phrase at b[i], and returns its pseudonym and length.
func (r *redactor) phraseAt(b []byte, i int) (string, int) {
	if r.keep || i == len(b) {
		return "", 0
	}
	if !r.begins[lowered(b[i])] {
		return "", 0
	}
	var room [maxFirst]byte
	first := room[:0]
	for j := i; j < len(b) && !separator[b[j]] && len(first) < len(room); j++ {
		first = append(first, lowered(b[j]))
	}
	for n := len(first); n > 0; n-- { // "alice" is also found in "alice:" and "alice."
		if n < len(first) && (alphanumeric(first[n]) || first[n] >= 0x80) {
			continue
		}
		for _, p := range r.phrases[string(first[:n])] {
			end := i + len(p.text)
			if end <= len(b) && bytes.EqualFold(b[i:end], []byte(p.text)) && (end == len(b) || !alphanumeric(b[end]) && b[end] < 0x80) {
				return p.pseudonym, len(p.text)
			}
		}
	}
	return "", 0
}

// joint reports whether c may join two words to one.
func joint(c byte) bool { return strings.IndexByte("-_.:/=@%+~*", c) >= 0 }

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// inHost reports whether the word that begins at b[i] is a host's name and goes on
// after b[j].
func inHost(b []byte, i, j int) bool {
	end := i
	for end < len(b) && !separator[b[end]] {
		end++
	}
	return end > j && isHost(bytes.TrimRight(b[i:end], ".:"))
}

// isKey reports whether b[i:j] is the name of a JSON field.
func isKey(b []byte, i, j int) bool {
	return i > 0 && b[i-1] == '"' && j+1 < len(b) && b[j] == '"' && b[j+1] == ':'
}

// What the name of a field says about its value.
type secrecy uint8

const (
	nothing secrecy = iota
	private         // a name
	secret
)

// fields says what is in fields of these names, written without "_", "-" and
// capitals.
var fields = map[string]kind{
	"actor": aUser, "user": aUser, "username": aUser, "email": aUser, "actorname": aUser,
	"account": anAccount, "accountslug": anAccount, "accountname": anAccount,
	"hostname": aDevice, "devicename": aDevice, "deviceid": aDevice, "externalid": aDevice, "serial": aDevice, "ssid": aText,
	"site": aSite, "sitename": aSite, "searchdomain": aDomain,
}

var secrets = []string{"token", "secret", "passw", "psk", "presharedkey", "privatekey", "authorization", "cookie", "nonce", "fragment", "credential", "apikey", "pwd"}

// class tells what a word promises about the value after it, if it is the name
// of a field.
func class(word []byte) secrecy {
	name, ok := field(word)
	if !ok {
		return nothing
	}
	if _, is := fields[string(name)]; is {
		return private
	}
	for _, s := range secrets {
		if bytes.Contains(name, []byte(s)) {
			return secret
		}
	}
	return nothing
}

// field folds the name of a field; most words are not one.
func field(word []byte) (_ []byte, ok bool) {
	if len(word) < 3 || len(word) > 40 {
		return nil, false
	}
	name := make([]byte, 0, 40)
	for _, c := range word {
		switch {
		case 'a' <= c && c <= 'z':
			name = append(name, c)
		case 'A' <= c && c <= 'Z':
			name = append(name, c+'a'-'A')
		case c == '_' || c == '-':
		case c == ':' || c == '.':
			return name, len(name) > 2
		default:
			return nil, false
		}
	}
	return name, len(name) > 2
}

// value finds the value of the field whose name ends at b[j]: after `":`, `":"`,
// `=` or `: `, up to the end of the string, word or list.
func value(b []byte, j int, f form) (begin, end int) {
	k := j
	colon := k > 0 && b[k-1] == ':'
	if k < len(b) && b[k] == '"' && f == jsons {
		k++
		if k >= len(b) || b[k] != ':' {
			return 0, 0
		}
		k++
	} else if !colon {
		return 0, 0
	}
	for k < len(b) && b[k] == ' ' {
		k++
	}
	if k < len(b) && b[k] == '"' {
		k++
		for end = k; end < len(b) && b[end] != '"' && b[end] != '\n'; end++ {
			if b[end] == '\\' {
				end++
			}
		}
		return k, min(end, len(b))
	}
	for end = k; end < len(b) && !separator[b[end]]; end++ {
	}
	if scheme := b[k:end]; end < len(b) && b[end] == ' ' && (bytes.EqualFold(scheme, []byte("bearer")) || bytes.EqualFold(scheme, []byte("basic"))) {
		for end++; end < len(b) && !separator[b[end]]; end++ {
		}
	}
	return k, end
}

// known are values that are no secrets, though their field may have others.
var known = map[string]bool{"sign-in": true, "file": true, "environment": true, "true": true, "false": true, "null": true, "none": true, "[redacted]": true, "unknown": true}

// worth reports whether a value may be a secret or a name.
func worth(value []byte) bool {
	if len(value) == 0 || known[string(value)] {
		return false
	}
	for _, c := range value {
		if (c < '0' || c > '9') && c != '.' && c != '-' {
			return true
		}
	}
	return len(value) > 9 // a long number may be a serial
}

// hide appends what stands for a value.
func (r *redactor) hide(dst []byte, k secrecy, name, value []byte) []byte {
	if k == secret {
		return append(dst, "[secret]"...)
	}
	folded, _ := field(name)
	what := fields[string(folded)]
	if isHost(value) || bytes.IndexByte(value, '@') >= 0 {
		return r.word(dst, value, text)
	}
	if plain[strings.ToLower(string(value))] || isUUID(value) {
		return append(dst, value...)
	}
	if _, n := r.phraseAt(value, 0); n == len(value) {
		name, _ := r.phraseAt(value, 0)
		return append(dst, name...)
	}
	return append(dst, r.of(what, string(value))...)
}

// word appends a word without separators.
func (r *redactor) word(dst, w []byte, f form) []byte {
	if len(w) == 15 && !r.keep && bytes.HasPrefix(w, []byte("enx")) && isHex(w[3]) { // an interface named by its hardware
		return append(dst, r.of(aMAC, string(w))...)
	}
	if len(w) < shortest && ordinary(w) {
		return append(dst, w...)
	}
	if isUUID(w) {
		return append(dst, w...)
	}
	if whole, ok := r.address(w); ok {
		return append(dst, whole...)
	}
	for n := bytes.IndexAny(w, "-_=/@~"); n >= 0 && n+1 < len(w); { // such as peer=10.0.0.1:80
		if whole, ok := r.address(w[n+1:]); ok {
			return append(r.word(dst, w[:n+1], f), whole...)
		}
		next := bytes.IndexAny(w[n+1:], "-_=/@~")
		if next < 0 {
			break
		}
		n += 1 + next
	}
	if name := secretName(w); name != "" {
		return append(dst, name...)
	}
	if at := bytes.Index(w, []byte("://")); at > 0 { // leaves the scheme, and never who asks
		dst = append(dst, w[:at+3]...)
		w = w[at+3:]
		end := len(w)
		if slash := bytes.IndexByte(w, '/'); slash >= 0 {
			end = slash
		}
		if user := bytes.LastIndexByte(w[:end], '@'); user >= 0 {
			dst = append(dst, "[secret]@"...)
			w = w[user+1:]
		}
	} else if at := bytes.IndexByte(w, '@'); at > 0 && at+1 < len(w) && !r.keep {
		if user, host := w[:at], w[at+1:]; isHost(bytes.TrimRight(host, ".:")) {
			dst = append(dst, r.of(aUser, string(user))...)
			dst = append(dst, '@')
			return r.parts(dst, host, f)
		}
	}
	return r.parts(dst, w, f)
}

// ordinary reports whether a word has nothing that joins words, as names of
// hosts and addresses do.
func ordinary(w []byte) bool {
	for _, c := range w {
		if c == '.' || c == ':' || c == '@' || c == '=' || c == '/' || c == '+' || c == '%' {
			return false
		}
	}
	return true
}

// parts takes a word apart at what joins words, and looks at each.
func (r *redactor) parts(dst, w []byte, f form) []byte {
	for len(w) > 0 {
		if n := run(w); n >= shortest {
			if name := secretName(w[:n]); name != "" {
				dst, w = append(dst, name...), w[n:]
				continue
			}
		}
		if n := bytes.IndexAny(w, "/=@%~"); n > 0 {
			if whole, ok := r.address(w[:n]); ok {
				dst, w = append(dst, whole...), w[n:]
				continue
			}
		}
		n := bytes.IndexAny(w, "/=:@%+~")
		if n < 0 {
			n = len(w)
		}
		if n > 0 {
			dst = r.part(dst, w[:n], f)
		}
		if n < len(w) {
			dst = append(dst, w[n])
			n++
			if home := bytes.HasSuffix(dst, []byte("/home/")) || bytes.HasSuffix(dst, []byte("/Users/")); home && !r.keep {
				end := n + bytes.IndexAny(append(w[n:len(w):len(w)], '/'), "/=:@%+~")
				if end > n && end <= len(w) {
					dst = append(dst, r.of(aUser, string(w[n:end]))...)
					n = end
				}
			}
		}
		w = w[n:]
	}
	return dst
}

// run returns the length of what may be one value in base64 at the beginning.
func run(w []byte) int {
	n := 0
	for n < len(w) && (alphanumeric(w[n]) || strings.IndexByte("+/-_.", w[n]) >= 0) {
		n++
	}
	for pad := 0; n < len(w) && w[n] == '=' && pad < 2; pad++ {
		n++
	}
	return n
}

func (r *redactor) part(dst, w []byte, f form) []byte {
	if name := secretName(w); name != "" {
		return append(dst, name...)
	}
	if r.keep {
		return append(dst, w...)
	}
	if name, n := r.phraseAt(w, 0); n == len(w) {
		return append(dst, name...)
	}
	if a, err := netip.ParseAddr(string(w)); err == nil {
		return append(dst, r.addr(a)...)
	}
	for len(w) > 0 && w[0] == '.' {
		dst, w = append(dst, '.'), w[1:]
	}
	if host := bytes.TrimRight(w, "."); f != code && isHost(host) {
		dst = append(dst, r.host(string(host))...)
		return append(dst, w[len(host):]...)
	}
	return append(dst, w...)
}

// address reads a word that is an address, with a port or a prefix length, or
// that of hardware.
func (r *redactor) address(w []byte) (string, bool) {
	if r.keep || len(w) > 70 {
		return "", false
	}
	hexes := 0
	for _, c := range w {
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' {
			hexes++
		}
	}
	if hexes == 0 && w[0] != ':' {
		return "", false
	}
	tail := ""
	for len(w) > 0 && (w[len(w)-1] == '.' || w[len(w)-1] == ':' && !bytes.HasSuffix(w, []byte("::"))) {
		tail, w = string(w[len(w)-1])+tail, w[:len(w)-1]
	}
	s := string(w)
	if a, err := netip.ParseAddr(s); err == nil {
		return r.addr(a) + tail, true
	}
	if p, err := netip.ParseAddrPort(s); err == nil {
		return r.addr(p.Addr()) + s[strings.LastIndexByte(s, ':'):] + tail, true
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Bits() == 0 {
			return s + tail, true
		}
		return r.addr(p.Addr()) + s[strings.LastIndexByte(s, '/'):] + tail, true
	}
	if colon := strings.LastIndexByte(s, ':'); colon > 0 {
		if a, err := netip.ParseAddr(s[:colon]); err == nil { // a port without brackets
			return r.addr(a) + s[colon:] + tail, true
		}
	}
	if len(s) == 17 {
		if m, err := net.ParseMAC(s); err == nil {
			return r.of(aMAC, m.String()) + tail, true
		}
	}
	return "", false
}

// endings are last labels of what looks like a host name and is a file, a
// program's identifier or a number with its unit.
var endings = map[string]bool{}

func init() {
	for _, e := range strings.Fields("go log json jsonl conf txt sock service html pem crt key latest yaml yml toml exe dll msi deb rpm zip gz md sh socket target slice scope mount invalid arpa partial bad") {
		endings[e] = true
	}
}

// isHost reports whether w may be a host's name of two labels or more.
func isHost(w []byte) bool {
	if len(w) < 4 || len(w) > 253 {
		return false
	}
	dot := bytes.LastIndexByte(w, '.')
	if dot <= 0 {
		return false
	}
	last := w[dot+1:]
	if len(last) < 2 || endings[strings.ToLower(string(last))] || bytes.Equal(w, []byte("logging.googleapis.com")) {
		return false
	}
	for _, c := range last {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80) && !bytes.HasPrefix(last, []byte("xn--")) {
			return false
		}
	}
	for label := range bytes.SplitSeq(w[:dot], []byte(".")) {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
		for _, c := range label {
			if !alphanumeric(c) && c != '-' && c != '_' && c != '*' && c < 0x80 {
				return false
			}
		}
	}
	return utf8.Valid(w)
}

func isUUID(w []byte) bool {
	if len(w) != 36 || w[8] != '-' || w[13] != '-' || w[18] != '-' || w[23] != '-' {
		return false
	}
	for i, c := range w {
		if !isHex(c) && i != 8 && i != 13 && i != 18 && i != 23 {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

// Lengths from which a run of random characters counts as a secret.
const (
	shortest   = 24 // of what is looked at
	longHex    = 32
	longRandom = 40
	keyLength  = 44 // 32 bytes in base64
)

// secretName says what kind of secret a word is; "": none.
func secretName(w []byte) string {
	if len(w) < shortest {
		return ""
	}
	if len(w) == keyLength && w[keyLength-1] == '=' && random(w[:keyLength-1], "+/") {
		return "[key]"
	}
	if bytes.HasPrefix(w, []byte("SFMyNTY.")) || bytes.HasPrefix(w, []byte("eyJ")) && bytes.IndexByte(w, '.') > 0 {
		return "[secret]"
	}
	hexes := 0
	for _, c := range w {
		if isHex(c) {
			hexes++
		}
	}
	if hexes == len(w) && len(w) >= longHex {
		return "[secret]"
	}
	trimmed := bytes.TrimRight(w, "=")
	if len(trimmed) >= longRandom && (random(trimmed, "-_.") || random(trimmed, "+/")) {
		return "[secret]"
	}
	return ""
}

// random reports whether w is made of letters of both cases and digits, and of
// others, in the mixture that chance makes: words of a language change case and
// kind seldom.
func random(w []byte, others string) bool {
	var lower, upper, digits, changes int
	last := 0
	for _, c := range w {
		is := 0
		switch {
		case 'a' <= c && c <= 'z':
			lower++
			is = 1
		case 'A' <= c && c <= 'Z':
			upper++
			is = 2
		case '0' <= c && c <= '9':
			digits++
			is = 3
		case strings.IndexByte(others, c) < 0:
			return false
		}
		if is != last && is != 0 {
			changes++
		}
		last = is
	}
	return lower > 0 && upper > 0 && digits > 0 && changes*4 >= len(w)
}
