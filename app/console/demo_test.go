package console

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stile/app/menu"
	"stile/app/prefs"
	"stile/app/support"
	"stile/app/why/cause"
	"stile/app/words"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

var rewrite = flag.Bool("update", false, "write the golden pages anew")

var demo = flag.Duration("demo", 0, "how long TestDemo shows the pages with made-up data")

// The pages with made-up data, for whoever works on them.
func TestDemo(t *testing.T) {
	if *demo == 0 {
		t.Skip("for people: go test ./app/console -run TestDemo -demo 10m -v")
	}
	d := newDesk(t)
	ctx, cancel := context.WithTimeout(t.Context(), *demo)
	defer cancel()
	c, err := Listen(Config{Desk: d})
	if err != nil {
		t.Fatal(err)
	}
	invent(c, d.View().State, time.Now())
	fmt.Println("Open within a minute:", c.URL(menu.StatusPage))
	var g sync.WaitGroup
	g.Go(func() { d.play(ctx) })
	if err := c.Serve(ctx); err != nil {
		t.Error(err)
	}
	g.Wait()
}

// noon is when everything in the tests takes place.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// A desk is a Desk with made-up data that does what it is told.
type desk struct {
	mu      sync.Mutex // guards all below
	view    menu.View
	prefs   prefs.Prefs
	url     string
	logs    []string
	did     []string // what was done, in words
	err     error    // what doing something answers
	wakes   []chan struct{}
	export  func(ctx context.Context, progress func(done, total int64)) (support.Result, error)
	report  cause.Report
	looking chan struct{} // if not nil, Why waits for it
}

func (d *desk) View() menu.View {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view
}

func (d *desk) Changed(ctx context.Context) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan struct{}, 1)
	d.wakes = append(d.wakes, c)
	return c
}

// set changes what is shown; the old state stays as it was.
func (d *desk) set(change func(*menu.View)) {
	d.mu.Lock()
	if s := d.view.State; s != nil {
		c := *s
		c.Resources, c.Connections = slices.Clone(s.Resources), slices.Clone(s.Connections)
		d.view.State = &c
	}
	change(&d.view)
	wakes := slices.Clone(d.wakes)
	d.mu.Unlock()
	for _, w := range wakes {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (d *desk) note(format string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.did = append(d.did, fmt.Sprintf(format, args...))
	return d.err
}

func (d *desk) Do(_ context.Context, c menu.Command) error {
	if err := d.note("%T%+v", c, c); err != nil {
		return err
	}
	d.set(func(v *menu.View) {
		switch c := c.(type) {
		case menu.SetInternet:
			v.State.Internet.On = c.On
			v.State.Resources[0].Problem = nil
			if !c.On {
				v.State.Resources[0].Problem = &ipc.Problem{Code: ipc.InternetIsOff, Text: "The Internet resource is switched off."}
			}
		case menu.Favorite:
			v.Favorites = slices.DeleteFunc(slices.Clone(v.Favorites), func(r id.Resource) bool { return r == c.Resource })
			if c.On {
				v.Favorites = append(v.Favorites, c.Resource)
			}
		case menu.SignOut:
			v.State.Session = ipc.Session{Phase: ipc.SignedOut, Portal: v.State.Session.Portal}
			v.State.Resources, v.State.Connections = nil, nil
			v.State.Tunnel = ipc.Tunnel{}
		case menu.SignIn:
			v.Browser = true
		case menu.CancelSignIn:
			v.Browser = false
		}
	})
	return nil
}

func (d *desk) SignInURL() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.url
}

func (d *desk) Paste(_ context.Context, text string) error {
	if err := d.note("paste %s", text); err != nil {
		return err
	}
	d.set(func(v *menu.View) {
		s := connected()
		s.Internet = v.State.Internet
		v.Browser, v.State = false, s
	})
	return nil
}

func (d *desk) Prefs() prefs.Prefs {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.prefs
}

func (d *desk) SetPrefs(p prefs.Prefs) error {
	if err := d.note("prefs slug=%q minimized=%v login=%v connect=%v language=%q", p.AccountSlug, p.StartMinimized, p.OnLogin(), p.ConnectOnStart == nil || *p.ConnectOnStart, p.Language); err != nil {
		return err
	}
	d.mu.Lock()
	d.prefs = p
	d.mu.Unlock()
	d.set(func(v *menu.View) { v.Words = words.For(p.Language) })
	return nil
}

func (d *desk) Apply(_ context.Context, s ipc.ApplySettings) error { return d.note("apply %+v", s) }

func (d *desk) SetLogFilter(_ context.Context, filter string, for_ time.Duration) error {
	return d.note("log %s for %v", filter, for_)
}

func (d *desk) ClearLogs(context.Context) error { return d.note("clear logs") }

func (d *desk) LogDirs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logs
}

