//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stile/app/why/cause"
	"stile/build/lab/host"
	"stile/build/lab/nat"
	"stile/build/lab/serve"
	"stile/tunnel/core"
	phoenix "stile/tunnel/phoenix/dial"
	"stile/tunnel/wire"
)

// Names of servers at the site, each with a trouble of its own.
const (
	narrowName = "narrow.corp.example" // one port only
	voiceName  = "voice.corp.example"  // UDP only
	lateName   = "late.corp.example"   // nobody goes there before the portal is away
	hostsOf    = ".hosts.corp.example" // below it, all else
)

var whyResources = []resource{
	wikiByName,
	{Name: "Narrow", Address: narrowName, Filters: []string{"tcp/80"}},
	{Name: "Voice", Address: voiceName, Filters: []string{"udp/7"}},
	{Name: "Late", Address: lateName},
	{Name: "Hosts", Address: "*" + hostsOf},
	{Name: "Far", Address: "10.99.0.0/24"},
	{Name: "Internet", Type: "internet"},
}

// far is a network that the gateway has no way to.
var far = netip.MustParsePrefix("10.99.0.0/24")

// furnish names the servers of the site.
func (w *wonder) furnish() error {
	for _, name := range []string{narrowName, voiceName, lateName} {
		w.net.private.Set(name, fixed(wikiPlace))
	}
	w.net.private.Set("far"+hostsOf, serve.Fixed("10.99.0.1"))
	w.net.private.Set("nothing"+hostsOf, serve.Answer{})
	w.net.public.Set("nothing.example.net", serve.Answer{})
	w.net.public.Set("far.example.net", serve.Fixed("10.99.0.1"))
	gateway := w.net.gateway
	return errors.Join(
		gateway.Links.RouteAdd(&netlink.Route{Dst: ipNet(far), Type: unix.RTN_UNREACHABLE}),
		// Linux answers few packets in a row, and here come more than a user sends.
		gateway.Sysctl("net.ipv4.icmp_ratelimit", "0"), gateway.Sysctl("net.ipv6.icmp.ratelimit", "0"),
	)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// faults are all that goes wrong, the next one after the former was mended.
func (w *wonder) faults() []fault {
	list := slices.Concat(w.noFaults(), w.farFaults(), w.outsideFaults(), w.nearFaults(), w.gatewayFaults(), w.portalFaults(), w.serviceFaults())
	if !host.Privileged() {
		list = slices.DeleteFunc(list, func(f fault) bool { return f.uid != 0 })
		w.note("this lab has one user only: whether others are let in is not tried")
	}
	return list
}

func (w *wonder) noFaults() []fault {
	var resolv []byte
	return []fault{
		{name: "nothing is wrong", target: wikiName + ":80", want: cause.Reachable},
		{name: "nothing is wrong, and no port is named", target: wikiName, want: cause.Reachable},
		{name: "nothing is wrong with a URL", target: "http://" + narrowName + "/x", want: cause.Reachable},
		{name: "nothing is wrong with a name that a search domain makes whole", target: "wiki:80", want: cause.Reachable,
			inject: func() (err error) {
				if resolv, err = w.net.laptop.ReadFile(resolvConf); err != nil {
					return err
				}
				return w.net.laptop.WriteFile(resolvConf, append(slices.Clone(resolv), "search corp.example\n"...), 0o644)
			},
			mend: func() error { return w.net.laptop.WriteFile(resolvConf, resolv, 0o644) }},
		{name: "a public page is reached past the tunnel", target: publicSite + ":80", want: cause.ReachableOutside},
	}
}

// farFaults are at the site.
func (w *wonder) farFaults() []fault {
	n := w.net
	deny := []netip.Addr{wikiPlace.v4.Addr(), wikiPlace.v6.Addr()}
	return []fault{
		{name: "nothing listens at the port", target: wikiName + ":81", want: cause.ServerRefuses},
		{name: "the server is off", target: wikiName + ":80", want: cause.ServerSilent,
			inject: func() error { return nat.Hole(n.wiki, deny...) }, mend: func() error { return nat.Hole(n.wiki) }},
		{name: "the gateway has no way to the server", target: "far" + hostsOf + ":80", want: cause.ServerUnreachable},
		{name: "a public name leads into a network of the site, and the gateway has no way there", target: "far.example.net:80", want: cause.ServerUnreachable},
		{name: "the gateway has no way to an address", target: far.Addr().Next().String() + ":80", want: cause.ServerUnreachable},
		{name: "a firewall of the gateway's host denies it", target: wikiName + ":80", want: cause.GatewayDenies,
			inject: func() error { return nat.Deny(n.gateway, deny...) }, mend: func() error { return nat.Deny(n.gateway) }},
		{name: "the site does not know the name", target: "nosuch" + hostsOf + ":80", want: cause.GatewayNoAddress},
		{name: "the site's DNS server fails", target: "fresh" + hostsOf + ":80", want: cause.GatewayCannotResolve,
			inject: func() error { n.private.Break(serve.Fails); return nil }, mend: w.privateWorks},
		{name: "the site's DNS server is silent", target: "fresher" + hostsOf + ":80", want: cause.GatewayDNSSilent,
			inject: func() error { n.private.Break(serve.Silent); return nil }, mend: w.privateWorks},
		{name: "the name has no address at the site", target: "nothing" + hostsOf + ":80", want: cause.GatewayNoAddress},
		{name: "the name has no address at the site, asked again", target: "nothing" + hostsOf + ":80", want: cause.GatewayNoAddress},
		{name: "filters deny the port", target: narrowName + ":22", want: cause.FilterDeniesPort},
		{name: "filters let only UDP pass", target: voiceName, want: cause.TCPNotAllowed},
		{name: "filters let only UDP pass at this port", target: voiceName + ":7", want: cause.TCPNotAllowed},
	}
}

func (w *wonder) privateWorks() error { w.net.private.Break(serve.Works); return nil }
func (w *wonder) publicWorks() error  { w.net.public.Break(serve.Works); return nil }

// outsideFaults are about hosts that no resource has.
func (w *wonder) outsideFaults() []fault {
	n := w.net
	without := slices.DeleteFunc(slices.Clone(whyResources), func(r resource) bool { return r.Type == "internet" })
	return []fault{
		{name: "the name does not exist", target: "nosuch.example.net:80", want: cause.NameUnknown},
		{name: "half a name", target: "nosuch:80", want: cause.NameIncomplete},
		{name: "a public name without an address", target: "nothing.example.net:80", want: cause.NameWithoutAddress},
		{name: "the network's DNS server is silent", target: "other.example.net:80", want: cause.DNSUpstream,
			inject: func() error { n.public.Break(serve.Silent); return nil }, mend: w.publicWorks},
		{name: "the network's DNS server fails", target: "other.example.net:80", want: cause.DNSUpstream,
			inject: func() error { n.public.Break(serve.Fails); return nil }, mend: w.publicWorks},
		{name: "nothing listens at a public server's port", target: publicSite + ":81", want: cause.OutsideRefuses},
		{name: "the address of a server instead of its name", target: wikiPlace.v4.Addr().String() + ":80", want: cause.AddressNotCovered},
		{name: "an address of the tunnel that stands for nothing", target: "100.96.200.200:80", want: cause.AddressUnassigned},
		{name: "a server that only the Internet resource could reach, and that is off", target: publicSite + ":80", want: cause.InternetOff,
			inject: func() error { return nat.Hole(n.web, webPlace.addrs()...) }},
		{name: "the Internet resource is on, and the server off", target: publicSite + ":80", want: cause.ServerSilent,
			inject: func() error { return w.internet("on") }, mend: func() error { return w.internet("off") }},
		{name: "a public server is off", target: publicSite + ":80", want: cause.OutsideSilent,
			inject: func() error { return w.reconfigure(without) }, mend: func() error { return nat.Hole(n.web) }},
		{name: "the network has no way to a public server", target: publicSite + ":80", want: cause.OutsideNoWay,
			inject: func() error { return w.noWay(n.home.Links.RouteAdd) },
			mend:   func() error { return errors.Join(w.noWay(n.home.Links.RouteDel), w.reconfigure(whyResources)) }},
	}
}

// internet switches the Internet resource.
func (w *wonder) internet(to string) error {
	if _, err := w.command("internet", to); err != nil {
		return err
	}
	return w.until(func(s *serviceState) bool { return slices.Contains(s.Tunnel.Routes, "0.0.0.0/0") == (to == "on") })
}

func (w *wonder) noWay(change func(*netlink.Route) error) error {
	for _, a := range webPlace.addrs() {
		if err := change(&netlink.Route{Dst: netlink.NewIPNet(a.AsSlice()), Type: unix.RTN_UNREACHABLE}); err != nil {
			return err
		}
	}
	return nil
}

// reconfigure changes the portal's file and waits until the laptop knows.
func (w *wonder) reconfigure(resources []resource) error {
	w.stile.resources = resources
	if err := w.stile.configure(); err != nil {
		return err
	}
	return w.until(func(s *serviceState) bool { return len(s.Resources) == len(resources) })
}

// A serviceState is what the lab reads of "stile status --json".
type serviceState struct {
	Session struct {
		Phase    string
		PortalUp bool `json:"portal_up"`
		Problem  *struct{ Code, Text string }
	}
	Resources []struct{ Name string }
	Tunnel    struct{ Routes []string }
}

// until waits for the service to show something.
func (w *wonder) until(shown func(*serviceState) bool) error {
	_, err := w.within(time.Now(), readyWithin, func() error {
		text, err := w.command("status", "--json")
		if err != nil {
			return err
		}
		var s serviceState
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return err
		}
		if !shown(&s) {
			return fmt.Errorf("the status does not show it yet: %+v", s)
		}
		return nil
	})
	return err
}

