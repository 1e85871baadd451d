package console

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/support"
	"stile/app/why/cause"
	"stile/app/words"
	"stile/tunnel/ipc"
)

// payloads are texts that mean something to a browser that takes them for more
// than text.
var payloads = []string{
	`'"><x-evil onload=alert(1)>`,
	`</title></textarea></script><x-evil>`,
	"javascript:alert(1)//x-evil",
	`https://evil.example/"onmouseover="x-evil`,
	`--><x-evil><!--`,
	"` onfocus=x-evil autofocus `",
	"{{.Token}}x-evil",
	"data:text/html,<x-evil>",
	"\u202e\u0000x-evil\r\nSet-Cookie: x-evil=1",
	"url(x-evil)</style><x-evil>",
}

// poison puts payloads into every text that v leads to.
func poison(v reflect.Value, n *int) {
	next := func() string { *n++; return payloads[*n%len(payloads)] }
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				poison(v.Field(i), n)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), n)
		}
	case reflect.String:
		switch v.Type() {
		case reflect.TypeFor[ipc.Phase](): // it decides what is shown at all
		default:
			v.SetString(next())
		}
	}
}

// Whatever portals, administrators, logs and addresses say: it is shown, and
// means nothing.
func TestNothingBecomesMarkup(t *testing.T) {
	for seed := range len(payloads) {
		n := seed
		d := newDesk(t)
		for _, state := range []ipc.ResourceState{ipc.Online, ipc.Offline, ipc.Unknown} {
			s := connected()
			kinds := []string{}
			for i := range s.Resources {
				kinds = append(kinds, s.Resources[i].Type)
			}
			s.Session.Problem = &ipc.Problem{}
			poison(reflect.ValueOf(s), &n)
			for i := range s.Resources {
				s.Resources[i].Type, s.Resources[i].State = kinds[i], state
			}
			s.Settings.Managed = []string{ipc.SettingSupportURL, ipc.SettingAccountSlug}
			d.view.State = s
			d.view.Browser = true
			d.view.Update = menu.Update{Version: payloads[n%len(payloads)], URL: payloads[(n+3)%len(payloads)]}
			d.url = payloads[(n+1)%len(payloads)]
			d.prefs = prefs.Prefs{AccountSlug: payloads[n%len(payloads)], Language: payloads[n%len(payloads)]}
			poison(reflect.ValueOf(&d.report), &n)
			folder := t.TempDir()
			line := fmt.Sprintf(`{"time":%q,"severity":%q,"message":%[1]q,"target":%[2]q,%[1]q:%[2]q,"n":[%[1]q]}`, payloads[n%len(payloads)], payloads[(n+5)%len(payloads)])
			if err := os.WriteFile(filepath.Join(folder, "x.log"), []byte(line+"\n"+payloads[n%len(payloads)]+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			d.logs = []string{folder, filepath.Join(folder, "x.log") + payloads[0]}

			c := console(t, d)
			c.observe(menu.View{})
			c.observe(d.View())
			v := visit(t, c)
			result := support.Result{Missing: []string{""}}
			diagnosis := support.Diagnosis{Checks: []support.Check{{OK: true}, {}}}
			poison(reflect.ValueOf(&result), &n)
			poison(reflect.ValueOf(&diagnosis), &n)
			c.jobs.export, c.jobs.check = exporting{result: &result}, checking{at: noon, result: &diagnosis}
			look(t, v, n)
			c.jobs.export, c.jobs.check = exporting{failed: errors.New(payloads[n%len(payloads)])}, checking{failed: errors.New(payloads[n%len(payloads)])}
			d.err = errors.New(payloads[n%len(payloads)])
			v.post("retry")
			look(t, v, n)
		}
	}
}

// look checks all pages.
func look(t *testing.T, v *visitor, n int) {
	t.Helper()
	q := url.QueryEscape(payloads[n%len(payloads)])
	shown := 0
	for name := range pages {
		for _, query := range []string{"", "?q=" + q + "&text=" + q + "&target=" + q + "&show=" + q + "&level=" + q + "&all=" + q, "?show=blocked"} {
			w := v.get(name + query)
			shown += harmless(t, name+query, w.Body.String())
			for k, values := range w.Header() {
				if strings.Contains(strings.Join(values, " "), "x-evil") {
					t.Errorf("%s: header %s: %q", name, k, values)
				}
			}
			m := v.c.model(t.Context(), &guest{token: v.token}, name, ask(strings.TrimPrefix(query, "?")))
			m.fill(false)
			b, err := parts(pages[name].parts, m, map[string]string{})
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(b)) {
				if line != "\n" && !strings.HasPrefix(line, "data: {") || strings.Contains(line, "<") {
					t.Errorf("%s: the stream has the line %.200q", name, line)
				}
			}
		}
	}
	if shown < 20 {
		t.Errorf("the texts were shown %d times only: what is tested?", shown)
	}
}

// harmless parses a page as browsers do, and counts payloads that are text.
func harmless(t *testing.T, name, page string) (shown int) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		switch n.Type {
		case html.TextNode:
			shown += strings.Count(n.Data, "x-evil")
		case html.CommentNode:
			t.Errorf("%s: comment %q", name, n.Data)
		case html.ElementNode:
			if n.Data == "x-evil" || n.Data == "style" || n.Data == "script" && !slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "src" }) {
				t.Errorf("%s: element %s", name, n.Data)
			}
			for _, a := range n.Attr {
				switch a.Key {
				case "href", "src", "action", "formaction":
					u, err := url.Parse(a.Val)
					if err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" && a.Val != "data:," {
						t.Errorf("%s: %s=%q", name, a.Key, a.Val)
					}
				case "style":
					t.Errorf("%s: %s has a style", name, n.Data)
				}
				if strings.HasPrefix(a.Key, "on") || strings.Contains(a.Key, "x-evil") {
					t.Errorf("%s: %s has the attribute %s", name, n.Data, a.Key)
				}
			}
		}
	}
	if strings.Contains(page, "<x-evil") {
		t.Errorf("%s: not escaped", name)
	}
	return shown
}

