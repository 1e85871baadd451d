package policy

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The rows of spec client-dns.md 12.1, in its order.
func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"wiki.Example.com", "WIKI.eXAMPLE.com", true},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"a?c", "abbc", false},
		{"a?c", "a.c", false},
		{"a*c", "ac", true},
		{"a*c", "a.c", false},
		{"**.example.com", "example.com", true},
		{"**.example.com", "foo.example.com", true},
		{"**.example.com", "foo.bar.example.com", true},
		{"*.example.com", "foo.example.com", true},
		{"*.example.com", "example.com", true},
		{"*.example.com", "foo.bar.example.com", false},
		{"foo.*.example.com", "foo.bar.example.com", true},
		{"app.*.*.example.com", "app.foo.bar.example.com", true},
		{"app.*.example.com", "app.foo.bar.example.com", false},
		{"app.**.example.com", "app.bar.foo.example.com", true},
		{"app.**.web.**.example.com", "app.web.example.com", true},
		{"app.f??.example.com", "app.foo.example.com", true},
		{"*?*.example.com", "app.example.com", true},
		{"*?*.example.com", "example.com", false},
		{"app.*com", "app.foo.com", false},
		{"app?com", "app.com", false},

		// The topics below the table.
		{"example.com.", "example.com", true},
		{"example.com", "example.com.", true},
		{"*.f?.com", "fo.com", true},
		{"*.F?.com", "x.fo.COM", true},
		{"*.*.example.com", "foo.example.com", true},
		{"*.*.example.com", "example.com", false},
		{"bücher.example", "xn--bcher-kva.example", true},

		{"example.com", "sub.example.com", false},
		{"example.com", "ample.com", false},
		{"example.com", "example.com.evil", false},
		{"*.example.com", "notexample.com", false},
		{"app.**", "app", true},
		{"app.**", "app.x.y", true},
		{"**", "anything.at.all", true},
		{"**.a.**.b", "a.b.a.c.b", true},
		{"**.a.**.b", "b.a", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "a..example.com", false},
		{"**", "", false},
		{"**", ".", false},
		{"**", "a..", false},
	}
	for _, test := range tests {
		p, err := ParsePattern(test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
		}
		if got := p.Match(test.name); got != test.want {
			t.Errorf("%s matches %s: %v, want %v", test.pattern, test.name, got, test.want)
		}
	}
	if (Pattern{}).Match("") || (Pattern{}).Match("example.com") {
		t.Error("the zero pattern matches something")
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for _, s := range []string{"", ".", "a..b", ".a", "a**.example.com", "***.example.com", "[ab].example.com", "a b.example.com",
		"*ü.example.com", "a/b", "a\x00b", strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 128), "a,b", "{a}"} {
		if p, err := ParsePattern(s); err == nil || !p.IsZero() {
			t.Errorf("%q became %q", s, p)
		}
	}
}

// Spec client-dns.md 12.2.
func TestCheckPattern(t *testing.T) {
	good := []string{"example.com", "*.example.com", "**.example.com", "wiki.corp.example", "db-?.internal", "localhost.example", "printer",
		"*.corp", "bücher.example", "*.example.com."}
	for _, s := range good {
		if err := CheckPattern(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	bad := []string{"", "*", "**", "*.*", "?.?", "10.0.0.1", "fd00::1", "example.*", "example.co?", "app.localhost", "localhost", "*.com", "**.org",
		"a_b.example.com", "exa mple.com", "example.com:443", "http://example.com", strings.Repeat("a", 64) + ".com"}
	for _, s := range bad {
		if CheckPattern(s) == nil {
			t.Errorf("%s was accepted", s)
		}
	}
}

// Spec client-dns.md 12.3.
func TestComparePatterns(t *testing.T) {
	want := []string{"example.com", "bar.example.com", "*.bar.example.com", "foo.example.com", "?.example.com", "*.example.com",
		"**.example.com", "*ample.com", "*.com"}
	for seed := range uint64(100) {
		got := make([]Pattern, len(want))
		for i, j := range rand.New(rand.NewPCG(seed, 0)).Perm(len(want)) {
			got[i] = mustPattern(t, want[j])
		}
		slices.SortFunc(got, ComparePatterns)
		for i := range got {
			if got[i].String() != want[i] {
				t.Fatalf("seed %d: %v, want %v", seed, got, want)
			}
		}
	}
	if c := ComparePatterns(mustPattern(t, "A.com"), mustPattern(t, "a.COM.")); c != 0 {
		t.Errorf("equal patterns compare as %d", c)
	}
}

// The model: a pattern is a regular expression over labels.
func TestMatchAgainstRegexp(t *testing.T) {
	for seed := range uint64(20000) {
		rng := rand.New(rand.NewPCG(seed, 12))
		pattern := join(rng, "a", "b", "ab", "?", "*", "**", "a*", "*b", "a?*", "?b")
		name := join(rng, "a", "b", "ab", "aab", "ba", "aabb")
		if got, want := mustPattern(t, pattern).Match(name), model(pattern, name); got != want {
			t.Fatalf("seed %d: %s matches %s: %v, want %v", seed, pattern, name, got, want)
		}
	}
}

// Matching must not try all ways of sharing labels among many "**", nor
// characters among many "*".
func TestMatchIsPolynomial(t *testing.T) {
	started := time.Now()
	deep := mustPattern(t, strings.Repeat("**.a.", 40)+"x")
	long := mustPattern(t, strings.Repeat("*a", 30)+"x.example")
	for range 50 {
		if deep.Match(strings.Repeat("a.", 125) + "y") {
			t.Fatal("matched")
		}
		if long.Match(strings.Repeat("a", 63) + ".example") {
			t.Fatal("matched")
		}
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("100 matches took %v", took)
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("*.example.com", "foo.example.com")
	f.Add("app.**.web.**.example.com", "app.web.example.com")
	f.Add("bücher.example", "xn--bcher-kva.example")
	f.Add("[a].?", "..")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		_ = CheckPattern(pattern)
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		p.Match(name)
		again, err := ParsePattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%q became %q, which becomes %q (%v)", pattern, p, again, err)
		}
		if !strings.ContainsAny(p.String(), "*?") && !p.Match(p.String()) {
			t.Fatalf("%q does not match itself", p)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	p, _ := ParsePattern("app.**.example.com")
	b.ReportAllocs()
	for b.Loop() {
		p.Match("app.foo.bar.example.com")
	}
}

func model(pattern, name string) bool {
	rest, apex := strings.CutPrefix(pattern, "*.")
	return matchRegexp(pattern, name) || apex && matchRegexp(rest, name)
}

func matchRegexp(pattern, name string) bool {
	var re strings.Builder
	for _, label := range strings.Split(pattern, ".") {
		if label == "**" {
			re.WriteString(`([^.]+\.)*`)
			continue
		}
		label = strings.ReplaceAll(label, "?", "[^.]")
		re.WriteString(strings.ReplaceAll(label, "*", "[^.]*") + `\.`)
	}
	return regexp.MustCompile("^" + re.String() + "$").MatchString(name + ".")
}

func join(rng *rand.Rand, labels ...string) string {
	picked := make([]string, 1+rng.IntN(5))
	for i := range picked {
		picked[i] = labels[rng.IntN(len(labels))]
	}
	return strings.Join(picked, ".")
}

func mustPattern(t testing.TB, s string) Pattern {
	t.Helper()
	p, err := ParsePattern(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return p
}