// inTrouble waits until the service tells of a trouble of that kind.
func (w *wonder) inTrouble(code string) error {
	return w.until(func(s *serviceState) bool { return s.Session.Problem != nil && s.Session.Problem.Code == code })
}

// nearFaults are on the laptop.
func (w *wonder) nearFaults() []fault {
	laptop, wiki := w.net.laptop, wikiName+":80"
	server := func(a string) func() []byte { return func() []byte { return []byte("nameserver " + a + "\n") } }
	var resolv, hosts []byte
	// The service may have taken DNS over again meanwhile, on other addresses.
	afresh := func() error {
		return errors.Join(w.stopClient(), laptop.WriteFile(resolvConf, server(dnsPlace.v4.Addr().String())(), 0o644), w.stile.startClient(w.stage))
	}
	keep := func(path string, into *[]byte, content func() []byte) func() error {
		return func() (err error) {
			if *into, err = laptop.ReadFile(path); err != nil {
				return err
			}
			return laptop.WriteFile(path, content(), 0o644)
		}
	}
	back := func(path string, from *[]byte) func() error {
		return func() error { return laptop.WriteFile(path, *from, 0o644) }
	}
	var routes []netlink.Route
	var ways []netlink.Route
	forget := func() error { return nil }
	list := []fault{
		{name: "the hosts file has the name", target: wiki, want: cause.HostsFile,
			inject: keep("/etc/hosts", &hosts, func() []byte { return append(slices.Clone(hosts), wikiPlace.v4.Addr().String()+" "+wikiName+"\n"...) }),
			mend:   back("/etc/hosts", &hosts)},
		{name: "another program rewrites resolv.conf", target: wiki, want: cause.DNSBypassed,
			inject: keep(resolvConf, &resolv, server(dnsPlace.v4.Addr().String())), mend: afresh},
		{name: "another program names a resolver that is dead", target: publicSite + ":80", want: cause.DNSBypassed,
			inject: keep(resolvConf, &resolv, server("192.0.2.99")), mend: afresh},
		{name: "a firewall of the laptop drops questions for names", target: wiki, want: cause.DNSQuestionsLost,
			inject: func() error { return w.mute(w.sentinelsOf) }, mend: func() error { return nat.Mute(laptop) }},
		{name: "a firewall of the laptop drops packets into the tunnel", target: wiki, want: cause.LocalFirewall,
			inject: func() error { return w.mute(func() ([]netip.Addr, error) { return w.both(wikiName) }) }, mend: func() error { return nat.Mute(laptop) }},
		{name: "another VPN leads the tunnel's addresses elsewhere", target: wiki, want: cause.RouteElsewhere,
			inject: w.otherVPN, mend: w.noOtherVPN},
		{name: "the laptop has no way out", target: wiki, want: cause.NoNetwork,
			inject: func() (err error) {
				ways, err = deleteRoutes(laptop, unix.RT_TABLE_MAIN, func(r netlink.Route) bool { return r.Gw != nil })
				return err
			},
			mend: func() error { return addRoutes(laptop, ways) }},
		{name: "another program deletes the tunnel's routes", target: wiki, want: cause.RouteMissing,
			inject: func() (err error) {
				routes, err = deleteRoutes(laptop, 0x2021fd00, func(netlink.Route) bool { return true })
				return err
			},
			mend: func() error { return addRoutes(laptop, routes) }},
	}
	if _, err := findProgram("getent"); err != nil {
		w.note("getent is not installed: what caches tell programs is not tried")
		return list
	}
	return append(list, fault{name: "a cache of the laptop has an old answer", target: wiki, want: cause.DNSStale,
		inject: func() (err error) { forget, err = w.cache(); return err }, mend: func() error { return forget() }})
}

