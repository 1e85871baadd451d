package support

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// What the name of a field says about its value.
type secrecy uint8

const (
	nothing secrecy = iota
	private         // a name
	secret
)

// A field is what a word says about what comes after it.
type field struct {
	class   secrecy
	kind    kind // of a private value
	delim   int  // where in the word the value begins, after "=" or ":"; 0: after the word
	machine bool // the secret was made by a machine, and is no word of a language
	flag    bool // an option of a command line, --like-this
	scheme  bool // of authentication: credentials follow
	asks    bool // such as "lookup": a host follows
}

// names says what is in fields of these names, written without "_", "-" and
// capitals.
var names = map[string]kind{}

func init() {
	for k, list := range map[kind]string{
		aUser:     "actor user username login email mail actorname owner holder displayname fullname realname person givenname familyname invoker",
		anAccount: "account accountslug accountname slug organization organisation tenant",
		aDevice: `hostname devicename computername nodename deviceid externalid serial serialnumber deviceserial deviceuuid machineid
			identifierforvendor firebaseinstallationid gateway gatewayname relay client clientname peer peername`,
		aResource: "resource resourcename",
		aSite:     "site sitename sites",
		aText:     "ssid essid bssid location description",
		aLabel:    "name host domain searchdomain query qname question sni servername fqdn dnsname address pattern",
		aMAC:      "mac macaddress hwaddr lladdr",
	} {
		for _, name := range strings.Fields(list) {
			names[name] = k
		}
	}
}

// secrets are parts of names of fields whose values are nobody's business.
var secrets = []string{"token", "secret", "passw", "psk", "presharedkey", "privatekey", "authorization", "cookie", "nonce", "credential", "apikey", "pwd", "passphrase", "bearer", "signature", "sessionid"}

// fieldOf reads a word as the name of a field, with or without its value.
func fieldOf(word []byte) (f field) {
	name := word
	for len(name) > 0 && name[0] == '-' {
		name, f.flag = name[1:], len(word)-len(name) > 0
	}
	if at := bytes.IndexAny(name, "=:"); at >= 0 {
		f.delim = len(word) - len(name) + at + 1
		name = name[:at]
	}
	if at := bytes.LastIndexAny(name, "./@+~%*"); at >= 0 {
		name = name[at+1:]
	}
	if len(name) < 2 || len(name) > 40 {
		return f
	}
	folded := make([]byte, 0, 40)
	for _, c := range name {
		switch c = lowered(c); {
		case 'a' <= c && c <= 'z':
			folded = append(folded, c)
		case c == '_' || c == '-' || isDigit(c):
		default:
			return f
		}
	}
	switch string(folded) {
	case "bearer", "basic", "digest":
		f.scheme = f.delim == 0
	case "lookup", "tcp", "udp", "to", "at", "on", "from", "dial", "via", "server", "host":
		f.asks = f.delim == 0
	case "fragment", "auth", "otp", "totp", "pin", "passcode", "jwt", "sid":
		f.class = secret
	}
	if k, is := names[string(folded)]; is {
		f.class, f.kind = private, k
	}
	for _, s := range secrets {
		if bytes.Contains(folded, []byte(s)) {
			f.class, f.machine = secret, s == "token" || s == "nonce"
		}
	}
	return f
}

