// Package man makes the manual page of a program from the description that the
// program reads its command line by, and from a text that people wrote.
package man

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"stile/build/stamp"
)

// Page makes a page of a section of the manual, in the language of man(7). text
// has that language, too: its sections NAME and DESCRIPTION, in this order, and
// others. How to call the program goes before DESCRIPTION; commands and options,
// but for hidden ones, go behind it.
func Page(app *kong.Application, section string, day time.Time, text string) (string, error) {
	name, rest, found := strings.Cut(text, ".SH DESCRIPTION\n")
	description, others, more := strings.Cut(rest, ".SH ")
	if !found || !more || !strings.HasPrefix(name, ".SH NAME\n") {
		return "", fmt.Errorf("the text for the page of %s must have the sections NAME, DESCRIPTION and others", app.Name)
	}
	p := new(page)
	p.line(".TH %s %s %s %q Stile", plain(strings.ToUpper(app.Name)), section, day.Format(time.DateOnly), "Stile "+stamp.Version)
	p.WriteString(name)
	p.line(".SH SYNOPSIS")
	p.synopsis(app.Node)
	p.line(".SH DESCRIPTION\n%s", strings.TrimSuffix(description, "\n"))
	p.commands(app.Node)
	p.line(".SH OPTIONS")
	if len(app.Children) > 0 {
		p.line("All commands take these.")
	}
	p.options(app.Node)
	p.WriteString(".SH " + others)
	return p.String(), nil
}

type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) synopsis(n *kong.Node) {
	if len(n.Children) > 0 {
		p.line(`\fB%s\fR \fIcommand\fR [\fIoption\fR ...]`, plain(n.Name))
		return
	}
	p.line(`\fB%s\fR [\fIoption\fR ...]`, plain(n.Name))
}

// commands describes the commands below n, each with those below it.
func (p *page) commands(n *kong.Node) {
	for _, c := range n.Children {
		if c.Hidden {
			continue
		}
		if n.Type == kong.ApplicationNode && c == firstVisible(n) {
			p.line(".SH COMMANDS")
		}
		words := []string{plain(c.FullPath())}
		for _, a := range c.Positional {
			words = append(words, plain(a.Summary()))
		}
		p.line(".SS %s\n%s", strings.Join(words, " "), plain(c.Help))
		for _, a := range c.Positional {
			p.line(".TP\n\\fI%s\\fR\n%s", plain("<"+a.Name+">"), explain(a))
		}
		p.options(c)
		p.commands(c)
	}
}

func firstVisible(n *kong.Node) *kong.Node {
	return n.Children[slices.IndexFunc(n.Children, func(c *kong.Node) bool { return !c.Hidden })]
}

// options describes the options of n alone.
func (p *page) options(n *kong.Node) {
	for _, f := range n.Flags {
		if f.Hidden {
			continue
		}
		form := `\fB\-\-` + plain(f.Name) + `\fR`
		if f.Short != 0 {
			form = `\fB\-` + plain(string(f.Short)) + `\fR, ` + form
		}
		if !f.IsBool() {
			form += `=\fI` + plain(placeholder(f)) + `\fR`
		}
		p.line(".TP\n%s\n%s", form, explain(f.Value))
		if text := among(f, n.Flags); text != "" {
			p.line("%s", text)
		}
	}
}

// among says what an option means for the others of its command.
func among(f *kong.Flag, all []*kong.Flag) string {
	var others []string
	for _, o := range all {
		if o != f && slices.ContainsFunc(o.Xor, func(kind string) bool { return slices.Contains(f.Xor, kind) }) {
			others = append(others, `\fB\-\-`+plain(o.Name)+`\fR`)
		}
	}
	switch {
	case f.Required && others == nil:
		return "Required."
	case f.Required:
		return "Either this is required or one of " + strings.Join(others, ", ") + "."
	case others != nil:
		return "Not together with " + strings.Join(others, ", ") + "."
	}
	return ""
}

// placeholder stands for the value of an option: without one of its own, it is
// the last word of the option's name.
func placeholder(f *kong.Flag) string {
	name := f.PlaceHolder
	if name == "" {
		name = strings.ToUpper(f.Name[strings.LastIndexByte(f.Name, '-')+1:])
	}
	if f.IsCumulative() {
		name += ",..."
	}
	return name
}

// explain says what a value is for, and where else it may come from.
func explain(v *kong.Value) string {
	text := []string{plain(v.Help)}
	if v.Default != "" && !v.IsBool() {
		text = append(text, `The default is \fB`+plain(v.Default)+`\fR.`)
	}
	if len(v.Tag.Envs) > 0 {
		var names []string
		for _, e := range v.Tag.Envs {
			names = append(names, `\fB`+plain(e)+`\fR`)
		}
		text = append(text, "Environment: "+strings.Join(names, ", ")+".")
	}
	return strings.Join(text, "\n")
}

// plain writes text so that it stands on the page as it is. Hyphens become
// those that can be copied into a command line.
func plain(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
