package support

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// word appends what stands for b[i:j], a word, and returns what comes after it:
// a name of several words may go on. contextual tells that one might have.
func (r *redactor) word(dst, b []byte, i, j int, f form) (_ []byte, next int, contextual bool) {
	k := i
	for k < j {
		if k > i && alphanumeric(b[k-1]) && !(k > i+2 && b[k-3] == '%' && allHex(b[k-2:k])) && !(k == i+1 && isEscaped(b, i)) { // within what was seen from its beginning
			if !r.keep && isDigit(b[k]) && !isDigit(b[k-1]) && lowered(b[k-1]) != 'v' {
				if out, n := r.ip4(dst, b[i:j], k-i); n > 0 { // such as eth10.0.0.1
					dst, k = out, k+n
					continue
				}
			}
			dst = append(dst, b[k])
			k++
			continue
		}
		if what, n := secretAt(b[k:j]); n > 0 {
			if what == "key" {
				what = r.of(aKey, string(b[k:k+n]))
				dst = append(dst, what...)
			} else {
				dst = append(dst, "[secret]"...)
			}
			k += n
			continue
		}
		if r.keep {
			dst = append(dst, b[k])
			k++
			continue
		}
		host := 0
		if f != code {
			host = hostAt(b[k:j])
		}
		if r.begins[lowered(b[k])] {
			name, n, more := r.phraseAt(b, k, j, f)
			contextual = contextual || more
			if n > host {
				dst, k = append(dst, name...), k+n
				continue
			}
		}
		out, n := r.atom(dst, b[i:j], k-i, host, f)
		if n == 0 {
			out, n = append(dst, b[k]), 1
		}
		dst, k = out, k+n
	}
	return dst, k, contextual
}

// atom appends what stands for the identifier, address or name that begins at
// w[k], and returns its length; 0: there is none. host is the length of what may
// be a host's name.
func (r *redactor) atom(dst, w []byte, k, host int, f form) ([]byte, int) {
	rest := w[k:]
	if isBusName(rest) {
		n := hostRun(rest)
		return append(dst, rest[:n]...), n
	}
	if len(rest) >= 36 && isUUID(rest[:36]) && ends(rest, 36) {
		return append(dst, r.of(anID, string(rest[:36]))...), 36
	}
	if n := windowsID(rest); n > 0 {
		return append(dst, r.of(anID, string(rest[:n]))...), n
	}
	if n, mac := hardware(rest); n > 0 {
		return append(dst, r.of(aMAC, mac)...), n
	}
	if out, n := r.ip4(dst, w, k); n > 0 {
		return out, n
	}
	if a, n := ip6(rest); n > 0 {
		dst = append(dst, r.addr(a, bitsAfter(rest[n:]))...)
		if n < len(rest)-1 && rest[n] == '%' { // the interface, which may be named by its hardware
			dst, n = append(dst, '%'), n+1
		}
		return dst, n
	}
	if n := mailbox(rest); n > 0 {
		dst = append(dst, r.of(aUser, string(rest[:n]))...)
		at := 1
		if rest[n] == '%' {
			at = 3
		}
		dst = append(dst, rest[n:n+at]...)
		n += at
		if end := n + hostRun(rest[n:]); hostAt(rest[n:]) == 0 && !isWhole(rest[n:end]) {
			dst = append(dst, r.of(aLabel, string(rest[n:end]))...)
			n = end
		}
		return dst, n
	}
	if bytes.HasSuffix(w[:k], []byte("/home/")) || bytes.HasSuffix(w[:k], []byte("/Users/")) || bytes.HasSuffix(w[:k], []byte("/mail/")) || k > 0 && w[k-1] == '~' {
		end := bytes.IndexAny(rest, "/:=@%+~")
		if end < 0 {
			end = len(rest)
		}
		if end > 0 {
			return append(dst, r.of(aUser, string(rest[:end]))...), end
		}
	}
	if host > 0 {
		if n := host; n < len(rest) && rest[n] == '/' && public[string(rest[:n])] {
			return append(dst, rest[:n]...), n // the path of a Go package
		}
		return append(dst, r.host(string(rest[:host]))...), host
	}
	return nil, 0
}

// public are hosts in the names of Go packages, which stack traces have.
var public = map[string]bool{"github.com": true, "golang.org": true, "golang.zx2c4.com": true, "gvisor.dev": true, "fyne.io": true, "modernc.org": true, "google.golang.org": true, "logging.googleapis.com": true}