func (d *desk) Export(ctx context.Context, full bool, progress func(done, total int64)) (support.Result, error) {
	if err := d.note("export full=%v", full); err != nil {
		return support.Result{}, err
	}
	d.mu.Lock()
	f := d.export
	d.mu.Unlock()
	if f != nil {
		return f(ctx, progress)
	}
	progress(1000, 1000)
	return support.Result{Path: "/home/ada/Downloads/stile_logs_2026-06-01-12-00-00.zip", Bytes: 1_234_567, Files: 17, Pseudonyms: 42, Missing: []string{"flight record: the service is of an older version."}}, nil
}

func (d *desk) Why(ctx context.Context, target string) (cause.Report, error) {
	if err := d.note("why %s", target); err != nil {
		return cause.Report{}, err
	}
	d.mu.Lock()
	wait, r := d.looking, d.report
	d.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return cause.Report{}, ctx.Err()
		}
	}
	r.Target = target
	return r, nil
}

func (d *desk) Diagnose(context.Context) (support.Diagnosis, error) {
	if err := d.note("diagnose"); err != nil {
		return support.Diagnosis{}, err
	}
	return support.Diagnosis{
		System: []netip.Addr{netip.MustParseAddr("100.100.111.1")}, Sentinels: []netip.Addr{netip.MustParseAddr("100.100.111.1")}, AsksUs: true,
		Checks: []support.Check{
			{What: "our resolver 100.100.111.1 answers", Kind: support.Sentinel, Of: "100.100.111.1", OK: true, TookMS: 0.42},
			{What: "the portal's name, as programs ask", Kind: support.PortalName, OK: true, TookMS: 12.8, Addrs: []netip.Addr{netip.MustParseAddr("203.0.113.7")}},
			{What: "the portal's name, asking 192.168.178.1", Kind: support.PortalName, Of: "192.168.178.1", Text: "no answer in time", Failure: support.NoAnswer, TookMS: 2000},
			{What: "a check of tomorrow", Text: "no luck", TookMS: 1},
		},
	}, nil
}

// newDesk is somebody at work on an ordinary day.
func newDesk(t testing.TB) *desk {
	s := connected()
	d := &desk{
		view:  menu.View{Words: &words.English, Service: menu.Present, State: s, Favorites: []id.Resource{s.Resources[2].ID, s.Resources[5].ID}},
		prefs: prefs.Prefs{StartMinimized: true, AccountSlug: "acme"},
		logs:  []string{demoLogs(t)},
		report: cause.Report{
			Code: "site-offline", Cause: "No gateway of the site “Lisbon office” is online.", Next: "Ask whoever runs the site to look at its gateway. Nothing on this computer is wrong.",
			Steps: []cause.Step{
				{Name: "service", Result: cause.OK, Detail: "It answers, version 0.1.0."},
				{Name: "name", Result: cause.OK, Detail: "files.lisbon.example.com is 100.96.0.9."},
				{Name: "resource", Result: cause.OK, Detail: "It belongs to the resource “File server Lisbon”."},
				{Name: "route", Result: cause.OK, Detail: "100.96.0.9 leads into tun-stile."},
				{Name: "access", Result: cause.Failing, Detail: "The portal says that all gateways of the site are offline."},
				{Name: "answer", Result: cause.Open},
			},
		},
	}
	return d
}

func resource(n byte) (r id.Resource) {
	if err := r.UnmarshalText(fmt.Appendf(nil, "%02x3c1b7a-52d4-4e0f-9a61-0f8e2d9c4b%02x", n, n)); err != nil {
		panic(err)
	}
	return r
}

func gatewayID(n byte) (g id.Gateway) {
	if err := g.UnmarshalText(fmt.Appendf(nil, "%02xd2e9f0-77aa-4c1b-8e55-31c09b6a7d%02x", n*17, n)); err != nil {
		panic(err)
	}
	return g
}

