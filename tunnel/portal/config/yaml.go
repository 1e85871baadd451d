package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds on a file. The largest sensible one, a hundred thousand resources
// with filters, has 15 MB and 1.5 million marks.
const (
	maxBytes    = 32 << 20
	maxMarks    = 2_500_000 // characters that can begin another YAML node, which costs 200 bytes
	maxProblems = 50        // that are told
)

// A reader collects the problems of one file.
type reader struct {
	problems Problems
	warnings Problems
	hidden   int // problems beyond maxProblems
}

// A node is a place in the file, with the way to it.
type node struct {
	*yaml.Node
	parent *node
	key    string // in a mapping
	index  int    // in a list, if key is empty
}

// path is "resources[3].address".
func (n *node) path() string {
	switch {
	case n.parent == nil:
		return ""
	case n.key == "":
		return n.parent.path() + "[" + strconv.Itoa(n.index) + "]"
	case n.parent.parent == nil:
		return n.key
	}
	return n.parent.path() + "." + n.key
}

// problem describes n's place.
func (n *node) problem(text, help string) Problem {
	return Problem{n.Line, n.Column, n.path(), text, help}
}

// fail records a mistake at n: what is wrong and what to do.
func (r *reader) fail(n *node, text, help string) {
	if len(r.problems) == maxProblems {
		r.hidden++
		return
	}
	r.problems = append(r.problems, n.problem(text, help))
}

// warn records a doubt about n.
func (r *reader) warn(n *node, text, help string) {
	if len(r.warnings) < maxProblems {
		r.warnings = append(r.warnings, n.problem(text, help))
	}
}

// err returns the mistakes in the order of the file, nil if there are none.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	all := r.problems.sorted()
	if r.hidden > 0 {
		all = append(all, Problem{Text: fmt.Sprintf("%d further problems are not shown", r.hidden)})
	}
	return all
}

// document parses text into its one root mapping.
func (r *reader) document(text []byte) (*node, bool) {
	root := &node{Node: &yaml.Node{}}
	if err := checkSize(text); err != nil {
		r.fail(root, err.Error(), "split the account or remove what is not needed")
		return nil, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.fail(root, "the file is empty", "`stile-server portal init` writes one to start from")
		return nil, false
	case err != nil:
		r.problems = append(r.problems, syntaxProblem(err))
		return nil, false
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		r.fail(root, "the file has more than one document", "remove what follows the first line with ---")
		return nil, false
	}
	root.Node = doc.Content[0]
	if root.Kind != yaml.MappingNode {
		r.fail(root, "the file is "+kindOf(root)+", not settings", "begin with `account:`")
		return nil, false
	}
	return root, true
}

// checkSize refuses what would cost too much before anything is built from it.
func checkSize(text []byte) error {
	if len(text) > maxBytes {
		return fmt.Errorf("the file has %d MB; the limit is %d", len(text)>>20, maxBytes>>20)
	}
	marks := 0
	for _, c := range text {
		switch c {
		case '\n', ',', ':', '[', '{', '-', '?':
			marks++
		}
	}
	if marks > maxMarks {
		return fmt.Errorf("the file has more than about %d values", maxMarks)
	}
	return nil
}

var syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxProblem finds the line in what the YAML parser says.
func syntaxProblem(err error) Problem {
	p := Problem{Text: "this is not YAML: " + err.Error(), Help: "look at indentation, colons and quotes there and just above"}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		p.Text = "this is not YAML: " + m[2]
		if line, err := strconv.Atoi(m[1]); err == nil {
			p.Line, p.Column = line, 1
		}
	}
	return p
}

func kindOf(n *node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.Tag == "!!null" {
		return "empty"
	}
	return "a single value"
}

