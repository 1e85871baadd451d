package console

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"stile/app/menu"
)

// A query is what the address of a page asks for. Whatever is in none of its
// fields does not count.
type query struct {
	q     string // words that resources must have
	show  string // which resources: "", "favorites" or "blocked"
	all   bool   // however many there are
	level string // of log lines, the least
	text  string // that log lines must have
	why   string // the host that cannot be reached
}

const maxQuery = 300 // bytes of each field

// ask reads what comes after "?".
func ask(raw string) query {
	if len(raw) > 8<<10 {
		return query{}
	}
	v, _ := url.ParseQuery(raw) // what can be read counts
	q := query{q: field(v, "q"), show: field(v, "show"), all: v.Get("all") == "yes", level: field(v, "level"), text: field(v, "text"), why: field(v, "target")}
	if q.show != "favorites" && q.show != "blocked" {
		q.show = ""
	}
	if _, is := severities[q.level]; !is {
		q.level = ""
	}
	return q
}

func field(v url.Values, name string) string {
	s := v.Get(name)
	if len(s) > maxQuery {
		s = s[:maxQuery]
	}
	return menu.Plain(strings.ToValidUTF8(s, ""))
}

// String is what comes after the page's name in its address.
func (q query) String() string {
	v := url.Values{}
	for _, f := range []struct{ name, value string }{{"q", q.q}, {"show", q.show}, {"level", q.level}, {"text", q.text}, {"target", q.why}} {
		if f.value != "" {
			v.Set(f.name, f.value)
		}
	}
	if q.all {
		v.Set("all", "yes")
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// where reads which page a form wants to go back to. Whatever it says, the
// answer is one of our pages.
func where(back string) (page string, q query) {
	page, raw, _ := strings.Cut(back, "?")
	if pages[page] == nil {
		return string(menu.StatusPage), query{}
	}
	return page, ask(raw)
}

// matches reports whether each of the words of a search is in one of texts.
func matches(search string, texts ...string) bool {
	all := strings.ToLower(strings.Join(texts, "\n"))
	for word := range strings.FieldsSeq(strings.ToLower(search)) {
		if !strings.Contains(all, word) {
			return false
		}
	}
	return true
}

// cut shortens s to n bytes, at the end of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