// connected is a state with a bit of everything.
func connected() *ipc.State {
	on := true
	s := &ipc.State{
		Version: "0.1.0 (1f2e3d4c5b6a)",
		Session: ipc.Session{
			Phase: ipc.Connected, Since: noon.Add(-3*time.Hour - 12*time.Minute), PortalUp: true, Token: ipc.TokenFromSignIn,
			Account: "acme", Actor: "Ada Lovelace", Holder: "ada", Portal: "wss://portal.acme.example", AuthURL: "https://portal.acme.example",
		},
		Internet: ipc.Internet{Available: true},
		Tunnel: ipc.Tunnel{
			Interface: "tun-stile", IPv4: netip.MustParseAddr("100.64.0.5"), IPv6: netip.MustParseAddr("fd00:2021:1111::5"),
			Routes: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("100.96.0.0/11"), netip.MustParsePrefix("100.100.111.0/24"), netip.MustParsePrefix("fd00:2021:1111:8000::/107")},
		},
		DNS: ipc.DNS{
			Mode: "etc-resolv-conf", Sentinels: []netip.Addr{netip.MustParseAddr("100.100.111.1")},
			Upstream: []netip.AddrPort{netip.MustParseAddrPort("192.168.178.1:53")}, SearchDomain: "acme.example",
		},
		Logs:     ipc.Logs{Dir: "/var/log/stile", Filter: "info"},
		Counters: []ipc.Counter{{Name: "dropped: filtered", Value: 17}, {Name: "dropped: malformed", Value: 3}, {Name: "dropped: no authorization", Value: 128}},
		Settings: ipc.Settings{APIURL: "wss://portal.acme.example", AuthURL: "https://portal.acme.example", LogFilter: "info", CheckForUpdates: true, ConnectOnStart: &on},
	}
	online := func(r ipc.Resource) ipc.Resource { r.State = ipc.Online; return r }
	s.Resources = []ipc.Resource{
		{ID: resource(1), Type: "internet", Name: "Internet", Sites: []string{"Frankfurt"}, Problem: &ipc.Problem{Code: ipc.InternetIsOff, Text: "The Internet resource is switched off."}},
		{ID: resource(2), Type: "dns", Name: "Build servers", Address: "*.ci.acme.example", Description: "Linux and Windows runners", Sites: []string{"Frankfurt"}, State: ipc.Unknown},
		online(ipc.Resource{ID: resource(3), Type: "dns", Name: "Git", Address: "git.acme.example", Description: "https://git.acme.example/", Sites: []string{"Frankfurt"}}),
		{ID: resource(4), Type: "dns", Name: "File server Lisbon", Address: "files.lisbon.acme.example", Sites: []string{"Lisbon office"}, State: ipc.Offline, Problem: ipc.SaySiteOffline.With()},
		{ID: resource(5), Type: "dns", Name: "Payroll", Address: "payroll.acme.example", Sites: []string{"Munich office"}, Problem: &ipc.Problem{Code: ipc.AccessForbidden, Text: "Access is permitted on weekdays from 7 to 19 o'clock only."}},
		online(ipc.Resource{ID: resource(6), Type: "dns", Name: "Wiki", Address: "wiki.acme.example", Description: "https://wiki.acme.example/start", Sites: []string{"Munich office"}}),
		online(ipc.Resource{ID: resource(7), Type: "cidr", Name: "Munich office network", Address: "10.20.0.0/16", Description: "Printers and meeting rooms", Sites: []string{"Munich office"}}),
		{ID: resource(8), Type: "dns", Name: "Staging", Address: "staging.acme.example", Sites: []string{"Frankfurt", "Munich office"}, State: ipc.Unknown},
		{ID: resource(9), Type: "static_device_pool", Name: "Laptops"},
	}
	s.Connections = []ipc.Connection{
		{Gateway: gatewayID(1), Site: "Frankfurt", State: "connected", Path: ipc.Direct, Local: netip.MustParseAddrPort("192.168.178.24:52625"), Remote: netip.MustParseAddrPort("203.0.113.40:52625"), RTTMicros: 8_700, LastHandshake: noon.Add(-72 * time.Second), Sent: 48_100_000, Received: 1_270_000_000},
		{Gateway: gatewayID(2), Site: "Munich office", State: "connected", Path: ipc.Relayed, Local: netip.MustParseAddrPort("192.168.178.24:52625"), Remote: netip.MustParseAddrPort("198.51.100.7:3478"), RTTMicros: 31_400, LastHandshake: noon.Add(-14 * time.Second), Sent: 2_900_000, Received: 61_400_000},
	}
	return s
}

