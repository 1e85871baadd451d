package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one mistake in the file, or one doubt about it.
type Problem struct {
	Line, Column int    // 1-based; 0: about the file as a whole
	Path         string // "resources[3].address"; "" for the file
	Text         string // what is wrong
	Help         string // what to do about it; may be empty
}

// String is "12:5: resources[3].address: … (…)".
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Text)
	if p.Help != "" {
		b.WriteString("; " + p.Help)
	}
	return b.String()
}

// Problems are the mistakes of one file in the order of their lines. As an
// error they have one line each.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders by place, keeping what stands at the same one in order.
func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return p
}