// What accessibility asks of each page's markup, besides what only a browser
// can tell.
func TestMarkupIsSound(t *testing.T) {
	d := newDesk(t)
	d.view.Browser, d.url = true, "https://portal.acme.example/sign-in"
	c := console(t, d)
	lived(t, c, d)
	v := visit(t, c)
	for _, p := range []string{"status", "resources", "resources?q=wiki", "diagnostics", "settings", "about", "why", "why?target=wiki.acme.example", "clear-logs", "export-all", "nothing"} {
		root, err := html.Parse(strings.NewReader(v.get(p).Body.String()))
		if err != nil {
			t.Fatal(err)
		}
		ids, labels, refs := map[string]bool{}, map[string]bool{}, map[string]string{}
		var fields []string
		heading, h1, mains := 0, 0, 0
		for n := range root.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			a := map[string]string{}
			for _, x := range n.Attr {
				a[x.Key] = x.Val
			}
			if id := a["id"]; id != "" {
				if ids[id] {
					t.Errorf("%s: two elements have the id %s", p, id)
				}
				ids[id] = true
			}
			for _, k := range []string{"aria-labelledby", "aria-describedby"} {
				if a[k] != "" {
					refs[a[k]] = k
				}
			}
			switch n.Data {
			case "html":
				if a["lang"] != "en" {
					t.Errorf("%s: language %q", p, a["lang"])
				}
			case "main":
				mains++
			case "label":
				labels[a["for"]] = true
			case "input", "select", "textarea":
				wrapped := n.Parent.Data == "label"
				if a["type"] != "hidden" && !wrapped {
					fields = append(fields, a["id"])
				}
			case "button", "a":
				if textOf(n) == "" && a["aria-label"] == "" {
					t.Errorf("%s: a %s without a name", p, n.Data)
				}
			case "svg":
				if a["aria-hidden"] != "true" && (a["role"] != "img" || a["aria-label"] == "") {
					t.Errorf("%s: a picture that says nothing", p)
				}
			case "h1", "h2", "h3":
				level := int(n.Data[1] - '0')
				if level == 1 {
					h1++
				}
				if level > heading+1 {
					t.Errorf("%s: %q is a heading of level %d below one of level %d", p, textOf(n), level, heading)
				}
				heading = level
			case "form":
				if a["method"] == "post" && !strings.Contains(render(t, n), `name="token"`) {
					t.Errorf("%s: a form without a token", p)
				}
			}
		}
		for _, id := range fields {
			if id == "" || !labels[id] {
				t.Errorf("%s: the field %q has no label", p, id)
			}
		}
		for id, k := range refs {
			if !ids[id] {
				t.Errorf("%s: %s names %s, which is not there", p, k, id)
			}
		}
		if h1 != 1 || mains != 1 {
			t.Errorf("%s: %d h1, %d main", p, h1, mains)
		}
	}
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

