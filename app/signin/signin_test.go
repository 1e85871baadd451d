package signin

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"stile/app/words"
	"stile/tunnel/ipc"
)

const redirect = "http://127.0.0.1:4711/signed-in"

func begin(t testing.TB, redirect string) *Attempt {
	t.Helper()
	a, err := Begin(Options{Base: "https://portal.example.net", Account: "acme", Redirect: redirect}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// answer is what the portal would send to.
func answer(a *Attempt, changes ...string) string {
	v := url.Values{
		"account_name": {"Acme"}, "account_slug": {"acme"}, "actor_name": {"Alice Doe"}, "fragment": {".frag-_="},
		"identity_provider_identifier": {"x"}, "state": {a.state},
	}
	for i := 0; i < len(changes); i += 2 {
		v.Set(changes[i], changes[i+1])
	}
	to := "firezone-fd0020211111://" + callbackHost
	if a.redirect != nil {
		to = a.redirect.String()
	}
	return to + "?" + v.Encode()
}

func TestAddressToOpen(t *testing.T) {
	for _, row := range []struct {
		o    Options
		want string
	}{
		{Options{Base: "https://app.example.net", Account: "acme"}, `https://app.example.net/acme\?as=gui-client&nonce=[0-9a-f]{64}&state=[0-9a-f]{64}`},
		{Options{Base: "https://app.example.net/"}, `https://app.example.net/\?as=gui-client&nonce=[0-9a-f]{64}&state=[0-9a-f]{64}`},
		{Options{Base: "https://app.example.net:8443/stile/", Account: "acme"}, `https://app.example.net:8443/stile/acme\?as=gui-client&nonce=[0-9a-f]{64}&state=[0-9a-f]{64}`},
		{Options{Base: "http://localhost:8080", Redirect: redirect}, `http://localhost:8080/\?as=gui-client&nonce=[0-9a-f]{64}&redirect_uri=http%3A%2F%2F127.0.0.1%3A4711%2Fsigned-in&state=[0-9a-f]{64}`},
		{Options{Base: "http://[::1]:8080"}, `http://\[::1\]:8080/\?as=gui-client&nonce=[0-9a-f]{64}&state=[0-9a-f]{64}`},
	} {
		a, err := Begin(row.o, rand.Reader)
		if err != nil || !regexp.MustCompile("^"+row.want+"$").MatchString(a.URL()) {
			t.Errorf("%+v: %s, %v", row.o, a.URL(), err)
		}
		if a.nonce == a.state {
			t.Error("nonce and state are the same")
		}
	}
	one, two := begin(t, ""), begin(t, "")
	if one.nonce == two.nonce || one.state == two.state {
		t.Error("two attempts share a secret")
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for _, o := range []Options{
		{}, {Base: "portal.example.net"}, {Base: "ftp://portal.example.net"}, {Base: "javascript:alert(1)"}, {Base: "https://"},
		{Base: "https://user:pw@portal.example.net"}, {Base: "https://portal.example.net/?x=y"}, {Base: "https://portal.example.net/#x"},
		{Base: "http://portal.example.net"}, {Base: "http://127.0.0.1.example.net"}, {Base: "https://portal.example.net", Account: "../x"},
		{Base: "https://portal.example.net", Account: "a/b"}, {Base: "https://portal.example.net\n"},
	} {
		if a, err := Begin(o, rand.Reader); err == nil {
			t.Errorf("%+v: %s", o, a.URL())
		}
	}
	if _, err := Begin(Options{Base: "https://x.example"}, bytes.NewReader(make([]byte, 63))); err == nil {
		t.Error("began without enough randomness")
	}
}

func TestTokenIsNonceAndFragment(t *testing.T) {
	for _, to := range []string{"", redirect} {
		a := begin(t, to)
		r, err := a.Finish(answer(a))
		if err != nil || r.Token.Reveal() != a.nonce+".frag-_=" || r.Account != "acme" || r.Actor != "Alice Doe" {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// One row per rule of portal.md 6.1, steps 5 and 6.
func TestAnswers(t *testing.T) {
	a := begin(t, "")
	good := answer(a)
	base, query, _ := strings.Cut(good, "?")
	for _, row := range []struct {
		what, callback string
		want           error
	}{
		{"path /", base + "/?" + query, nil},
		{"another scheme", "stile://" + callbackHost + "?" + query, nil},
		{"empty names", answer(a, "account_slug", "", "actor_name", ""), nil},
		{"unknown parameters", good + "&x=y&x=z", nil},

		{"another host", "firezone-fd0020211111://handle_client_sign_in?" + query, ErrIncomplete},
		{"a host with a port", "firezone-fd0020211111://" + callbackHost + ":80?" + query, ErrIncomplete},
		{"another path", base + "/x?" + query, ErrIncomplete},
		{"a user", strings.Replace(good, "://", "://me@", 1), ErrIncomplete},
		{"a loopback address, though nobody listens", redirect + "?" + query, ErrIncomplete},
		{"no host", "firezone-fd0020211111:?" + query, ErrIncomplete},
		{"two states", good + "&state=" + a.state, ErrIncomplete},
		{"two fragments", good + "&fragment=.x", ErrIncomplete},
		{"no account", strings.Replace(good, "account_slug", "slug", 1), ErrIncomplete},
		{"no actor", strings.Replace(good, "actor_name", "actor", 1), ErrIncomplete},
		{"no fragment", strings.Replace(good, "fragment", "frag", 1), ErrIncomplete},
		{"an empty fragment", answer(a, "fragment", ""), ErrIncomplete},
		{"a fragment that is no token", answer(a, "fragment", "ä"), ErrIncomplete},
		{"no state", strings.Replace(good, "state", "stat", 1), ErrIncomplete},
		{"a broken escape", good + "&x=%zz", ErrIncomplete},
		{"a semicolon", good + ";x=y", ErrIncomplete},
		{"too long", good + "&x=" + strings.Repeat("y", maxCallback), ErrIncomplete},
		{"nothing", "", ErrIncomplete},

		{"another state", answer(a, "state", strings.Repeat("0", 64)), ErrForged},
		{"an empty state", answer(a, "state", ""), ErrForged},
		{"half a state", answer(a, "state", a.state[:32]), ErrForged},
		{"the nonce as state", answer(a, "state", a.nonce), ErrForged},
		{"upper case", answer(a, "state", strings.ToUpper(a.state)+"!"), ErrForged},
	} {
		fresh := *a
		r, err := fresh.Finish(row.callback)
		if !errors.Is(err, row.want) || (err == nil) != (r.Token != "") {
			t.Errorf("%s: %+v, %v", row.what, r, err)
		}
		if err != nil {
			if _, err := fresh.Finish(good); err != nil {
				t.Errorf("%s ends the sign-in: %v", row.what, err)
			}
		}
	}
}

func TestAnswersToALoopbackAddress(t *testing.T) {
	a := begin(t, redirect)
	_, query, _ := strings.Cut(answer(a), "?")
	for _, to := range []string{"http://127.0.0.1:4712/signed-in", "http://127.0.0.1:4711/", "https://127.0.0.1:4711/signed-in", "http://localhost:4711/signed-in", "firezone-fd0020211111://127.0.0.1:4711/signed-in"} {
		if _, err := a.Finish(to + "?" + query); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: %v", to, err)
		}
	}
	for _, to := range []string{redirect, "firezone-fd0020211111://" + callbackHost, "stile://" + callbackHost + "/"} {
		fresh := *a
		if _, err := fresh.Finish(to + "?" + query); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// code is what our portal's page shows instead of an address.
func code(address string) string {
	_, query, _ := strings.Cut(address, "?")
	return base64.RawURLEncoding.EncodeToString([]byte(query))
}

func TestPastedAnswers(t *testing.T) {
	a := begin(t, redirect)
	good := code(answer(a))
	for _, row := range []struct {
		what, text string
		want       error
	}{
		{"the code", good, nil},
		{"wrapped and indented", " " + good[:40] + "\r\n  \u200b" + good[40:] + "\n", nil},
		{"the address of the page", answer(a), nil},
		{"the address of a link to the application", strings.Replace(answer(a), redirect, "firezone-fd0020211111://"+callbackHost, 1), nil},

		{"nothing", " \n", ErrNoCode},
		{"half of it", good[:len(good)/2], ErrNoCode},
		{"a token", ".secret", ErrNoCode},
		{"a word", "hello", ErrNoCode},
		{"more than a page shows", strings.Repeat("A", 4*maxCallback), ErrNoCode},
		{"another address", "https://portal.example.net/acme", ErrNoCode},
		{"the code of another sign-in", code(answer(begin(t, ""))), ErrForged},
	} {
		fresh := *a
		r, err := fresh.Paste(row.text)
		if !errors.Is(err, row.want) || err == nil && r.Token.Reveal() != a.nonce+".frag-_=" {
			t.Errorf("%s: %v", row.what, err)
		}
		if _, again := fresh.Paste(good); err == nil && again != ErrRepeated || err != nil && again != nil {
			t.Errorf("%s, then the right one: %v", row.what, again)
		}
	}
}

func TestRepeatedLateAndForgedAnswersExplainThemselves(t *testing.T) {
	a := begin(t, "")
	a.Finish(answer(a))
	if r, err := a.Finish(answer(a)); !errors.Is(err, ErrRepeated) || r.Token != "" {
		t.Errorf("repeated: %+v, %v", r, err)
	}
	if _, err := a.Finish(answer(a, "state", "x")); !errors.Is(err, ErrForged) {
		t.Errorf("forged after the end: %v", err)
	}
	a.Cancel()
	if _, err := a.Finish(answer(a)); !errors.Is(err, ErrRepeated) {
		t.Errorf("cancelled after the end: %v", err)
	}
	b := begin(t, "")
	b.Cancel()
	if r, err := b.Finish(answer(b)); !errors.Is(err, ErrLate) || r.Token != "" {
		t.Errorf("late: %+v, %v", r, err)
	}
	if _, err := b.Finish(answer(a)); !errors.Is(err, ErrForged) {
		t.Errorf("of another attempt: %v", err)
	}
}

func TestExplanations(t *testing.T) {
	told := map[string]bool{}
	for _, w := range []*words.Words{&words.English, &words.German} {
		for _, err := range []error{nil, ErrRepeated, ErrForged, ErrLate, ErrIncomplete, ErrNoCode} {
			told[Explain(w, err)] = true
		}
	}
	if len(told) != 12 || told[""] {
		t.Error(told)
	}
}

func TestNamesFitIntoACommand(t *testing.T) {
	for _, row := range []struct{ slug, actor, wantSlug, wantActor string }{
		{"acme", "Zoë 東京", "acme", "Zoë 東京"},
		{"../x", " a\x1b[31mb\n\u202ec\xff ", "", "a [31mb  c"},
		{strings.Repeat("x", 101), strings.Repeat("é", 150), "", strings.Repeat("é", 100)},
	} {
		a := begin(t, "")
		r, err := a.Finish(answer(a, "account_slug", row.slug, "actor_name", row.actor))
		if err != nil || r.Account != row.wantSlug || r.Actor != row.wantActor {
			t.Errorf("%q, %q: %+v, %v", row.slug, row.actor, r, err)
		}
		if _, err := ipc.AppendRequest(nil, ipc.Request{Command: ipc.SignIn{Token: r.Token, AccountSlug: r.Account, Actor: r.Actor}}); err != nil {
			t.Error(err)
		}
	}
}

func TestPastedTokens(t *testing.T) {
	if got, err := Page("https://app.example.net", "acme"); err != nil || got != "https://app.example.net/acme?as=headless-client" {
		t.Error(got, err)
	}
	if _, err := Page("http://app.example.net", ""); err == nil {
		t.Error("a password over http")
	}
	if r, err := Paste(" .abc\n-def \n"); err != nil || r.Token.Reveal() != ".abc-def" {
		t.Error(r.Token.Reveal(), err)
	}
	for text, want := range map[string]string{"": "empty", "\n": "empty", "https://app.example.net/acme?as=headless-client": "address", "wörd": "not a token"} {
		if _, err := Paste(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestBase(t *testing.T) {
	for portal, want := range map[string]string{
		"wss://portal.example.net": "https://portal.example.net", "wss://portal.example.net:8443/x/": "https://portal.example.net:8443/x/",
		"ws://localhost:80": "http://localhost:80", "https://a.example": "https://a.example", "": "", "portal": "", "%": "",
	} {
		if got, err := Base(portal); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v", portal, got, err)
		}
	}
}

// Whatever comes back, there is a token only for who knows the state, and the
// token is ours in its first half.
func FuzzFinish(f *testing.F) {
	a, err := Begin(Options{Base: "https://portal.example.net"}, bytes.NewReader(make([]byte, 64)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer(a), "")
	f.Add(answer(a, "actor_name", "\x1b]0;x\a"), "")
	f.Add(redirect+"?state="+a.state+"&fragment=x&actor_name=&account_slug=", redirect)
	f.Add("firezone-fd0020211111://handle_client_sign_in_callback?state=%30", "")
	f.Fuzz(func(t *testing.T, callback, to string) {
		a, err := Begin(Options{Base: "https://portal.example.net", Redirect: to}, bytes.NewReader(make([]byte, 64)))
		if err != nil {
			return
		}
		r, err := a.Finish(callback)
		if err != nil {
			if r2, err := a.Paste(code("?" + callback)); err == nil { // the same words as a code
				if again, err := a.Paste(code("?" + callback)); err != ErrRepeated || again != (Result{}) || !strings.HasPrefix(r2.Token.Reveal(), a.nonce) {
					t.Fatal(err)
				}
			}
			if r != (Result{}) {
				t.Fatalf("%+v, %v", r, err)
			}
			return
		}
		text, _ := url.QueryUnescape(callback)
		if !strings.Contains(text, a.state) || !strings.HasPrefix(r.Token.Reveal(), a.nonce) || len(r.Token) == len(a.nonce) {
			t.Fatalf("%q gave a token", callback)
		}
		if _, err := ipc.AppendRequest(nil, ipc.Request{Command: ipc.SignIn{Token: r.Token, AccountSlug: r.Account, Actor: r.Actor}}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Finish(callback); !errors.Is(err, ErrRepeated) {
			t.Fatalf("taken twice: %v", err)
		}
	})
}

func FuzzPaste(f *testing.F) {
	f.Add(" .abc\n-def \n")
	f.Add("\ufeffx")
	a, err := Begin(Options{Base: "https://portal.example.net"}, bytes.NewReader(make([]byte, 64)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(code(answer(a)))
	f.Add(answer(a))
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Begin(Options{Base: "https://portal.example.net"}, bytes.NewReader(make([]byte, 64)))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := a.Paste(text); (err == nil) != strings.HasPrefix(r.Token.Reveal(), a.nonce) {
			t.Fatalf("%+v, %v", r, err)
		} else if _, again := a.Paste(text); err == nil && again != ErrRepeated {
			t.Fatalf("taken twice: %v", again)
		}
		r, err := Paste(text)
		if err != nil {
			return
		}
		if again, err := Paste(r.Token.Reveal()); err != nil || again != r {
			t.Fatalf("%q → %q, %v", r.Token.Reveal(), again.Token.Reveal(), err)
		}
		if _, err := ipc.AppendRequest(nil, ipc.Request{Command: ipc.SignIn{Token: r.Token}}); err != nil {
			t.Fatal(err)
		}
	})
}