// invent makes up five minutes of traffic before at.
func invent(c *Console, s *ipc.State, at time.Time) {
	c.past.mu.Lock()
	defer c.past.mu.Unlock()
	h := &c.past.history
	if h.of == nil {
		h.of = map[id.Gateway]*course{}
	}
	for i := range buckets {
		when := at.Add(-time.Duration(buckets-i) * bucketTime)
		for n := range s.Connections {
			g := s.Connections[n].Gateway
			if h.of[g] == nil {
				h.of[g] = &course{wasIn: s.Connections[n].Received, wasOut: s.Connections[n].Sent, seen: at}
			}
			x := float64(i)
			wave := math.Max(0, math.Sin(x/9+float64(n)*2)) + .5*math.Max(0, math.Sin(x/23)) + .12*math.Abs(math.Sin(x*1.7))
			in := uint64(wave * 3_800_000 / float64(1+3*n))
			out := uint64((.25 + .3*math.Abs(math.Sin(x/13+float64(n)))) * 1_400_000 / float64(1+2*n))
			if n == 1 && (i < 30 || i > 120) {
				in, out = in/30, out/30
			}
			for _, k := range []*course{h.of[g], &h.total} {
				k.in.add(in, when)
				k.out.add(out, when)
			}
		}
	}
	for i, e := range []event{
		{what: phaseChanged, phase: ipc.Connected, name: "Ada Lovelace"},
		{what: resourcesShared, n: 8},
		{what: gatewayUp, name: "Frankfurt", detail: ipc.Relayed},
		{what: pathDirect, name: "Frankfurt"},
		{what: networkChanged},
		{what: uplinkChanged, name: "Frankfurt", detail: "192.168.178.24"},
		{what: gatewayUp, name: "Munich office", detail: ipc.Relayed},
		{what: resourceBlocked, name: "File server Lisbon", why: ipc.SaySiteOffline.With()},
	} {
		e.at = at.Add(time.Duration(i-9) * 83 * time.Second)
		c.past.events = append(c.past.events, e)
	}
}

// play lets time pass.
func (d *desk) play(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		d.set(func(v *menu.View) {
			if v.State == nil {
				return
			}
			for n := range v.State.Connections {
				k := &v.State.Connections[n]
				k.Received += uint64(400_000 * (1 + math.Sin(float64(i)/9)))
				k.Sent += uint64(60_000 * (1 + math.Sin(float64(i)/13)))
				k.LastHandshake = time.Now().Add(-time.Duration(i%120) * time.Second)
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// demoLogs is a folder of logs.
func demoLogs(t testing.TB) string {
	dir := t.TempDir()
	lines := []string{
		`{"time":"%sT11:48:02.120000000Z","severity":"INFO","message":"started log","target":"stiled","version":"0.1.0","os":"Debian GNU/Linux 12","arch":"amd64","filter":"info"}`,
		`{"time":"%sT11:48:02.480000000Z","severity":"INFO","message":"connected to the portal","target":"tunnel/phoenix"}`,
		`{"time":"%sT11:48:02.910000000Z","severity":"INFO","message":"the tunnel is up","target":"tunnel/daemon","interface":"tun-stile","routes":4}`,
		`{"time":"%sT11:52:41.033000000Z","severity":"INFO","message":"the network changed","target":"tunnel/engine"}`,
		`{"time":"%sT11:52:41.402000000Z","severity":"WARNING","message":"a relay does not answer","target":"tunnel/path","relay":"relay-2","attempts":3}`,
		`{"time":"%sT11:52:42.018000000Z","severity":"INFO","message":"the path is direct","target":"tunnel/path","site":"Frankfurt","took":"412ms"}`,
		`{"time":"%sT11:57:10.551000000Z","severity":"ERROR","message":"no gateway is online","target":"tunnel/client","resource":"043c1b7a-52d4-4e0f-9a61-0f8e2d9c4b04"}`,
		`{"time":"%sT11:58:30.000000000Z","severity":"INFO","message":"names are forwarded to other resolvers","target":"tunnel/engine","resolvers":"192.168.178.1"}`,
	}
	text := strings.ReplaceAll(strings.Join(lines, "\n")+"\n", "%s", noon.Format(time.DateOnly))
	if err := os.WriteFile(filepath.Join(dir, "tunnel-service.2026-06-01-08-48-02.log"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func signedOut() menu.View {
	s := connected()
	s.Session = ipc.Session{Phase: ipc.SignedOut, Portal: s.Session.Portal, AuthURL: s.Session.AuthURL}
	s.Resources, s.Connections, s.Tunnel, s.DNS, s.Counters = nil, nil, ipc.Tunnel{}, ipc.DNS{}, nil
	return menu.View{Words: &words.English, Service: menu.Present, State: s}
}

// lived gives c a past, at noon.
func lived(t testing.TB, c *Console, d *desk) {
	c.now = func() time.Time { return noon }
	invent(c, d.View().State, noon)
	r, err := d.Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.jobs.check = checking{at: noon, result: &r}
}

// done is what was done, in order.
func (d *desk) done() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.did)
}
