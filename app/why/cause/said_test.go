package cause

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"stile/app/words"
	"stile/tunnel/ipc"
)

var update = flag.Bool("update", false, "write the golden files")

// TestWhatIsSaid compares all that is said of all rows with testdata, in each
// language: a change there is a change for users.
func TestWhatIsSaid(t *testing.T) {
	for file, w := range map[string]*words.Words{"english": &words.English, "german": &words.German} {
		var b strings.Builder
		for _, row := range rows() {
			f := works()
			row.make(f)
			r := Judge(*f).In(w)
			fmt.Fprintf(&b, "%s (%s)\n\t%s\n", row.want, row.why, r.Cause)
			if r.Next != "" {
				fmt.Fprintf(&b, "\t%s\n", r.Next)
			}
			for _, s := range r.Steps {
				if s.Detail != r.Cause {
					fmt.Fprintf(&b, "\t\t%s: %s\n", s.Name, s.Detail)
				}
			}
		}
		got := b.String()
		if strings.ContainsAny(got, "{}%") {
			t.Errorf("%s: a place is not filled", file)
		}
		path := "testdata/" + file + ".txt"
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g, n := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range max(len(g), len(n)) {
			if i >= len(g) || i >= len(n) || g[i] != n[i] {
				t.Fatalf("%s, line %d: %q; run with -update if that is meant", path, i+1, g[min(i, len(g)-1)])
			}
		}
	}
}

// TestEveryCodeIsSaidInEveryLanguage: package words compares the languages with
// each other.
func TestEveryCodeIsSaidInEveryLanguage(t *testing.T) {
	for _, tag := range words.Tags() {
		y := words.For(tag).Causes()
		if y.Tag != tag {
			t.Fatalf("%s has no causes", tag)
		}
		coded := map[Code]bool{}
		for _, name := range slices.Sorted(maps.Keys(y.Causes)) {
			code, _, _ := strings.Cut(name, "/")
			if _, known := MeaningOf(Code(code)); !known {
				t.Errorf("%s: %s is no code", tag, name)
			}
			coded[Code(name)] = true
		}
		for _, m := range Meanings {
			if !coded[m.Code] {
				t.Errorf("%s says nothing of %s", tag, m.Code)
			}
		}
		for _, o := range []Outcome{Opened, Refused, Reset, Forbidden, Unreachable, Silent, Strange} {
			if y.Outcomes[string(o)] == "" {
				t.Errorf("%s says nothing of an attempt that is %s", tag, o)
			}
		}
	}
}

// TestNothingIsSaidInVain: each sentence of the tables comes about.
func TestNothingIsSaidInVain(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rows() {
		f := works()
		row.make(f)
		r := Judge(*f)
		texts := []string{r.Cause + "|" + r.Next}
		for _, s := range r.Steps {
			texts = append(texts, s.Detail)
		}
		for _, text := range texts {
			seen[text] = true
		}
	}
	said := func(template string) bool {
		parts := strings.Split(template, "{")
		for text := range seen {
			rest, whole := text, true
			for i, part := range parts {
				if i > 0 {
					_, part, _ = strings.Cut(part, "}")
				}
				_, after, found := strings.Cut(rest, part)
				whole, rest = whole && found, after
			}
			if whole {
				return true
			}
		}
		return false
	}
	y := words.English.Causes()
	for name, c := range y.Causes {
		if !said(c.Cause + "|" + c.Next) {
			t.Errorf("no row has %s", name)
		}
	}
	for name, d := range y.Details {
		if !said(d) {
			t.Errorf("no row has the detail %s", name)
		}
	}
}

// A report of an older program, or read from JSON, stays as it is.
func TestForeignReportsStay(t *testing.T) {
	r := Report{Code: SignedOut, Cause: "C.", Next: "N.", Steps: []Step{{Name: "session", Detail: "D"}}}
	if got := r.In(&words.German); got.Cause != "C." || got.Next != "N." || got.Steps[0].Detail != "D" {
		t.Errorf("%+v", got)
	}
	f := works()
	f.phase(ipc.Connecting, ipc.PortalRefused) // of a service that names no sentence
	english := Judge(*f)
	german := english.In(&words.German)
	if german.Next != "It is so. Do this." || german.Cause == english.Cause || english.Steps[0].Detail == german.Steps[0].Detail {
		t.Errorf("%+v", german)
	}
}
