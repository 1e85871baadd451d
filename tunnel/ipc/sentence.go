package ipc

import (
	"slices"
	"strings"
)

// Fill puts values into the places of a template, which are named in braces:
// "{portal} does not answer." They are inserted as they are. It reports whether
// there is a template, and a value for each of its places.
func Fill(template string, with map[string]string) (text string, ok bool) {
	var b strings.Builder
	for rest := template; ; {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return b.String(), template != ""
		}
		name, after, closed := strings.Cut(after, "}")
		value, there := with[name]
		if !closed || !there {
			return "", false
		}
		b.WriteString(value)
		rest = after
	}
}

// Places lists the names of a template's places, each once, in their order.
func Places(template string) (names []string) {
	for rest := template; ; {
		_, after, found := strings.Cut(rest, "{")
		name, after, closed := strings.Cut(after, "}")
		if !found || !closed {
			return names
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		rest = after
	}
}