// cache starts a cache of names on the laptop that programs ask first, and that
// knows the wiki's own address. The result ends it.
func (w *wonder) cache() (end func() error, err error) {
	var l net.Listener
	if err := w.net.laptop.Do(func() (err error) {
		if err := os.MkdirAll(filepath.Dir(serve.NSCDSocket), 0o755); err != nil {
			return err
		}
		l, err = net.Listen("unix", serve.NSCDSocket)
		return err
	}); err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it lies where only the laptop's thread sees it
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- serve.NSCD(ctx, l, wikiName, wikiPlace.v4.Addr()) }() // end waits for it
	return func() error {
		cancel()
		return errors.Join(<-ended, w.net.laptop.Do(func() error { return os.Remove(serve.NSCDSocket) }))
	}, nil
}

func (w *wonder) mute(addrs func() ([]netip.Addr, error)) error {
	list, err := addrs()
	if err != nil {
		return err
	}
	return nat.Mute(w.net.laptop, list...)
}

// sentinelsOf are the resolvers that the laptop asks.
func (w *wonder) sentinelsOf() (addrs []netip.Addr, err error) {
	text, err := w.net.laptop.ReadFile(resolvConf)
	if err != nil {
		return nil, err
	}
	config, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, s := range config.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// both are the addresses of both families that stand for a name.
func (w *wonder) both(name string) ([]netip.Addr, error) {
	four, err := w.proxies(name, "A")
	if err != nil {
		return nil, err
	}
	six, err := w.proxies(name, "AAAA")
	return append(four, six...), err
}

// vpn is the interface of another VPN, and its table.
const (
	vpn      = "vpn0"
	vpnTable = 99
)

func vpnRules() (rules []*netlink.Rule) {
	for _, p := range []string{"100.96.0.0/16", "fd00:2021:1111:8000::/112"} {
		prefix := netip.MustParsePrefix(p)
		r := netlink.NewRule()
		r.Dst, r.Table, r.Priority, r.Family = ipNet(prefix), vpnTable, 50, netlink.FAMILY_V4
		if prefix.Addr().Is6() {
			r.Family = netlink.FAMILY_V6
		}
		rules = append(rules, r)
	}
	return rules
}

func (w *wonder) otherVPN() error {
	links := w.net.laptop.Links
	if err := links.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: vpn}, PeerName: vpn + "-peer"}); err != nil {
		return err
	}
	device, err := links.LinkByName(vpn)
	if err != nil {
		return err
	}
	if err := links.LinkSetUp(device); err != nil {
		return err
	}
	for _, r := range vpnRules() {
		if err := links.RouteAdd(&netlink.Route{LinkIndex: device.Attrs().Index, Dst: r.Dst, Table: vpnTable, Scope: netlink.SCOPE_LINK}); err != nil {
			return err
		}
		if err := links.RuleAdd(r); err != nil {
			return err
		}
	}
	return nil
}