func render(t *testing.T, n *html.Node) string {
	var b strings.Builder
	if err := html.Render(&b, n); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// goldens are the pages in all the states that they have.
var goldens = []struct {
	name, page string
	change     func(*Console, *desk)
}{
	{"status", "status", nil},
	{"status-german", "status", german},
	{"status-signed-out", "status", func(_ *Console, d *desk) { d.view = signedOut() }},
	{"status-waiting", "status", func(_ *Console, d *desk) {
		d.view = signedOut()
		d.view.Browser, d.url = true, "https://portal.acme.example/acme?as=gui-client"
	}},
	{"status-token-rejected", "status", func(_ *Console, d *desk) {
		d.view = signedOut()
		d.view.State.Session.Problem = &ipc.Problem{Code: ipc.TokenRejected, Text: "The portal no longer takes the token. Sign in again."}
	}},
	{"status-connecting", "status", phase(ipc.Connecting, nil)},
	{"status-portal-unreachable", "status", phase(ipc.Connecting, &ipc.Problem{Code: ipc.PortalUnreachable, Text: "The portal portal.acme.example does not answer. It is tried again by itself."})},
	{"status-portal-silent-german", "status", func(c *Console, d *desk) {
		phase(ipc.Connecting, ipc.SayPortalSilent.With("portal", "wss://portal.acme.example"))(c, d)
		german(c, d)
	}},
	{"status-held-german", "status", func(c *Console, d *desk) {
		others := d.view.State.ForOthers()
		d.view.State = &others
		german(c, d)
	}},
	{"status-raising", "status", phase(ipc.Raising, nil)},
	{"status-tunnel-failed", "status", phase(ipc.Raising, &ipc.Problem{Code: ipc.TunnelFailed, Text: "The tunnel interface cannot be made: permission denied."})},
	{"status-portal-lost", "status", func(_ *Console, d *desk) { d.view.State.Session.PortalUp = false }},
	{"status-managed", "status", func(_ *Console, d *desk) {
		d.view.State.Session.Token, d.view.State.Session.Actor = ipc.TokenFromFile, ""
	}},
	{"status-no-gateways", "status", func(_ *Console, d *desk) { d.view.State.Connections = nil }},
	{"status-looking", "status", service(menu.Looking)},
	{"status-lost", "status", service(menu.Lost)},
	{"status-missing", "status", service(menu.Missing)},
	{"status-denied", "status", service(menu.Denied)},
	{"status-outdated", "status", service(menu.Outdated)},
	{"status-silent", "status", service(menu.Silent)},
	{"status-not-connected", "status", func(_ *Console, d *desk) {
		d.view = signedOut()
		d.view.State.Session.Token = ipc.TokenFromSignIn
	}},
	{"status-held", "status", func(_ *Console, d *desk) {
		others := d.view.State.ForOthers()
		d.view.State = &others
	}},
	{"status-ending", "status", phase(ipc.Ending, nil)},
	{"status-quitting", "status", func(_ *Console, d *desk) { d.view.Quitting = true }},
	{"resources", "resources", nil},
	{"resources-german", "resources", german},
	{"resources-search", "resources?q=munich+wiki", nil},
	{"resources-favorites", "resources?show=favorites", nil},
	{"resources-blocked", "resources?show=blocked", nil},
	{"resources-none-found", "resources?q=moon", nil},
	{"resources-none", "resources", func(_ *Console, d *desk) { d.view.State.Resources = nil }},
	{"resources-signed-out", "resources", func(_ *Console, d *desk) { d.view = signedOut() }},
	{"resources-internet-on", "resources?q=internet", func(_ *Console, d *desk) {
		d.view.State.Internet.On = true
		d.view.State.Resources[0].Problem, d.view.State.Resources[0].State = nil, ipc.Online
	}},
	{"diagnostics", "diagnostics", nil},
	{"diagnostics-german", "diagnostics", german},
	{"diagnostics-filtered", "diagnostics?level=warning&text=relay", nil},
	{"diagnostics-exporting", "diagnostics?text=nothing", func(c *Console, _ *desk) {
		c.jobs.export = exporting{running: true, done: 12_000_000, total: 48_000_000}
	}},
	{"diagnostics-exported", "diagnostics?text=nothing", func(c *Console, d *desk) {
		r, _ := d.Export(context.Background(), false, func(int64, int64) {})
		c.jobs.export = exporting{result: &r}
	}},
	{"diagnostics-failed", "diagnostics?text=nothing", func(c *Console, d *desk) {
		c.jobs.export = exporting{failed: errors.New("no export was written: no space left on device")}
		c.jobs.check = checking{running: true, at: noon, failed: errors.New("the check was ended")}
		c.past.events = nil
	}},
	{"diagnostics-missing", "diagnostics", func(c *Console, d *desk) {
		d.view = menu.View{Service: menu.Missing}
		d.logs = nil
	}},
	{"settings", "settings", nil},
	{"settings-german", "settings", german},
	{"settings-managed", "settings", func(_ *Console, d *desk) {
		no := false
		s := &d.view.State.Settings
		*s = ipc.Settings{APIURL: "wss://portal.acme.example", AuthURL: "https://portal.acme.example", LogFilter: "info", AccountSlug: "acme", SupportURL: "https://help.acme.example", HideAdminPortal: true, ConnectOnStart: &no,
			Managed: []string{ipc.SettingAccountSlug, ipc.SettingAPIURL, ipc.SettingAuthURL, ipc.SettingCheckForUpdates, ipc.SettingConnectOnStart, ipc.SettingHideAdminPortal, ipc.SettingLogFilter, ipc.SettingSupportURL}}
	}},
	{"settings-missing", "settings", service(menu.Missing)},
	{"why", "why", nil},
	{"why-found", "why?target=files.lisbon.acme.example", nil},
	{"why-reachable", "why?target=wiki.acme.example:443", func(_ *Console, d *desk) {
		d.report = cause.Report{Code: "reachable", Cause: "It can be reached.", Reachable: true}
	}},
	{"why-german", "why?target=files.lisbon.acme.example:445", func(c *Console, d *desk) {
		d.report = cause.Judge(offline(d.view.State))
		german(c, d)
	}},
	{"why-pattern", "why?target=*.ci.acme.example", nil},
	{"why-failed", "why?target=x", func(_ *Console, d *desk) { d.err = errors.New("the look was ended") }},
	{"clear-logs", "clear-logs", nil},
	{"export-all", "export-all", nil},
}

// long are curves; history_test.go looks at those.
var long = regexp.MustCompile(`d="[^"]{200,}"`)

func TestPagesAreAsTheyWereLookedAt(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			d := newDesk(t)
			c := console(t, d)
			lived(t, c, d)
			if g.change != nil {
				g.change(c, d)
			}
			c.base = "/BASE"
			name, raw, _ := strings.Cut(g.page, "?")
			m := c.model(t.Context(), &guest{token: "TOKEN"}, name, ask(raw))
			m.fill(true)
			var b strings.Builder
			if err := layout().ExecuteTemplate(&b, "page", m); err != nil {
				t.Fatal(err)
			}
			got := long.ReplaceAllString(b.String(), `d="…"`)
			if g.name != name { // the frame is the same each time
				got = got[strings.Index(got, `<div class="standing"`):]
				got = got[:strings.Index(got, "<noscript>")]
			}
			file := filepath.Join("testdata", "pages", g.name+".html")
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is another page than %s; look at it, then go test ./app/console -update:\n%s", g.name, file, difference(string(want), got))
			}
		})
	}
}