// ends reports whether what ends at w[n] ends there.
func ends(w []byte, n int) bool { return n >= len(w) || !alphanumeric(w[n]) }

// ip4 appends what stands for the IPv4 address at w[k], written with dots, or with
// dashes as in names of hosts.
func (r *redactor) ip4(dst, w []byte, k int) ([]byte, int) {
	if !isDigit(w[k]) || k > 0 && w[k-1] == '.' && k > 1 && isDigit(w[k-2]) {
		return nil, 0
	}
	rest := w[k:]
	var octets [4]byte
	n, sep := 0, byte(0)
	for i := range octets {
		if i > 0 {
			if n >= len(rest) || rest[n] != '.' && rest[n] != '-' || i > 1 && rest[n] != sep {
				return nil, 0
			}
			sep = rest[n]
			n++
		}
		value, digits := 0, 0
		for n < len(rest) && isDigit(rest[n]) && digits < 4 {
			value, digits, n = value*10+int(rest[n]-'0'), digits+1, n+1
		}
		if digits == 0 || digits > 3 || value > 255 {
			return nil, 0
		}
		octets[i] = byte(value)
	}
	if !ends(rest, n) {
		return nil, 0
	}
	if sep == '-' && (k > 1 && w[k-1] == '-' && isDigit(w[k-2]) || n+1 < len(rest) && rest[n] == '-' && isDigit(rest[n+1])) { // a date
		return nil, 0
	}
	if reverse(rest) > 0 {
		return nil, 0
	}
	return append(dst, r.addr(netip.AddrFrom4(octets), bitsAfter(rest[n:]))...), n
}

// ip6 reads an IPv6 address at the beginning of w.
func ip6(w []byte) (netip.Addr, int) {
	n, colons, double := 0, 0, false
	for n < len(w) && n < 46 && (isHex(w[n]) || w[n] == ':' || w[n] == '.') {
		if w[n] == ':' {
			colons++
			double = double || n > 0 && w[n-1] == ':'
		}
		n++
	}
	if colons < 2 || !double && colons < 6 {
		return netip.Addr{}, 0
	}
	for n > 1 { // a full stop, or a port without brackets, may follow
		if ends(w, n) {
			if a, err := netip.ParseAddr(string(w[:n])); err == nil {
				return a, n
			}
		}
		n--
		for n > 1 && w[n] != ':' && w[n] != '.' {
			n--
		}
	}
	return netip.Addr{}, 0
}

// bitsAfter reads the length of a prefix after an address; -1: there is none.
func bitsAfter(w []byte) int {
	if len(w) < 2 || w[0] != '/' || !isDigit(w[1]) {
		return -1
	}
	bits := 0
	for _, c := range w[1:min(len(w), 4)] {
		if !isDigit(c) {
			break
		}
		bits = bits*10 + int(c-'0')
	}
	return bits
}

// windowsID returns the length of the identifier of a user or machine of Windows,
// "S-1-5-21-…", that others do not have as well.
func windowsID(w []byte) int {
	if !bytes.HasPrefix(w, []byte("S-1-5-21-")) {
		return 0
	}
	n := len("S-1-5-21-")
	for n < len(w) && (isDigit(w[n]) || w[n] == '-') {
		n++
	}
	return n
}

// hardware reads a hardware address: six or more pairs of digits between colons or
// dashes, three fours between dots, or the name that an interface has of it.
func hardware(w []byte) (n int, mac string) {
	if len(w) >= 15 && w[2] == 'x' && (string(w[:2]) == "en" || string(w[:2]) == "wl" || string(w[:2]) == "ww") && allHex(w[3:15]) && ends(w, 15) {
		return 15, string(lower(nil, w[3:15]))
	}
	if len(w) >= 14 && w[4] == '.' && w[9] == '.' && allHex(w[:4]) && allHex(w[5:9]) && allHex(w[10:14]) && ends(w, 14) && bytes.IndexFunc(w[:14], func(r rune) bool { return r >= 'A' }) >= 0 {
		return 14, string(lower(nil, bytes.Join([][]byte{w[:4], w[5:9], w[10:14]}, nil)))
	}
	groups := 0
	var digits []byte
	for len(w)-n >= 2 && groups < 64 && isHex(w[n]) && isHex(w[n+1]) {
		digits = append(digits, w[n], w[n+1])
		groups++
		n += 2
		if n+2 >= len(w) || w[n] != ':' && w[n] != '-' || w[n] != w[2] {
			break
		}
		n++
	}
	if groups > 6 && !ends(w, n) { // more digits are something else, such as a port
		groups, n, digits = groups-1, n-3, digits[:len(digits)-2]
	}
	if groups < 6 || !ends(w, n) || isNumber(digits) && w[2] == '-' {
		return 0, ""
	}
	return n, string(lower(nil, digits))
}