func (w *wonder) noOtherVPN() error {
	links := w.net.laptop.Links
	device, err := links.LinkByName(vpn)
	if err != nil {
		return err
	}
	for _, r := range vpnRules() {
		if err := links.RuleDel(r); err != nil {
			return err
		}
	}
	return links.LinkDel(device)
}

// deleteRoutes deletes some of the routes of a table, and returns them.
func deleteRoutes(h *host.Host, table int, which func(netlink.Route) bool) (all []netlink.Route, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.Links.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if !which(r) {
				continue
			}
			if err := h.Links.RouteDel(&r); err != nil {
				return nil, err
			}
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		err = fmt.Errorf("table %#x has no such routes", table)
	}
	return all, err
}

func addRoutes(h *host.Host, list []netlink.Route) error {
	var errs []error
	for _, r := range list {
		errs = append(errs, h.Links.RouteAdd(&r))
	}
	return errors.Join(errs...)
}

// gatewayFaults are about the connection to the gateway.
func (w *wonder) gatewayFaults() []fault {
	d, wiki := w.stile, wikiName+":80"
	var leave func() error
	return []fault{
		{name: "the gateway is not heard any more", target: wiki, want: cause.GatewayLost,
			inject: func() error { return errors.Join(nat.BlockUDP(w.net.home, true), w.pause(5*time.Second)) },
			mend:   func() error { return nat.BlockUDP(w.net.home, false) }},
		{name: "the gateway hangs", target: wiki, want: cause.GatewayLost,
			inject: func() error { return errors.Join(w.freeze(d.gate), w.pause(5*time.Second)) },
			mend:   func() error { return unix.Kill(d.gate.pid, unix.SIGCONT) }},
		{name: "the network blocks UDP", target: wiki, want: cause.GatewayUnreachable,
			inject: func() error {
				if err := nat.BlockUDP(w.net.home, true); err != nil {
					return err
				}
				if err := w.reload(); err != nil {
					return err
				}
				return w.vainly("http://" + wikiName + "/")
			},
			mend: func() error { return errors.Join(nat.BlockUDP(w.net.home, false), w.reload()) }},
		{name: "the site's gateway is off", target: wiki, want: cause.SiteOffline,
			inject: func() error { return errors.Join(d.gate.stop(), w.pause(4*time.Second)) }},
		{name: "the site's gateway is of another version", target: wiki, want: cause.GatewayVersion,
			inject: func() (err error) { leave, err = w.oldGateway(); return err }},
		{name: "no relay is online", target: wiki, want: cause.NoRelay,
			inject: func() error {
				return errors.Join(leave(), d.turn.stop(), d.startGateway(w.stage), w.pause(2500*time.Millisecond))
			},
			mend: func() error { return d.startRelay(w.stage) }},
	}
}

