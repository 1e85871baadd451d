package menu

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"stile/app/words"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

var update = flag.Bool("update", false, "write the golden menus anew")

// golden are the views of spec desktop-client.md 9, and ours beyond it.
var golden = []struct {
	name string
	view View
}{
	{"looking", View{Service: Looking}},
	{"service-lost", View{Service: Lost, State: connected()}},
	{"service-missing", View{Service: Missing}},
	{"service-denied", View{Service: Denied}},
	{"outdated", View{Service: Outdated}},
	{"no-state-yet", View{Service: Present}},
	{"signed-out", present(signedOut(nil))},
	{"token-rejected", present(signedOut(&ipc.Problem{Code: ipc.TokenRejected, Text: "The portal no longer takes the token."}))},
	{"no-portal", present(signedOut(&ipc.Problem{Code: ipc.PortalUnknown, Text: "…"}))},
	{"waiting-for-browser", with(present(signedOut(nil)), func(v *View) { v.Browser = true })},
	{"connecting", present(phase(ipc.Connecting, nil))},
	{"portal-unreachable", present(phase(ipc.Connecting, &ipc.Problem{Code: ipc.PortalUnreachable, Text: "…"}))},
	{"portal-refused", present(phase(ipc.Connecting, &ipc.Problem{Code: ipc.PortalRefused, Text: "…"}))},
	{"raising", present(phase(ipc.Raising, nil))},
	{"tunnel-failed", present(phase(ipc.Raising, &ipc.Problem{Code: ipc.TunnelFailed, Text: "…"}))},
	{"connect", present(but(signedOut(nil), func(s *ipc.State) { s.Session.Token = ipc.TokenFromSignIn }))},
	{"portal-changed", present(signedOut(&ipc.Problem{Code: ipc.PortalChanged, Text: "…"}))},
	{"service-silent", View{Service: Silent}},
	{"held-by-other", present(but(connected(), func(s *ipc.State) {
		s.Session.Holder = "ada"
		*s = s.ForOthers()
	}))},
	{"connected", present(connected())},
	{"connected-favorites", with(present(connected()), func(v *View) { v.Favorites = []id.Resource{resourceID(2), resourceID(99)} })},
	{"connected-all-favorites", with(present(connected()), func(v *View) {
		for i := range v.State.Resources {
			v.Favorites = append(v.Favorites, v.State.Resources[i].ID)
		}
	})},
	{"connected-internet-on", with(present(connected()), func(v *View) { v.State.Internet.On = true; v.State.Resources[0].Problem = nil })},
	{"connected-portal-lost", with(present(connected()), func(v *View) { v.State.Session.PortalUp = false })},
	{"connected-managed", with(present(connected()), func(v *View) {
		v.State.Session.Token, v.State.Session.Actor = ipc.TokenFromFile, ""
		v.HideAdmin = true
	})},
	{"connected-nothing", with(present(connected()), func(v *View) { v.State.Resources = nil })},
	{"connected-sign-in-again", with(present(connected()), func(v *View) { v.Browser = true })},
	{"connected-many", with(present(connected()), func(v *View) { v.State.Resources = append(v.State.Resources, many(70)...) })},
	{"connected-german", with(present(connected()), func(v *View) { v.Words = &words.German })},
	{"trouble-german", with(present(phase(ipc.Connecting, ipc.SayStopping.With())), func(v *View) { v.Words = &words.German })},
	{"update", with(present(signedOut(nil)), func(v *View) {
		v.Update = Update{"0.2.0", "https://example.com/stile"}
		v.Support = "https://help.example.com/"
	})},
	{"ending", present(phase(ipc.Ending, nil))},
	{"quitting", with(present(connected()), func(v *View) { v.Quitting = true })},
}

func TestMenusAreAsTheyWereLookedAt(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			got, file := draw(Build(english(g.view))), filepath.Join("testdata", g.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the menu is\n%s\nnot\n%s", got, want)
			}
		})
	}
}