// difference is the first line that differs.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, not %d", len(g), len(w))
}

// offline is what is found of a host whose site has no gateway.
func offline(s *ipc.State) cause.Facts {
	addrs := []netip.Addr{netip.MustParseAddr("100.96.0.9")}
	k := func() *ipc.Knowledge {
		return &ipc.Knowledge{Name: "files.lisbon.acme.example", Proxies: addrs, Verdict: ipc.Permitted, Access: []ipc.Access{{
			Name: "File server Lisbon", Type: "dns", Address: "files.lisbon.acme.example", Sites: []string{"Lisbon office"}, State: ipc.AccessIdle, Seen: noon,
			Refusal: &ipc.Refusal{Reason: "offline", At: noon},
		}}}
	}
	l := cause.Lookup{Outcome: cause.Found, Addrs: addrs}
	return cause.Facts{
		Target: cause.Target{Host: "files.lisbon.acme.example", Port: 445}, State: s, Before: k(), After: k(),
		Names: cause.Names{System: l, Ours: l, Alive: true, Resolvers: s.DNS.Sentinels}, Targets: addrs,
		Ways: []cause.Way{{Addr: addrs[0], Interface: s.Tunnel.Interface}}, Default: "eth0", Began: noon, Ended: noon.Add(2300 * time.Millisecond),
		Attempts: []cause.Attempt{{To: netip.AddrPortFrom(addrs[0], 445), Outcome: cause.Silent, Took: 2300 * time.Millisecond}},
	}
}

func german(_ *Console, d *desk) { d.view.Words = &words.German }

func service(s menu.Service) func(*Console, *desk) {
	return func(_ *Console, d *desk) { d.view.Service = s }
}

func phase(p ipc.Phase, problem *ipc.Problem) func(*Console, *desk) {
	return func(_ *Console, d *desk) {
		d.view = signedOut()
		s := &d.view.State.Session
		s.Phase, s.Problem, s.Token, s.Since = p, problem, ipc.TokenFromSignIn, noon.Add(-time.Minute)
	}
}