// want reports whether n is of kind, and complains if not.
func (r *reader) want(n *node, kind yaml.Kind, what string) bool {
	switch {
	case n.Kind == kind && (kind != yaml.ScalarNode || n.Tag != "!!null"):
		return true
	case n.Kind == yaml.AliasNode:
		r.fail(n, "aliases are not supported", "write the value out")
	default:
		r.fail(n, "is "+kindOf(n), "write "+what)
	}
	return false
}

// A field reads one key of a mapping.
type field struct {
	name string
	read func(*node)
}

// fields reads a mapping. Unknown and repeated keys are mistakes: a setting
// that does nothing is worse than an error.
func (r *reader) fields(n *node, fields ...field) {
	if !r.want(n, yaml.MappingNode, "settings as `name: value`") {
		return
	}
	var seen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], &node{Node: n.Content[i+1], parent: n, key: n.Content[i].Value}
		at := &node{Node: name, parent: n, key: name.Value}
		f := slices.IndexFunc(fields, func(f field) bool { return f.name == name.Value })
		switch {
		case f < 0:
			r.fail(&node{Node: name, parent: n.parent, key: n.key, index: n.index}, fmt.Sprintf("unknown setting %.60q", name.Value), didYouMean(name.Value, fields))
		case slices.Contains(seen, name.Value):
			r.fail(at, "is given twice", "keep one of them")
		default:
			seen = append(seen, name.Value)
			fields[f].read(value)
		}
	}
}

// each reads a list; an empty value is an empty list.
func (r *reader) each(n *node, read func(*node)) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if !r.want(n, yaml.SequenceNode, "a list, each element behind a dash") {
		return
	}
	for i, element := range n.Content {
		read(&node{Node: element, parent: n, index: i})
	}
}

// text reads a single value as it is written.
func (r *reader) text(n *node) (string, bool) {
	if !r.want(n, yaml.ScalarNode, "one value") {
		return "", false
	}
	switch n.Tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
	default:
		r.fail(n, "has the tag "+n.Tag, "remove the tag")
		return "", false
	}
	if n.Value == "" {
		r.fail(n, "is empty", "write a value or remove the line")
		return "", false
	}
	return n.Value, true
}

// textInto is text for a field that needs no check.
func (r *reader) textInto(dst *string) func(*node) {
	return func(n *node) { *dst, _ = r.text(n) }
}

// boolInto reads true or false.
func (r *reader) boolInto(dst *bool) func(*node) {
	return func(n *node) {
		if s, ok := r.text(n); ok && s != "true" && s != "false" {
			r.fail(n, fmt.Sprintf("%.20q is neither true nor false", s), "")
		} else {
			*dst = s == "true"
		}
	}
}

// durationInto reads a session length: Go's notation, and days with "d".
func (r *reader) durationInto(dst *time.Duration) func(*node) {
	return func(n *node) {
		s, ok := r.text(n)
		if !ok {
			return
		}
		d, err := ParseDuration(s)
		switch {
		case err != nil:
			r.fail(n, fmt.Sprintf("%.20q is not a length of time", s), "write it like 12h or 7d")
		case d < MinSession || d > MaxSession:
			r.fail(n, fmt.Sprintf("%s is not between 1h and 90d", s), "")
		default:
			*dst = d
		}
	}
}

// ParseDuration reads what Go's time package does, and days with "d".
func ParseDuration(s string) (time.Duration, error) {
	days, isDays := strings.CutSuffix(s, "d")
	if !isDays {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	return time.Duration(n) * 24 * time.Hour, err
}

// didYouMean names the setting that was probably meant, or all there are.
func didYouMean(name string, fields []field) string {
	best, distance := "", 3
	var names []string
	for _, f := range fields {
		if d := editDistance(name, f.name); d < distance {
			best, distance = f.name, d
		}
		names = append(names, f.name)
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "there are " + strings.Join(names, ", ")
}

// editDistance counts the letters to insert, remove or replace, up to about
// the length of a setting's name.
func editDistance(a, b string) int {
	if len(a) > 40 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