// freeze stops a program where it is, and waits until all of it stands still.
func (w *wonder) freeze(r *role) error {
	if err := unix.Kill(r.pid, unix.SIGSTOP); err != nil {
		return err
	}
	_, err := w.within(time.Now(), readyWithin, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", r.pid))
		if err != nil {
			return err
		}
		for _, t := range threads {
			text, err := os.ReadFile(t)
			if err != nil {
				return err
			}
			if _, rest, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(rest, "T") {
				return fmt.Errorf("a thread of %s still runs: %s", r.name, rest)
			}
		}
		return nil
	})
	return err
}

// pause waits.
func (w *wonder) pause(d time.Duration) error {
	select {
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	case <-time.After(d):
		return nil
	}
}

// reload tells the client that it is in another network, and waits until it
// has the portal again.
func (w *wonder) reload() error {
	if err := unix.Kill(w.stile.client.pid, unix.SIGHUP); err != nil {
		return err
	}
	if err := w.pause(300 * time.Millisecond); err != nil {
		return err
	}
	return w.until(func(s *serviceState) bool { return s.Session.PortalUp })
}

// vainly lets the user try first.
func (w *wonder) vainly(url string) error {
	if r, err := get(w.ctx, w.net.laptop, url, "", "--timeout", "3s"); err == nil {
		return fmt.Errorf("%s answers: %q", url, r.Body)
	}
	return nil
}