// mailbox returns the length of the part before the @ of an e-mail address, or of
// what has its form; it may be written %40.
func mailbox(w []byte) int {
	n := 0
	for n < len(w) && n < 320 && (alphanumeric(w[n]) || w[n] >= 0x80 || strings.IndexByte(".-_+*", w[n]) >= 0) {
		n++
	}
	rest := w[n:]
	switch {
	case len(rest) > 0 && rest[0] == '@':
		rest = rest[1:]
	case bytes.HasPrefix(rest, []byte("%40")):
		rest = rest[3:]
	default:
		return 0
	}
	domain := rest[:hostRun(rest)]
	if n == 0 || len(domain) == 0 || domain[0] == 'v' && len(domain) > 1 && isDigit(domain[1]) { // a version of a Go module
		return 0
	}
	for _, unit := range []string{".service", ".slice", ".socket", ".mount", ".timer", ".target"} {
		if bytes.HasSuffix(domain, []byte(unit)) {
			return 0
		}
	}
	return n
}

// hostRun returns the length of what a host's name may consist of, as far as such
// names are long.
func hostRun(w []byte) int {
	n := 0
	for n < len(w) && n < 300 && (alphanumeric(w[n]) || w[n] >= 0x80 || strings.IndexByte("-_.*", w[n]) >= 0) {
		n++
	}
	for n > 0 && (w[n-1] == '.' || w[n-1] == '-') {
		n--
	}
	return n
}

// hostAt returns the length of the host's name of two labels or more at the
// beginning of w; 0: there is none. The ending of a file is not part of it.
func hostAt(w []byte) int {
	n := hostRun(w)
	if isHost(w[:n]) {
		return n
	}
	if dot := bytes.LastIndexByte(w[:n], '.'); dot > 0 && endings[string(lower(nil, w[dot+1:n]))] && isHost(w[:dot]) {
		return dot
	}
	return 0
}

// endings are last labels of what looks like a host name and is a file or a
// program's identifier.
var endings = map[string]bool{}

