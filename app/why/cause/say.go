package cause

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"stile/app/words"
	"stile/tunnel/ipc"
)

// A text is something to say, in whatever language; nil is nothing.
type text func(w *words.Words) string

func (t text) in(w *words.Words) string {
	if t == nil {
		return ""
	}
	return t(w)
}

// A with is what fills the places of a sentence: strings, numbers, addresses,
// durations, what the service said, or texts.
type with map[string]any

// say is a sentence of a table, which pick finds. What a language lacks is said
// in English.
func say(pick func(y *words.Why) string, with with) text {
	return func(w *words.Words) string {
		for _, w := range []*words.Words{w, &words.English} {
			values := map[string]string{}
			for name, value := range with {
				values[name] = inserted(w, value)
			}
			if said, ok := ipc.Fill(pick(w.Causes()), values); ok {
				return said
			}
		}
		return ""
	}
}

// inserted is a value as it stands in a sentence.
func inserted(w *words.Words, value any) string {
	switch v := value.(type) {
	case text:
		return v.in(w)
	case []netip.Addr:
		return list(w, v)
	case time.Duration:
		return brief(w, v)
	case *ipc.Problem:
		return w.Problem(v)
	}
	return fmt.Sprint(value)
}

// because is a finding that accuses. The name of its sentences is that of its
// code.
func because(code Code, with with) finding { return becauseOf(code, "", with) }

// becauseOf is because for one of several ways to say it.
func becauseOf(code Code, way string, with with) finding {
	name := string(code)
	if way != "" {
		name += "/" + way
	}
	cause := say(func(y *words.Why) string { return y.Causes[name].Cause }, with)
	return finding{code: code, cause: cause, next: say(func(y *words.Why) string { return y.Causes[name].Next }, with), detail: cause}
}

// detail is what holds of a link.
func detail(name string, with with) text {
	return say(func(y *words.Why) string { return y.Details[name] }, with)
}

// In is the report in a language. One that was read from JSON stays as it is.
func (r Report) In(w *words.Words) Report {
	if r.said == nil {
		return r
	}
	r.Cause, r.Next = r.said.cause.in(w), r.said.next.in(w)
	r.Steps = slices.Clone(r.Steps)
	for i, d := range r.said.details {
		r.Steps[i].Detail = d.in(w)
	}
	return r
}

// list is addresses, of many the first.
func list(w *words.Words, addrs []netip.Addr) string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	if len(texts) > 4 {
		texts = append(texts[:3], w.Causes().More(strconv.Itoa(len(texts)-3)))
	}
	return strings.Join(texts, ", ")
}

// brief is a duration for people.
func brief(w *words.Words, d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return strings.Replace(fmt.Sprintf("%.1f s", d.Seconds()), ".", w.Console().DecimalPoint, 1)
}

// orOthers are resolvers that may not be known.
func orOthers(resolvers []netip.Addr) text {
	return func(w *words.Words) string {
		if len(resolvers) == 0 {
			return w.Causes().Others
		}
		return list(w, resolvers)
	}
}

// at names the sites of an Access after its gateway, and named after "site".
func at(a *ipc.Access) text {
	return sites(a, func(y *words.Why) func(string) string { return y.At })
}

func named(a *ipc.Access) text {
	return sites(a, func(y *words.Why) func(string) string { return y.Named })
}

func sites(a *ipc.Access, phrase func(y *words.Why) func(string) string) text {
	return func(w *words.Words) string {
		if a == nil || len(a.Sites) == 0 {
			return ""
		}
		var quoted []string
		for _, s := range a.Sites {
			quoted = append(quoted, w.Causes().Quote(s))
		}
		return phrase(w.Causes())(strings.Join(quoted, ", "))
	}
}
