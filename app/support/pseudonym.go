package support

import (
	"encoding/json"
	"fmt"
	"html"
	"html/template"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"stile/tunnel/ipc"
)

// A kind is what a pseudonym stands for, and begins with.
type kind string

const (
	aUser     kind = "user"
	aDevice   kind = "device"
	anAccount kind = "account"
	aResource kind = "resource"
	aSite     kind = "site"
	aText     kind = "text"
	aLabel    kind = "h"   // one label of a host name
	aDomain   kind = "d"   // its last two
	aMAC      kind = "mac" // a hardware address
	aKey      kind = "key"
	anID      kind = "id"
	aLAN4     kind = "lan"   // a private /24
	aWAN4     kind = "wan"   // any other /24
	aPeer4    kind = "peer"  // a /24 of the tunnel's own: of clients and gateways
	aProxy4   kind = "proxy" // a /24 that stands for names
	aLAN6     kind = "lan6-" // a /64
	aWAN6     kind = "wan6-"
	aPeer6    kind = "peer6-"
	aProxy6   kind = "proxy6-"
	anID6     kind = "" // the second half of an IPv6 address, in its /64
)

// short are kinds that have no dash before the number.
var short = map[kind]bool{aLabel: true, aDomain: true, aLAN4: true, aWAN4: true, aPeer4: true, aProxy4: true, aLAN6: true, aWAN6: true, aPeer6: true, aProxy6: true, anID6: true}

// pseudonyms gives each value one name for as long as the export is made: who
// reads it can tell that two lines speak of the same host, but not of which.
type pseudonyms struct {
	given map[string]string // kind, "\x00" and lower-case value → pseudonym
	count map[kind]int

	// What was learned is replaced wherever it stands.
	version int               // grows with it
	whole   map[string]string // a value in lower case → its pseudonym
	phrases map[string]string // the forms that a value is written in, in lower case → its pseudonym
	lengths map[string][]int  // the first word of phrases → their lengths, the longest first
	begins  [256]bool         // first bytes of phrases
	kept    map[string]bool   // values that are no names though a field says so
}

func newPseudonyms() *pseudonyms {
	return &pseudonyms{
		given: map[string]string{}, count: map[kind]int{}, kept: map[string]bool{},
		whole: map[string]string{}, phrases: map[string]string{}, lengths: map[string][]int{},
	}
}

// maxGiven bounds the memory of an export. What comes after so many names and
// addresses has no number.
const maxGiven = 1 << 18

// of returns the pseudonym of a value.
func (p *pseudonyms) of(k kind, value string) string {
	key := string(k) + "\x00" + strings.ToLower(value)
	if name, known := p.given[key]; known {
		return name
	}
	if len(p.given) >= maxGiven {
		return string(k) + "-more"
	}
	p.count[k]++
	dash := "-"
	if short[k] {
		dash = ""
	}
	name := string(k) + dash + strconv.Itoa(p.count[k])
	p.given[key] = name
	return name
}

// plain are words that our own files consist of. A resource of such a name stays
// as it is where nothing says that it is meant.
var plain = map[string]bool{}

func init() {
	for _, w := range strings.Fields(`a an and are at by for from in is it no not of on or the to with you your
		account actor address app client connected connection debug default direct dns error file files filter gateway gateways host hosts idle info internet
		log logs message name names network offline online path portal relay relayed relays resource resources root localhost service severity session
		site sites state status stile stiled target time token tunnel unknown user users version warning admin test example
		tcp udp ip ipv4 ipv6 lookup server read write dial out none true false null
		after agent arch as aside backup bytes changes clients code conn counts destination detail do dropped err event family flags gid gro gso help id
		interface kernel kind left lines lost more node os outcome packet packets page panic pid port problem protocol reason receive remote retry
		send setting source sourceLocation span spans stack started summary text type uid uptime url value wanted where why`) {
		plain[w] = true
	}
	for _, v := range []any{ipc.State{}, Diagnosis{}, manifest{}} {
		vocabulary(reflect.TypeOf(v))
	}
}

// vocabulary adds the names of the fields of a type: a file whose fields were
// replaced could not be read by a program.
func vocabulary(t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		vocabulary(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				plain[name] = true
				vocabulary(f.Type)
			}
		}
	}
}

// exact returns the pseudonym of a value that was learned; "": it was not.
func (p *pseudonyms) exact(value string) string { return p.whole[strings.ToLower(value)] }

// learn makes a value known: from here on it is replaced wherever it stands as
// a whole word or words. Values of one or two bytes, and words of our own, are
// replaced only where a field says what they are. What shows by itself that it is
// a name need not be learned.
func (p *pseudonyms) learn(k kind, value string) {
	value = strings.TrimSpace(value)
	if value == "" || isWhole([]byte(value)) {
		return
	}
	folded := strings.ToLower(value)
	if p.whole[folded] != "" {
		return
	}
	name := p.of(k, value)
	p.whole[folded] = name
	if len(value) < 3 || plain[folded] {
		return
	}
	p.version++
	value = strings.TrimLeftFunc(value, func(r rune) bool { return r < 0x80 && !alphanumeric(byte(r)) }) // words begin with these
	for _, v := range []string{value, strings.ToLower(value), strings.ToUpper(value)} {                  // letters beyond ASCII are compared as they are
		for _, form := range []string{v, quoted(v), html.EscapeString(v), template.HTMLEscapeString(v), url.QueryEscape(v), url.PathEscape(v), asciiJSON(v)} {
			p.phrase(string(lower(nil, form)), name)
		}
	}
}