func init() {
	for _, e := range strings.Fields("go log json jsonl conf txt sock service html pem crt key latest yaml yml toml exe dll msi deb rpm gz socket target slice scope mount timer invalid partial bad zip") {
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
	if len(last) < 2 || endings[string(lower(nil, last))] {
		return false
	}
	for _, c := range last {
		if !isLetter(c) && c < 0x80 && !bytes.HasPrefix(lower(nil, last[:min(4, len(last))]), []byte("xn--")) {
			return false
		}
	}
	if string(w) == "home.arpa" {
		return false
	}
	for rest := w[:dot]; ; {
		n := bytes.IndexByte(rest, '.')
		label := rest
		if n >= 0 {
			label, rest = rest[:n], rest[n+1:]
		}
		if len(label) == 0 || len(label) > 63 {
			return false
		}
		if n < 0 {
			break
		}
	}
	return utf8.Valid(w)
}

// isBusName reports whether w is the name of a service or interface of a desktop.
func isBusName(w []byte) bool {
	for _, prefix := range []string{"org.freedesktop.", "org.kde.", "org.gnome."} {
		if bytes.HasPrefix(w, []byte(prefix)) {
			return true
		}
	}
	return false
}

// reverse returns the length of a name that stands for an address, or a part of
// one, in the DNS.
func reverse(w []byte) int {
	n := hostRun(w)
	name := lower(nil, w[:n])
	if bytes.HasSuffix(name, []byte(".in-addr.arpa")) || bytes.HasSuffix(name, []byte(".ip6.arpa")) {
		return n
	}
	return 0
}

// isWhole reports whether all of w is an address, an identifier, a prefix, a
// mailbox or a host's name: what says by itself what it is.
func isWhole(w []byte) bool {
	if len(w) == 0 || wordEnd(w, 0) != len(w) {
		return false
	}
	if n := hostAt(w); n == len(w) || isUUID(w) || n > 0 && n == len(w)-1 && w[n] == '.' {
		return true
	}
	if n := mailbox(w); n > 0 {
		return true
	}
	s := string(w)
	if slash := strings.IndexByte(s, '/'); slash > 0 {
		s = s[:slash]
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	n, _ := hardware(w)
	return n == len(w)
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

func allHex(w []byte) bool {
	for _, c := range w {
		if !isHex(c) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool    { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func alphanumeric(c byte) bool { return isLetter(c) || isDigit(c) }

// lower appends s with ASCII letters in lower case.
func lower[S string | []byte](dst []byte, s S) []byte {
	for i := range len(s) {
		dst = append(dst, lowered(s[i]))
	}
	return dst
}

func lowered(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Lengths from which a run of random characters counts as a secret.
const (
	shortest   = 20
	longHex    = 32
	longRandom = 40
	keyLength  = 44 // 32 bytes in base64
	// looked is how much of a word is looked at for a secret: words may be long,
	// and each part of one may begin a secret.
	looked = 512
)

// secretAt finds a secret at the beginning of w by its form: what it is, "secret"
// or "key" (which many know, and which may be public), and its length.
func secretAt(word []byte) (what string, n int) {
	if len(word) < shortest {
		return "", 0
	}
	w := word[:min(len(word), looked)]
	n = runOf(w, "")
	if n >= longHex && allHex(w[:n]) && !(n < len(w) && w[n] == '.') {
		return "key", n + runOf(word[n:], "")
	}
	if n >= shortest && n < longRandom && random(w[:n], "", 2) {
		what = "secret"
	}
	best := n
	for _, others := range []string{"+/", "-_."} {
		n := runOf(w, others)
		switch {
		case n == keyLength && w[n-1] == '=':
			return "key", n
		case n < len(w) && w[n] == '=' && n == keyLength-1 && others == "+/":
			return "key", keyLength
		}
		run := bytes.TrimRight(w[:n], ".-_=")
		switch {
		case bytes.Contains(run, []byte("SFMyNTY.")), bytes.HasPrefix(run, []byte("eyJ")) && bytes.IndexByte(run, '.') > 0,
			len(run) >= longRandom && random(run, others, 4), len(run) >= longHex && nonceAndFragment(run):
			what, best = "secret", max(best, len(run)+padding(w[len(run):]))
		}
	}
	if what == "" {
		return "", 0
	}
	if best == looked {
		best += runOf(word[best:], "+/-_.=")
	}
	return what, best
}

// nonceAndFragment reports whether w is a token of a portal like ours: a nonce in
// hexadecimal, which may be missing, a dot, and 48 bytes in base64.
func nonceAndFragment(w []byte) bool {
	dot := bytes.IndexByte(w, '.')
	return dot >= 0 && allHex(w[:dot]) && len(w)-dot-1 == 64 && bytes.IndexByte(w[dot+1:], '.') < 0
}

// runOf returns how much of w consists of letters, digits and others.
func runOf(w []byte, others string) int {
	n := 0
	for n < len(w) && (alphanumeric(w[n]) || strings.IndexByte(others, w[n]) >= 0) {
		n++
	}
	return n
}

func padding(w []byte) int {
	n := 0
	for n < len(w) && n < 2 && w[n] == '=' {
		n++
	}
	return n
}

// random reports whether w is made of letters of both cases and digits in the
// mixture that chance makes, with a change of kind at every few characters: words
// of a language change case and kind seldom.
func random(w []byte, others string, every int) bool {
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
		case isDigit(c):
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
	kinds := 0
	for _, n := range []int{lower, upper, digits} {
		if n > 0 {
			kinds++
		}
	}
	return kinds == 3 && changes*every >= len(w) || kinds == 2 && digits >= 5 && changes*3 >= len(w)
}

// unhex is the address that a reverse name's labels say, if they say all of it.
func unhex(labels []string) (netip.Addr, bool) {
	var digits strings.Builder
	for i := len(labels) - 1; i >= 0; i-- {
		if len(labels[i]) != 1 {
			return netip.Addr{}, false
		}
		digits.WriteString(labels[i])
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}
