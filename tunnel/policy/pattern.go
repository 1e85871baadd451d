package policy

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// A Pattern names the domain names of a DNS resource (spec client-dns.md 12.1).
// Labels are separated by dots:
//
//   - "?" is exactly one character of a label, "*" any number of them;
//   - "**" as a whole label is any number of labels, also none;
//   - a leading "*." covers the name without that label, too.
//
// Everything else is literal; letter case does not count. The zero Pattern
// matches nothing. Patterns are comparable.
type Pattern struct{ text string } // lower case, labels not empty, A-labels for Unicode

// maxName is the longest domain name, in characters without the root's dot.
const maxName = 253

// ParsePattern reads a pattern, tolerating one trailing dot. Labels with
// letters beyond ASCII become A-labels; they cannot hold wildcards. It accepts
// more than a portal should: see CheckPattern.
func ParsePattern(s string) (Pattern, error) {
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	for i, label := range labels {
		ascii, err := parseLabel(label)
		if err != nil {
			return Pattern{}, fmt.Errorf("pattern %.60q: %w", s, err)
		}
		labels[i] = ascii
	}
	text := strings.Join(labels, ".")
	if len(text) > maxName {
		return Pattern{}, fmt.Errorf("pattern %.60q: longer than %d characters", s, maxName)
	}
	return Pattern{text}, nil
}

// parseLabel checks one label and returns it in lower-case ASCII.
func parseLabel(label string) (string, error) {
	switch {
	case label == "":
		return "", errors.New("empty label")
	case label == "**":
		return label, nil
	case strings.Contains(label, "**"):
		return "", errors.New("** must be a label of its own")
	case !isASCII(label):
		if strings.ContainsAny(label, "*?") {
			return "", errors.New("a label cannot have both wildcards and letters beyond a-z")
		}
		a, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", fmt.Errorf("label %.60q cannot be part of a domain name", label)
		}
		label = a
	}
	for i := range len(label) {
		if !patternChar(label[i]) {
			return "", fmt.Errorf("character %q", label[i])
		}
	}
	if len(label) > 63 {
		return "", errors.New("label longer than 63 characters")
	}
	return strings.ToLower(label), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func patternChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_*?", c) >= 0
}

// String returns the pattern in lower case without a trailing dot.
func (p Pattern) String() string { return p.text }

// IsZero reports whether p is the zero Pattern.
func (p Pattern) IsZero() bool { return p.text == "" }

// Match reports whether p covers name, given with or without the root's dot,
// in A-label form. The time is at most proportional to the square of the
// lengths: each kind of wildcard goes back only to the last of its kind.
func (p Pattern) Match(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if p.text == "" || name == "" || len(name) > maxName || name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, "..") {
		return false
	}
	if matchLabels(p.text, name) {
		return true
	}
	apex, ok := strings.CutPrefix(p.text, "*.")
	return ok && matchLabels(apex, name)
}

// matchLabels matches label by label. What remains of either side is empty
// exactly at its end, since no label is.
func matchLabels(pattern, name string) bool {
	var retryPattern, retryName string // after the last "**", and the name to try there next
	starred := false
	for name != "" {
		want, restPattern := cutLabel(pattern)
		if want == "**" {
			starred, retryPattern, retryName = true, restPattern, name
			pattern = restPattern
			continue
		}
		got, restName := cutLabel(name)
		if pattern != "" && matchLabel(want, got) {
			pattern, name = restPattern, restName
			continue
		}
		if !starred {
			return false
		}
		_, retryName = cutLabel(retryName) // "**" takes one label more
		pattern, name = retryPattern, retryName
	}
	for pattern != "" { // only "**" matches nothing
		var want string
		if want, pattern = cutLabel(pattern); want != "**" {
			return false
		}
	}
	return true
}

func cutLabel(s string) (label, rest string) {
	label, rest, _ = strings.Cut(s, ".")
	return label, rest
}

// matchLabel matches one label with "*" and "?". pattern is in lower case.
func matchLabel(pattern, label string) bool {
	p, n := 0, 0
	retryP, retryN := -1, 0 // after the last "*", and where in the label to try next
	for n < len(label) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			p++
			retryP, retryN = p, n
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == lower(label[n])):
			p++
			n++
		case retryP >= 0:
			retryN++
			p, n = retryP, retryN
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// ComparePatterns orders patterns by specificity: negative if a is the more
// specific one and so comes first, zero only if they are equal. It compares
// from the right (spec client-dns.md 12.3).
func ComparePatterns(a, b Pattern) int {
	for i := 1; ; i++ {
		x, y := rank(a.text, i), rank(b.text, i)
		if x != y {
			return x - y
		}
		if x == 0 {
			return 0
		}
	}
}

// rank orders what may stand at the i-th place from the right: the end, then
// literals in descending order, then "?", then "*".
func rank(s string, i int) int {
	if i > len(s) {
		return 0
	}
	switch c := s[len(s)-i]; c {
	case '*':
		return 1001
	case '?':
		return 1000
	default:
		return 256 - int(c)
	}
}