// What holds for each menu, whatever administrators and portals write.
func TestMenusAreSound(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m := Build(anyView(rng))
		keys := map[string]bool{}
		walk(m.Items, func(i Item) {
			switch {
			case i.Key == "" || keys[i.Key]:
				t.Errorf("seed %d: key %q is empty or twice there", seed, i.Key)
			case (i.Kind == Action || i.Kind == Check) != (i.Command != nil):
				t.Errorf("seed %d: %q is %v with the command %v", seed, i.Key, i.Kind, i.Command)
			case i.Kind == Sub && len(i.Items) == 0 || i.Kind != Sub && i.Items != nil:
				t.Errorf("seed %d: %q is %v with %d items", seed, i.Key, i.Kind, len(i.Items))
			case (i.Kind == Separator) != (i.Title == ""):
				t.Errorf("seed %d: %q is %v with the title %q", seed, i.Key, i.Kind, i.Title)
			case utf8.RuneCountInString(i.Title) > maxTitle || strings.ContainsAny(i.Title, "\n\t\u202e\u200b\x00"):
				t.Errorf("seed %d: %q has the title %q", seed, i.Key, i.Title)
			case len(i.Items) > longList+20:
				t.Errorf("seed %d: %q has %d items", seed, i.Key, len(i.Items))
			}
			if o, ok := i.Command.(Open); ok && !strings.HasPrefix(o.URL, "http://") && !strings.HasPrefix(o.URL, "https://") {
				t.Errorf("seed %d: %q opens %q", seed, i.Key, o.URL)
			}
			keys[i.Key] = true
		})
		if len(m.Items) > longList+20 {
			t.Errorf("seed %d: %d items", seed, len(m.Items))
		}
	}
}