func (p *pseudonyms) phrase(form, name string) {
	first := form[:min(wordEnd([]byte(form), 0), maxFirst)]
	if first == "" || p.phrases[form] != "" {
		return
	}
	p.phrases[form] = name
	p.begins[form[0]] = true
	if l := p.lengths[first]; !slices.Contains(l, len(form)) {
		l = append(l, len(form))
		slices.SortFunc(l, func(a, b int) int { return b - a })
		p.lengths[first] = l
	}
}

// maxFirst is how much of its first word a phrase is found by, in bytes.
const maxFirst = 64

// phraseAt finds a learned phrase at b[i], in the word that ends at b[j], and
// returns its pseudonym and length. more tells that other words after this one
// might make it one.
func (p *pseudonyms) phraseAt(b []byte, i, j int, f form) (name string, n int, more bool) {
	var room [maxFirst]byte
	first := lower(room[:0], b[i:min(j, i+maxFirst)])
	for k := len(first); k > 0; k-- { // "alice" is also found in "alice:" and "alice."
		if k < len(first) && alphanumeric(first[k]) {
			continue
		}
		for _, length := range p.lengths[string(first[:k])] {
			end := i + length
			more = more || end > j
			if end > len(b) || end < len(b) && alphanumeric(b[end]) && alphanumeric(b[end-1]) {
				continue
			}
			var room [128]byte
			if name := p.phrases[string(lower(room[:0], b[i:end]))]; name != "" && (f != jsons || unbroken(b[i:end])) {
				return name, length, more
			}
		}
	}
	return "", 0, more
}

// quoted is a value inside a JSON string.
func quoted(value string) string {
	text, err := json.Marshal(value)
	if err != nil {
		return value
	}
	return string(text[1 : len(text)-1])
}

// asciiJSON is a value inside a JSON string of a program that writes ASCII only.
func asciiJSON(value string) string {
	var b strings.Builder
	for _, r := range quoted(value) {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.String()
}

// host makes a pseudonym of a name such as "wiki.corp.example" or
// "*.corp.example" that keeps which names belong together: the last two labels
// are one, each other label is one, wildcards stay. A name that stands for an
// address gets that of the address.
func (p *pseudonyms) host(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	if reverse([]byte(name)) > 0 {
		return p.reversed(labels)
	}
	n := max(len(labels)-2, 0)
	for n < len(labels)-1 && strings.ContainsAny(labels[n], "*?") {
		n++
	}
	var out strings.Builder
	for _, l := range labels[:n] {
		if strings.Trim(l, "*?") != "" {
			l = p.of(aLabel, l)
		}
		out.WriteString(l)
		out.WriteByte('.')
	}
	return out.String() + p.of(aDomain, strings.Join(labels[n:], ".")) + ".invalid"
}

func (p *pseudonyms) reversed(labels []string) string {
	n := len(labels) - 2
	zone := "." + strings.Join(labels[n:], ".")
	numbers := slices.Clone(labels[:n])
	if a, ok := unhex(numbers); ok && n == 32 {
		return p.addr(a, -1) + zone
	}
	slices.Reverse(numbers)
	if a, err := netip.ParseAddr(strings.Join(numbers, ".")); err == nil {
		return p.addr(a, -1) + zone
	}
	return p.of(aLabel, strings.Join(labels[:n], ".")) + zone
}

// ours are addresses that mean the same on every machine.
var ours = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.0.0.0/8"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("100.100.111.0/24"), netip.MustParsePrefix("fd00:2021:1111:8000:100:100:111:0/120"), // resolvers of the tunnel
}

// ranges are the tunnel's own, and tell what their addresses are for.
var ranges = []struct {
	of   netip.Prefix
	kind kind
	bits int // of a prefix that tells nothing
}{
	{netip.MustParsePrefix("100.64.0.0/11"), aPeer4, 11}, {netip.MustParsePrefix("100.96.0.0/11"), aProxy4, 11},
	{netip.MustParsePrefix("fd00:2021:1111:8000::/107"), aProxy6, 107}, {netip.MustParsePrefix("fd00:2021:1111::/48"), aPeer6, 107},
}

// addr makes a pseudonym of an address that keeps its network and family apart
// from others, and whether it is private: "lan1.7", "wan6-2:3". bits is the
// length of its prefix, if it has one.
func (p *pseudonyms) addr(a netip.Addr, bits int) string {
	a = a.WithZone("").Unmap()
	for _, o := range ours {
		if o.Contains(a) {
			return a.String()
		}
	}
	k := kind("")
	for _, r := range ranges {
		if r.of.Contains(a) {
			k = r.kind
			if p, err := a.Prefix(bits); err == nil && p.Addr() == a && bits <= r.bits { // the range itself, or most of it
				return a.String()
			}
			break
		}
	}
	private := a.IsPrivate() || a.IsLinkLocalUnicast()
	if a.Is4() {
		b := a.As4()
		switch {
		case k != "":
		case private:
			k = aLAN4
		default:
			k = aWAN4
		}
		return p.of(k, string(b[:3])) + "." + strconv.Itoa(int(b[3]))
	}
	b := a.As16()
	switch {
	case k != "":
	case private:
		k = aLAN6
	default:
		k = aWAN6
	}
	net := p.of(k, string(b[:8]))
	if [8]byte(b[8:]) == [8]byte{} {
		return net + ":0"
	}
	return net + ":" + p.of(anID6, string(b[8:]))
}