// isWord reports whether w may be a word in a sentence: "read the token: open …".
func isWord(w []byte) bool {
	for _, c := range w {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	return len(w) < 16
}

// fieldValue appends the field whose name is in b[i:j], with something else for
// its value, and returns what comes after it; 0: there is no value to hide.
func (r *redactor) fieldValue(dst, b []byte, i, j int, form form, f field) ([]byte, int) {
	v := valueOf(b, i, j, form, f)
	if v.begin == 0 {
		return nil, 0
	}
	dst = append(dst, b[i:v.begin]...)
	if v.list {
		return r.list(dst, b, v, form, f)
	}
	if at := bytes.Index(b[v.begin:v.end], beginPEM); at >= 0 {
		v.end = max(v.end, endOfPEM(b, v.begin+at+len(beginPEM), form))
	}
	value := b[v.begin:v.end]
	if !worth(value) || !v.sure && (f.class == private || f.machine && isWord(value)) {
		return nil, 0
	}
	if f.class == private && r.begins[lowered(value[0])] {
		if name, n, _ := r.phraseAt(b, v.begin, wordEnd(b, v.begin), form); n > len(value) { // not all of it is the value's
			return append(dst, name...), v.begin + n
		}
	}
	if !v.number {
		return r.hide(dst, value, form, f), v.end
	}
	return append(r.hide(append(dst, '"'), value, form, f), '"'), v.end
}

// A value is where one is.
type value struct {
	begin, end int  // begin 0: there is none
	sure       bool // it is a value, and not the rest of a sentence
	number     bool // it is JSON's, without quotation marks
	list       bool // b[begin] opens a list or an object
}

// valueOf finds the value of the field in b[i:j]: `"name":"value"`, the same
// within a string, `name=value`, `name: value`, `--name value`, `<name>value<`.
func valueOf(b []byte, i, j int, form form, f field) value {
	switch {
	case f.delim > 0 && i+f.delim < j: // the rest of the word, and what follows without white space
		return plainValue(b, i+f.delim, form, f, true)
	case f.delim > 0 && j < len(b) && kinds[b[j]] == between && b[j] != ' ': // in quotation marks, perhaps
		return plainValue(b, j, form, f, true)
	case f.delim > 0:
		return plainValue(b, spaces(b, j), form, f, b[j-1] == '=' || i == 0 || b[i-1] == '\n')
	case f.flag && j < len(b) && b[j] == ' ':
		return plainValue(b, j+1, form, f, true)
	case bytes.HasSuffix(b[:i], []byte("<")) && bytes.HasPrefix(b[j:], []byte(">")):
		return value{begin: j + 1, end: before(b, j+1, "</", form), sure: true}
	case bytes.HasSuffix(b[:i], []byte(`\u003c`)) && bytes.HasPrefix(bytes.TrimLeft(b[j:], `\`), []byte(`u003e`)): // the same in JSON
		begin := j + bytes.IndexByte(b[j:], 'u') + len("u003e")
		end := before(b, begin, `u003c/`, form)
		for end > begin && b[end-1] == '\\' {
			end--
		}
		return value{begin: begin, end: end, sure: true}
	}
	if q := spaces(b, j); q == j+1 { // resource "name"
		for q < len(b) && b[q] == '\\' {
			q++
		}
		if q < len(b) && b[q] == '"' && (form != jsons || q > j+1) {
			return plainValue(b, j+1, form, f, true)
		}
	}
	k := j
	for k < len(b) && b[k] == '\\' {
		k++
	}
	quoted := k < len(b) && (b[k] == '"' || b[k] == '\'')
	if !quoted {
		k = j
	} else {
		k++
	}
	structural := form == jsons && quoted && k == j+1 && b[j] == '"'
	if structural {
		k = blanks(b, k)
	} else {
		k = spaces(b, k)
	}
	if k >= len(b) || b[k] != ':' && b[k] != '=' {
		return value{}
	}
	after := b[k]
	if structural && after == ':' {
		return jsonValue(b, blanks(b, k+1), f)
	}
	k++
	return plainValue(b, spaces(b, k), form, f, quoted || after == '=' || k < len(b) && b[k] != ' ' || i == 0 || b[i-1] == '\n')
}

// jsonValue finds the value of a field of JSON at b[k].
func jsonValue(b []byte, k int, f field) value {
	switch {
	case k >= len(b):
		return value{}
	case b[k] == '"':
		return value{begin: k + 1, end: stringEnd(b, k+1, jsons), sure: true}
	case b[k] == '[', b[k] == '{' && f.class == secret:
		return value{begin: k, end: len(b), sure: true, list: true, number: true}
	}
	return value{begin: k, end: literalEnd(b, k), sure: true, number: true}
}

// literalEnd returns where a number or a word of JSON ends.
func literalEnd(b []byte, k int) int {
	for k < len(b) && (alphanumeric(b[k]) || b[k] == '.' || b[k] == '+' || b[k] == '-') {
		k++
	}
	return k
}

// maxValue bounds a value that is no field of JSON itself, in bytes.
const maxValue = 4 << 10

// plainValue finds the value at b[k], which is in quotation marks or not.
func plainValue(b []byte, k int, form form, f field, sure bool) value {
	q := k
	for q < len(b) && b[q] == '\\' {
		q++
	}
	limit := stringEnd(b[:min(len(b), k+maxValue)], k, form)
	switch {
	case q == k && k < limit && b[k] == '\'':
		return value{begin: k + 1, end: before(b, k+1, "'", form), sure: true}
	case q < limit && b[q] == '"':
		return value{begin: q + 1, end: closing(b, q+1, q-k, limit), sure: true}
	case k < limit && b[k] == '[' && f.class == private && sure:
		return value{begin: k, list: true, end: limit, sure: true}
	}
	if k >= limit {
		return value{}
	}
	if f.class == private {
		return value{begin: k, end: wordEnd(b, k), sure: sure}
	}
	for k < limit && (b[k] == '[' || b[k] == '(' || b[k] == '{') {
		k++
	}
	return value{begin: k, end: secretEnd(b, k), sure: sure}
}

// closing returns where the string ends that began before b[k], in which
// quotation marks have a number of backslashes before them.
func closing(b []byte, k, backslashes, limit int) int {
	for k < limit {
		n := 0
		for k+n < limit && b[k+n] == '\\' {
			n++
		}
		if k+n < limit && b[k+n] == '"' && (n <= backslashes || backslashes == 0 && n%2 == 0) {
			return k + n - min(n, backslashes)
		}
		k += max(n, 1)
		if n > 0 && k < limit && b[k] == '"' {
			k++
		}
	}
	return limit
}

// before returns where mark comes after b[k], or the end of the string or line.
func before(b []byte, k int, mark string, form form) int {
	end := stringEnd(b[:min(len(b), k+maxValue)], k, form)
	if n := bytes.Index(b[k:end], []byte(mark)); n >= 0 {
		return k + n
	}
	return end
}

// stringEnd returns where the string of JSON that b[k] is in ends; in other texts,
// where the line does.
func stringEnd(b []byte, k int, form form) int {
	k = min(k, len(b))
	for ; k < len(b) && b[k] != '\n'; k++ {
		if form == jsons && b[k] == '"' {
			return k
		}
		if form == jsons && b[k] == '\\' {
			k++
		}
	}
	return min(k, len(b))
}

// unbroken reports whether b is a part of a string of JSON with whole escapes.
func unbroken(b []byte) bool {
	for k := 0; k < len(b); k++ {
		switch {
		case b[k] == '"' || b[k] < ' ':
			return false
		case b[k] == '\\' && (k+1 == len(b) || b[k+1] == 'u' && k+5 >= len(b)):
			return false
		case b[k] == '\\':
			k++
		}
	}
	return true
}

func spaces(b []byte, k int) int {
	for k < len(b) && b[k] == ' ' {
		k++
	}
	return k
}

func blanks(b []byte, k int) int {
	for k < len(b) && (b[k] == ' ' || b[k] == '\t' || b[k] == '\r' || b[k] == '\n') {
		k++
	}
	return k
}

// secretEnd returns where a secret without quotation marks ends: at white space, a
// quotation mark or a backslash, less closing marks. A header's goes on to the
// end of its line: "Authorization: Bearer abc", "Cookie: a=b; c=d".
func secretEnd(b []byte, k int) int {
	end := solid(b, k)
	for range 3 {
		next, word := spaces(b, end), b[k:end]
		if next == end || next == len(b) || !(bytes.HasSuffix(word, []byte(";")) || bytes.EqualFold(word, []byte("bearer")) || bytes.EqualFold(word, []byte("basic")) || bytes.EqualFold(word, []byte("digest"))) {
			break
		}
		end = solid(b, next)
	}
	for end > k && strings.IndexByte(",;)}]>'", b[end-1]) >= 0 {
		end--
	}
	return end
}

// solid returns where something without white space, quotation marks and
// backslashes ends that begins at b[k]. What JSON escapes is part of it: it does so
// with &, < and >.
func solid(b []byte, k int) int {
	for k < len(b) {
		switch {
		case b[k] == '\\':
			n := sign(b[k:])
			if n == 0 {
				return k
			}
			k += n
		case b[k] <= ' ', b[k] == '"', b[k] == '`':
			return k
		default:
			k++
		}
	}
	return k
}

// sign returns the length of an escape of JSON, or of JSON in JSON, that stands for
// a visible sign of ASCII other than a quotation mark or backslash; 0: there is none.
func sign(b []byte) int {
	n := 0
	for n < len(b) && b[n] == '\\' {
		n++
	}
	if len(b) < n+5 || string(b[n:n+3]) != "u00" || !isDigit(b[n+3]) || !isHex(b[n+4]) {
		return 0
	}
	code, err := strconv.ParseUint(string(b[n+3:n+5]), 16, 8)
	if err != nil || code <= ' ' || code == '"' || code == '\\' || code >= 0x7f {
		return 0
	}
	return n + 5
}

// list appends a list or an object of JSON with each string in it hidden.
func (r *redactor) list(dst, b []byte, v value, form form, f field) ([]byte, int) {
	depth := 0
	for k := v.begin; k < v.end; {
		q := k
		for q < v.end && b[q] == '\\' {
			q++
		}
		switch {
		case b[k] == '[' || b[k] == '{':
			depth++
		case b[k] == ']' || b[k] == '}':
			if depth--; depth == 0 {
				return append(dst, b[k]), k + 1
			}
		case q < v.end && b[q] == '"':
			mark, end := b[k:q+1], closing(b, q+1, q-k, v.end)
			next := min(end+len(mark), v.end)
			dst = append(dst, mark...)
			if after := blanks(b, next); after < v.end && b[after] == ':' || !worth(b[q+1:end]) {
				dst = r.redact(dst, b[q+1:end], form) // a key
			} else {
				dst = r.hide(dst, b[q+1:end], form, f)
			}
			dst, k = append(dst, b[end:next]...), next
			continue
		case literalEnd(b, k) > k:
			end := literalEnd(b, k)
			switch {
			case !worth(b[k:end]):
				dst = append(dst, b[k:end]...)
			case v.number:
				dst = append(r.hide(append(dst, '"'), b[k:end], form, f), '"')
			default:
				dst = r.hide(dst, b[k:end], form, f)
			}
			k = end
			continue
		}
		dst = append(dst, b[k])
		k++
	}
	return dst, v.end
}

// known are values that are no secrets, though their field may have others.
var known = map[string]bool{"sign-in": true, "file": true, "files": true, "environment": true, "true": true, "false": true, "null": true, "none": true, "nil": true, "[redacted]": true, "[secret]": true, "unknown": true}

// worth reports whether a value may be a secret or a name.
func worth(value []byte) bool {
	if len(value) == 0 || known[string(value)] {
		return false
	}
	for _, c := range value {
		if !isDigit(c) && c != '.' && c != '-' {
			return true
		}
	}
	return len(value) > 9 // a long number may be a serial
}

// unquoted is what a string of JSON says.
func unquoted(value []byte) (said string) {
	if bytes.IndexByte(value, '\\') < 0 || json.Unmarshal([]byte(`"`+string(value)+`"`), &said) != nil {
		return string(value)
	}
	return said
}

// maxLearned bounds what is learned from fields, because all that was remembered
// of words must be forgotten each time.
const maxLearned = 5000

// hide appends what stands for a value.
func (r *redactor) hide(dst, value []byte, form form, f field) []byte {
	if f.class == secret {
		return append(dst, "[secret]"...)
	}
	if isWhole(value) || bytes.Contains(value, []byte("://")) {
		return r.redact(dst, value, form)
	}
	said := string(value)
	if form == jsons {
		said = unquoted(value)
	}
	if name := r.exact(said); name != "" {
		return append(dst, name...)
	}
	if general := f.kind == aLabel || f.kind == aResource || f.kind == aDevice; general && (r.kept[said] || plain[strings.ToLower(said)]) {
		return append(dst, value...)
	}
	if (f.kind == aUser || f.kind == anAccount || f.kind == aSite) && len(said) < 200 && r.version < maxLearned {
		r.learn(f.kind, said) // it may be in sentences, too
	}
	return append(dst, r.of(f.kind, said)...)
}
