//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// A kind is what a program of the lab is for.
type kind string

const (
	scenario      kind = "scenario"
	benchmark     kind = "benchmark"
	demonstration kind = "demo"
)

// A program is something that the lab can do.
type program struct {
	kind  kind
	name  string
	about string
	root  bool // needs a second uid or socket buffers that only root gets
	run   func(*stage) error
}

// programs lists all that the lab can do. It is filled at start, because the
// programs themselves look into it.
var programs []program

func init() {
	programs = []program{
		{scenario, "up", "the internet comes up and nothing else happens (use with --keep)", false, runUp},
		{scenario, "world", "every kind of NAT behaves as it should; public pages are reached, private ones are not", false, runWorld},
		{scenario, "direct", "the wiki by name, no router translates", false, runDirect},
		{scenario, "nat-direct", "the wiki by name, both routers port-restricted", false, runNATDirect},
		{scenario, "cidr", "the site's network by address, both routers port-restricted", false, runCIDR},
		{scenario, "nat-relay", "the wiki by name, both routers symmetric: through the relay", false, runNATRelay},
		{scenario, "ipv6", "no IPv4 between laptop and site; a name that has IPv6 addresses only", false, runIPv6},
		{scenario, "filters", "ports that are not open are refused at once, by the laptop and by the gateway", false, runFilters},
		{scenario, "policy-removed", "access ends when the policy leaves the portal's file, and comes back with it", false, runPolicyRemoved},
		{scenario, "portal-restart", "open connections do not notice that the portal is started again", false, runPortalRestart},
		{scenario, "relay-restart", "relayed connections survive that the relay is started again", false, runRelayRestart},
		{scenario, "gateway-restart", "connections survive, or are ended, when the gateway is started again or killed", false, runGatewayRestart},
		{scenario, "client-kill9", "after kill -9 the next start leaves nothing behind", false, runClientKill},
		{scenario, "sign-out-in", "a user signs in with a browser, out and in again; the same addresses stand for names", false, runSignOutIn},
		{scenario, "desktop", "a user signs in, out and quits by the menu of the app, which tells of service and portal", false, runDesktop},
		{scenario, "flight-record", "the client tells what it did, without what was said, and keeps it when its site is lost", false, runFlightRecord},
		{scenario, "settings", "a service starts with what its users chose, and with a policy; SIGHUP begins anew", false, runSettings},
		{scenario, "internet", "everything through the tunnel, by the Internet resource", false, runInternet},
		{scenario, "round-robin", "changing DNS answers cut no connection: 1,100 of them, 1,000 answers (two minutes; --short: one)", false, runRoundRobin},
		{scenario, "dns-outage", "names go on working while the site's DNS server fails (ten minutes; --short: one)", false, runDNSOutage},
		{scenario, "server-dies", "one of a name's two servers stops: new connections reach the other", false, runServerDies},
		{scenario, "gateway-upgrade", "1,100 open connections survive that the gateway ends in order and is started again", false, runGatewayUpgrade},
		{scenario, "icmp", "errors come back through the tunnel and speak of the addresses that programs know", false, runICMP},
		{scenario, "tcp", "connections end, abort, rest and begin again from the same port as they do without a tunnel", false, runTCP},
		{scenario, "fragments", "datagrams larger than the tunnel's packets arrive in both directions", false, runFragments},
		{scenario, "hostile-client", "a client that opens flows as fast as it can does not slow down another (two minutes, on a machine that has time)", false, runHostileClient},
		{scenario, "clock-jump", "wall clocks that jump by an hour are no reason to stop (programs by build/lab/jump/build.sh)", false, runClockJump},
		{scenario, "why", "one thing after the other breaks, and the user is told which (three minutes)", false, runWhy},
		{scenario, "readme", "what the README tells people who host themselves, typed into three fresh hosts", true, runReadme},
		{demonstration, "demo", "the wiki by name, step by step", false, runDemo},
		{benchmark, "gateway", "our gateway beside a Linux router that does destination NAT and masquerading", true, runGateway},
		{benchmark, "throughput", "TCP through our tunnel, through wireguard-go and through neither", true, runThroughput},
	}
}

func find(k kind, name string) (program, error) {
	for _, p := range programs {
		if p.kind == k && p.name == name {
			return p, nil
		}
	}
	return program{}, fmt.Errorf("there is no %s %q: see lab list", k, name)
}

// patience is how long the ordered scenario or benchmark may take.
func (s *stage) patience() time.Duration {
	if s.order.Name == "dns-outage" && !s.order.Short {
		return 15 * time.Minute
	}
	return 5 * time.Minute
}

// insideCmd is the second life of the program: process 1 of the enclosure.
type insideCmd struct {
	Order string `arg:""`
}

func (i *insideCmd) Run() error {
	var o order
	if err := json.Unmarshal([]byte(i.Order), &o); err != nil {
		return err
	}
	unix.CloseOnExec(host.FirstExtra)
	began := time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	s := newStage(ctx, o)
	err := host.Settle()
	if err == nil {
		err = s.perform(ctx)
	}
	r := result{Scenario: o.Name, OK: err == nil, MS: time.Since(began).Milliseconds(), Metrics: s.metrics}
	if err != nil {
		r.Error = err.Error()
	}
	if o.Keep && o.Kind == scenario && len(s.hosts) > 0 {
		s.linger(ctx, err)
	}
	s.close()
	answer := os.NewFile(host.FirstExtra, "answer")
	if err := json.NewEncoder(answer).Encode(r); err != nil {
		return fmt.Errorf("tell the result: %w", err)
	}
	return nil
}

// perform runs the ordered program with a limit on its time.
func (s *stage) perform(ctx context.Context) error {
	p, err := find(s.order.Kind, s.order.Name)
	if err != nil {
		return err
	}
	if p.root && !host.Privileged() {
		return fmt.Errorf("%s %s NEEDS ROOT and was NOT run: a second user or large socket buffers are not to be had otherwise", p.kind, p.name)
	}
	if p.kind != demonstration {
		alarm := time.AfterFunc(s.patience(), func() { s.fail(fmt.Errorf("not finished after %v", s.patience())) })
		defer alarm.Stop()
	}
	err = p.run(s)
	if cause := context.Cause(s.ctx); cause != nil && ctx.Err() == nil && !errors.Is(err, cause) {
		err = errors.Join(err, cause)
	}
	if err != nil {
		err = fmt.Errorf("%w\nall logs are in %s", err, s.order.Logs)
	}
	if err == nil && ctx.Err() != nil && p.kind != demonstration {
		err = errors.New("interrupted")
	}
	return err
}

// linger keeps the world until somebody ends it.
func (s *stage) linger(ctx context.Context, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n%v\n", err)
	}
	fmt.Fprintf(os.Stderr, "\nkept: look around with  %s shell HOST  from another terminal; Ctrl-C ends it\n", s.order.Self)
	<-ctx.Done()
}

// runUp brings up the internet.
func runUp(s *stage) error {
	return s.step("an internet of its own comes up", func() error {
		_, err := newInternet(s, defaultHome, defaultSite)
		return err
	})
}