// oldGateway connects a gateway of another release to the portal, as far as
// the portal sees. The result ends it.
func (w *wonder) oldGateway() (leave func() error, err error) {
	token, err := w.stile.token(w.ctx, "--gateway", siteName)
	if err != nil {
		return nil, err
	}
	ca := w.order.Logs + "/authority.pem"
	if err := os.WriteFile(ca, w.net.authority.PEM(), 0o644); err != nil {
		return nil, err
	}
	channel, err := phoenix.New(phoenix.Config{
		URL: portalURL, Kind: phoenix.Gateway, Token: wire.Secret(token), ExternalID: wire.ExternalID("old gateway"), Name: "old", CAFile: ca,
		UserAgent: "Linux/6.1 gateway/1.0.0 (x86_64; 6.1)",
		Lookup:    func(context.Context, string) ([]netip.Addr, error) { return portalPlace.addrs(), nil },
		Dial:      w.net.gateway.Dial, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- channel.Run(ctx, wire.Key{9}, func(core.PortalEvent) {}) }() // leave waits for it
	leave = func() error {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	_, err = w.within(time.Now(), readyWithin, func() error { return w.stile.shows(portalStatus.hasGateway)(w.ctx) })
	return leave, err
}

// portalFaults are about the portal, most of them while the client has no
// session yet.
func (w *wonder) portalFaults() []fault {
	d, wiki := w.stile, wikiName+":80"
	var stop func() error
	pose := func(a *serve.Authority, status int, body string) func() error {
		return func() (err error) {
			if stop != nil {
				if err := stop(); err != nil {
					return err
				}
			}
			stop, err = w.pose(a, status, body)
			return err
		}
	}
	start := func(code string) error { return errors.Join(w.stopClient(), w.startService(), w.inTrouble(code)) }
	return []fault{
		{name: "the portal is away when new access is needed", target: lateName + ":80", want: cause.PortalAway,
			inject: func() error {
				return errors.Join(d.control.stop(), w.until(func(s *serviceState) bool { return !s.Session.PortalUp }))
			}},
		{name: "the portal is away, and access was granted before", target: wiki, want: cause.Reachable},
		{name: "the portal is not there at the start", target: wiki, want: cause.PortalUnreachable,
			inject: func() error { return start("portal-unreachable") }},
		{name: "the portal's name does not exist", target: wiki, want: cause.PortalName,
			inject: func() error {
				w.net.public.Set(portalName, serve.Answer{Rcode: dns.RcodeNameError})
				return start("portal-unreachable")
			}},
		{name: "the portal's certificate is not trusted", target: wiki, want: cause.PortalCertificate,
			inject: func() error {
				w.net.public.Set(portalName, fixed(portalPlace))
				stranger, err := serve.NewAuthority()
				if err != nil {
					return err
				}
				return errors.Join(pose(stranger, http.StatusOK, "")(), start("portal-unreachable"))
			}},
		{name: "the portal refuses this device", target: wiki, want: cause.PortalRefused,
			inject: func() error {
				return errors.Join(pose(w.net.authority, http.StatusUnauthorized, `{"code":"other","detail":"No."}`)(), start("portal-refused"))
			}},
		{name: "the portal ends the sign-in", target: wiki, want: cause.TokenRejected,
			inject: func() error {
				if err := stop(); err != nil {
					return err
				}
				return errors.Join(d.startPortal(w.stage), w.stopClient(), w.startService(), w.revoke(), w.inTrouble("token-rejected"))
			},
			mend: func() error {
				return errors.Join(d.signedIn(w.stage), w.stage.ready(d.client, d.shows(portalStatus.hasGateway)), w.stage.ready(d.turn, d.shows(portalStatus.hasRelay)))
			}},
	}
}

// pose puts a web server in the portal's place that answers all the same.
func (w *wonder) pose(a *serve.Authority, status int, body string) (stop func() error, err error) {
	config, err := a.Config(portalName)
	if err != nil {
		return nil, err
	}
	l, err := w.net.portal.Listen("tcp", ":443")
	if err != nil {
		return nil, err
	}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if !strings.HasPrefix(in.URL.Path, "/client/") { // gateway and relay come back later
			out.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		out.Header().Set("Content-Type", "application/problem+json")
		out.WriteHeader(status)
		io.WriteString(out, body)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(tls.NewListener(l, config)) }() // stop waits for it
	return func() error {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, nil
}

// revoke has the administrator end the user's sign-in.
func (w *wonder) revoke() error {
	text, err := w.stile.ask(w.ctx, "", "token", "list", "--json")
	if err != nil {
		return err
	}
	var tokens []struct {
		ID     string
		SignIn bool `json:"sign_in"`
	}
	if err := json.Unmarshal([]byte(text), &tokens); err != nil {
		return fmt.Errorf("token list --json: %w: %.300s", err, text)
	}
	for _, t := range tokens {
		if !t.SignIn {
			continue
		}
		if _, err := w.stile.ask(w.ctx, "", "token", "revoke", t.ID); err != nil {
			return err
		}
	}
	return nil
}

func (w *wonder) stopClient() error { return w.stile.client.stop() }

// startService starts the service as it was, with more variables, and waits
// until it takes commands.
func (w *wonder) startService(env ...string) (err error) {
	w.stile.client, err = w.start(w.net.laptop, "stiled", append([]string{"STILE_API_URL=" + portalURL, "STILE_TOKEN_PATH=" + clientToken}, env...), daemon)
	if err != nil {
		return err
	}
	return w.until(func(*serviceState) bool { return true })
}

// serviceFaults are about the service and the session.
func (w *wonder) serviceFaults() []fault {
	const somebody = 4711 // a user who is nobody in particular
	d, laptop, wiki := w.stile, w.net.laptop, wikiName+":80"
	connected := func() error { return w.until(func(s *serviceState) bool { return s.Session.Phase == "connected" }) }
	return []fault{
		{name: "another user asks", target: wikiName + ":81", want: cause.ServiceNotAllowed, uid: somebody},
		{name: "the service hangs", target: wiki, want: cause.ServiceSilent,
			inject: func() error { return w.freeze(d.client) }, mend: func() error { return unix.Kill(d.client.pid, unix.SIGCONT) }},
		{name: "somebody switches the tunnel interface off", target: wiki, want: cause.InterfaceDown,
			inject: func() error {
				device, err := laptop.Links.LinkByName("tun-stile")
				if err != nil {
					return err
				}
				return laptop.Links.LinkSetDown(device)
			}},
		{name: "the service does not run", target: wiki, want: cause.ServiceNotRunning,
			inject: w.stopClient},
		{name: "the service leaves DNS alone", target: wiki, want: cause.DNSControlOff,
			inject: func() error { return errors.Join(w.startService("STILE_DNS_CONTROL=disabled"), connected()) }},
		{name: "the system does not let DNS be set", target: wiki, want: cause.TunnelFailed,
			inject: func() error {
				return errors.Join(w.stopClient(), laptop.Do(func() error {
					if err := unix.Mount(resolvConf, resolvConf, "", unix.MS_BIND, ""); err != nil {
						return err
					}
					return unix.Mount("", resolvConf, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
				}), w.startService(), w.inTrouble("tunnel-failed"))
			},
			mend: func() error {
				return errors.Join(w.stopClient(), laptop.Do(func() error { return unix.Unmount(resolvConf, 0) }), w.startService(), connected())
			}},
		{name: "nobody is signed in", target: wiki, want: cause.SignedOut,
			inject: func() error { _, err := w.command("sign-out"); return err }},
		{name: "the service was not told its portal", target: wiki, want: cause.PortalUnknown,
			inject: func() error { return errors.Join(w.stopClient(), w.startService("STILE_API_URL=")) },
			mend:   func() error { return errors.Join(w.stopClient(), d.startClient(w.stage)) }},
	}
}
