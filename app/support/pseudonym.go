package support

import (
	"fmt"
	"html"
	"net/netip"
	"slices"
	"strings"

	"encoding/json"
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
	aSecret   kind = "secret"
	aLAN4     kind = "lan" // a private /24
	aWAN4     kind = "wan" // any other /24
	aLAN6     kind = "lan6-"
	aWAN6     kind = "wan6-"
	anID6     kind = "" // the second half of an IPv6 address, in its /64
)

// pseudonyms gives each value one name for as long as the export is made: who
// reads it can tell that two lines speak of the same host, but not of which.
type pseudonyms struct {
	given map[string]string // kind, "\x00" and lower-case value → pseudonym
	count map[kind]int
	// phrases are values known beforehand, wherever they stand, by their first
	// word in lower case; the longest first.
	phrases map[string][]phrase
	begins  [256]bool // first bytes of phrases
}

type phrase struct{ text, pseudonym string }

func newPseudonyms() *pseudonyms {
	return &pseudonyms{given: map[string]string{}, count: map[kind]int{}, phrases: map[string][]phrase{}}
}

// of returns the pseudonym of a value.
func (p *pseudonyms) of(k kind, value string) string {
	key := string(k) + "\x00" + strings.ToLower(value)
	if name, known := p.given[key]; known {
		return name
	}
	p.count[k]++
	format := "%s-%d"
	if strings.HasSuffix(string(k), "-") || len(k) <= 1 || k == aLAN4 || k == aWAN4 {
		format = "%s%d"
	}
	name := fmt.Sprintf(format, k, p.count[k])
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
		site sites state status stile stiled target time token tunnel unknown user users version warning admin test example`) {
		plain[w] = true
	}
}

// learn makes a value known: from here on it is replaced wherever it stands as
// a whole word or words. Values of one or two bytes, and words of our own, are
// replaced only where a field says what they are.
func (p *pseudonyms) learn(k kind, value string) {
	value = strings.TrimSpace(value)
	if len(value) < 3 || plain[strings.ToLower(value)] {
		return
	}
	name := p.of(k, value)
	value = strings.TrimLeftFunc(value, func(r rune) bool { return r < 0x80 && !alphanumeric(byte(r)) }) // words begin with these
	for _, form := range []string{value, quoted(value), html.EscapeString(value)} {
		first := string(lower(nil, form[:min(wordEnd(form), maxFirst)]))
		if first == "" {
			continue
		}
		p.begins[first[0]] = true
		same := func(q phrase) bool { return strings.EqualFold(q.text, form) }
		if slices.ContainsFunc(p.phrases[first], same) {
			continue
		}
		p.phrases[first] = append(p.phrases[first], phrase{form, name})
		slices.SortStableFunc(p.phrases[first], func(a, b phrase) int { return len(b.text) - len(a.text) })
	}
}

// maxFirst is how much of its first word a phrase is found by, in bytes.
const maxFirst = 64

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

// quoted is a value inside a JSON string.
func quoted(value string) string {
	text, err := json.Marshal(value)
	if err != nil {
		return value
	}
	return string(text[1 : len(text)-1])
}

// host makes a pseudonym of a name such as "wiki.corp.example" or
// "*.corp.example" that keeps which names belong together: the last two labels
// are one, each other label is one, wildcards stay.
func (p *pseudonyms) host(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	n := max(len(labels)-2, 0)
	for n < len(labels)-1 && strings.ContainsAny(labels[n], "*?") {
		n++
	}
	out := make([]string, 0, len(labels))
	for _, l := range labels[:n] {
		if strings.Trim(l, "*?") != "" {
			l = p.of(aLabel, l)
		}
		out = append(out, l)
	}
	out = append(out, p.of(aDomain, strings.Join(labels[n:], ".")), "invalid")
	return strings.Join(out, ".")
}

// ours are addresses that mean the same on every machine, or stand for others.
var ours = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd00:2021:1111::/48"), // the tunnel's own
}

// addr makes a pseudonym of an address that keeps its network and family apart
// from others, and whether it is private: "lan1.7", "wan6-2:3".
func (p *pseudonyms) addr(a netip.Addr) string {
	zone := a.Zone()
	a = a.WithZone("").Unmap()
	for _, o := range ours {
		if o.Contains(a) {
			return a.WithZone(zone).String()
		}
	}
	private := a.IsPrivate() || a.IsLinkLocalUnicast()
	if zone != "" {
		zone = "%" + zone
	}
	if a.Is4() {
		b := a.As4()
		k := aWAN4
		if private {
			k = aLAN4
		}
		return fmt.Sprintf("%s.%d", p.of(k, string(b[:3])), b[3])
	}
	b := a.As16()
	k := aWAN6
	if private {
		k = aLAN6
	}
	net := p.of(k, string(b[:8]))
	if [8]byte(b[8:]) == [8]byte{} {
		return net + ":0" + zone
	}
	return net + ":" + p.of(anID6, string(b[8:])) + zone
}