func TestOnlyPagesAreOpened(t *testing.T) {
	for text, want := range map[string]bool{
		"https://wiki.example.com/start?x=1":    true,
		"http://10.0.0.5:8080":                  true,
		"HTTPS://WIKI.EXAMPLE.COM":              true,
		"javascript:alert(1)":                   false,
		"file:///etc/passwd":                    false,
		"ms-settings:privacy":                   false,
		"https://bank.example@evil.example/":    false,
		"https:///nowhere":                      false,
		"https://a.example/\u202emoc.elpmaxe":   false,
		"https://a.example/\nx":                 false,
		"see https://wiki.example.com":          false,
		"":                                      false,
		"https://" + strings.Repeat("a.", 100):  true,
		"//wiki.example.com/":                   false,
		" https://wiki.example.com/ for a wiki": false,
	} {
		if got := web(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// A click that arrives after an update must mean what was shown: an item keeps
// its key while other resources come and go.
func TestKeysStayWithTheirResources(t *testing.T) {
	v := english(present(connected()))
	before := named(Build(v).Items)
	v.State.Resources = append(many(3), v.State.Resources...)
	after := named(Build(v).Items)
	for key, command := range before {
		if !reflect.DeepEqual(after[key], command) {
			t.Errorf("%q means %#v, and afterwards %#v", key, command, after[key])
		}
	}
}

func BenchmarkBuild500(b *testing.B) {
	v := english(present(connected()))
	v.State.Resources = many(500)
	for b.Loop() {
		Build(v)
	}
}

func named(items []Item) map[string]Command {
	commands := map[string]Command{}
	walk(items, func(i Item) { commands[i.Key] = i.Command })
	return commands
}

func walk(items []Item, f func(Item)) {
	for _, i := range items {
		f(i)
		walk(i.Items, f)
	}
}

// draw shows a menu as text: what a click does stands behind the arrow.
func draw(m Menu) string {
	var b strings.Builder
	fmt.Fprintf(&b, "icon %v", m.Icon.Shape)
	if m.Icon.Dot {
		b.WriteString(" with a dot")
	}
	fmt.Fprintf(&b, ", %q\n", m.Tooltip)
	drawItems(&b, m.Items, "")
	return b.String()
}

func drawItems(b *strings.Builder, items []Item, indent string) {
	for _, i := range items {
		b.WriteString(indent)
		switch i.Kind {
		case Separator:
			b.WriteString("─────")
		case Text:
			b.WriteString("(" + i.Title + ")")
		case Sub:
			b.WriteString(i.Title + " ▸")
		case Check:
			fmt.Fprintf(b, "[%s] %s", map[bool]string{true: "x", false: " "}[i.On], i.Title)
		default:
			b.WriteString(i.Title)
		}
		if i.Dot != NoDot {
			fmt.Fprintf(b, " (%v dot)", i.Dot)
		}
		if i.Command != nil {
			fmt.Fprintf(b, " → %s", strings.TrimPrefix(fmt.Sprintf("%T%+v", i.Command, i.Command), "menu."))
		}
		b.WriteString("\n")
		drawItems(b, i.Items, indent+"    ")
	}
}

func english(v View) View {
	if v.Words == nil {
		v.Words = &words.English
	}
	return v
}

func with(v View, change func(*View)) View {
	change(&v)
	return v
}

func present(s *ipc.State) View { return View{Service: Present, State: s} }

func signedOut(p *ipc.Problem) *ipc.State {
	return &ipc.State{Session: ipc.Session{Phase: ipc.SignedOut, Problem: p, Portal: "wss://portal.example.com", AuthURL: "https://portal.example.com"}}
}

func phase(p ipc.Phase, problem *ipc.Problem) *ipc.State {
	s := signedOut(problem)
	s.Session.Phase, s.Session.Token = p, ipc.TokenFromSignIn
	return s
}

func connected() *ipc.State {
	s := phase(ipc.Connected, nil)
	s.Session.PortalUp, s.Session.Actor, s.Session.Account = true, "Ada & Charles_B", "acme"
	s.Internet.Available = true
	s.Resources = []ipc.Resource{
		{ID: resourceID(1), Type: "internet", Name: "Internet", Sites: []string{"Exit"}, Problem: &ipc.Problem{Code: ipc.InternetIsOff, Text: "…"}},
		{ID: resourceID(2), Type: "dns", Name: "Build & test", Address: "*.ci.example.com", Description: "https://ci.example.com/", Sites: []string{"Office"}, State: ipc.Online},
		{ID: resourceID(3), Type: "dns", Name: "Git", Address: "git.example.com", Description: "Ask\nthe\u202e platform team", Sites: []string{"Cloud"}, State: ipc.Online},
		{ID: resourceID(4), Type: "cidr", Name: "", Address: "10.0.0.0/8", Sites: []string{"Cellar"}, State: ipc.Offline},
		{ID: resourceID(5), Type: "dns", Name: "Payroll", Address: "pay.example.com", Problem: &ipc.Problem{Code: ipc.AccessForbidden, Text: "…"}},
		{ID: resourceID(6), Type: "static_device_pool", Name: "Laptops"},
		{ID: resourceID(7), Type: "dns", Name: "Wiki", Address: "wiki.example.com", Sites: []string{"Office"}},
	}
	s.Connections = []ipc.Connection{{Site: "Office", State: "connected", Path: ipc.Direct}, {Site: "Cloud", State: "connected", Path: ipc.Relayed}}
	return s
}

func many(n int) []ipc.Resource {
	var list []ipc.Resource
	for i := range n {
		list = append(list, ipc.Resource{ID: resourceID(uint16(1000 + i)), Type: "dns", Name: fmt.Sprintf("server %03d", i), Address: fmt.Sprintf("s%03d.example.com", i), Sites: []string{"Office"}})
	}
	return list
}

func resourceID(n uint16) (r id.Resource) {
	if err := r.UnmarshalText(fmt.Appendf(nil, "00000000-0000-4000-8000-%012x", n)); err != nil {
		panic(err)
	}
	return r
}

func but(s *ipc.State, change func(s *ipc.State)) *ipc.State {
	change(s)
	return s
}

// anyView is a view that nobody thought of.
func anyView(rng *rand.Rand) View {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	text := func() string {
		return pick("", "Wiki", "a\nb", "\u202eevil", strings.Repeat("long ", 50), "https://x.example/", "javascript:x", "\xff\x00", "日本語", "   ")
	}
	s := &ipc.State{Session: ipc.Session{
		Phase:    ipc.Phase(pick("signed-out", "connecting", "raising", "connected", "connected", "connected", "ending", "of-tomorrow")),
		PortalUp: rng.IntN(2) == 0, Actor: text(), Account: text(), AuthURL: text(),
		Token: ipc.TokenSource(pick("", "sign-in", "file", "environment")), Holder: text(),
	}}
	if rng.IntN(3) == 0 {
		s.Session.Problem = &ipc.Problem{Code: ipc.Code(pick("token-rejected", "portal-unreachable", "held-by-other", "of-tomorrow")), Text: "Something is wrong."}
	}
	for i := range rng.IntN([]int{3, 40, 600}[rng.IntN(3)]) {
		r := ipc.Resource{ID: resourceID(uint16(i + 1)), Type: pick("dns", "cidr", "internet", "static_device_pool"), Name: text(), Address: "x" + text(), Description: text(), State: ipc.ResourceState(pick("unknown", "online", "offline", ""))}
		if rng.IntN(2) == 0 {
			r.Sites = []string{"s" + text()}
		}
		if rng.IntN(4) == 0 {
			r.Problem = &ipc.Problem{Code: ipc.Code(pick("site-offline", "access-forbidden", "of-tomorrow")), Text: "No."}
		}
		s.Resources = append(s.Resources, r)
	}
	v := View{Words: &words.English, Service: Service(rng.IntN(7)), State: s, Browser: rng.IntN(4) == 0, Quitting: rng.IntN(8) == 0, Support: text()}
	if rng.IntN(2) == 0 {
		v.Favorites = []id.Resource{resourceID(1), resourceID(3), resourceID(30)}
	}
	if rng.IntN(2) == 0 {
		v.Service = Present
		v.Update = Update{"9", text()}
	}
	return v
}
