package forward

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"
	nl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An uplink that lives by router advertisements keeps its default route, and
// other interfaces stay deaf to them.
func TestAnAdvertisedDefaultRouteStays(t *testing.T) {
	inNamespace(t)
	w := &world{t: t, gateway: here(t), resource: namespace(t)}
	w.in(w.resource, func() { must(t, os.WriteFile(proc+"ipv6/conf/default/accept_dad", []byte("0"), 0)) })
	must(t, os.WriteFile(proc+"ipv6/conf/default/accept_dad", []byte("0"), 0))
	cable(t, "eth0", w.resource)
	other := namespace(t)
	cable(t, "eth1", other)
	w.in(w.resource, func() { address(t, "eth0") })
	advertised := func() bool {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
		return err == nil && len(routes) > 0
	}
	eventually(t, "a default route", func() bool {
		w.in(w.resource, func() { advertise(t, "eth0") })
		return advertised()
	})
	before := kernel(t)

	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	if !advertised() {
		t.Error("the default route is gone")
	}
	for name, want := range map[string]int{"eth0": 2, "eth1": 1, "all": 1, "default": 1} {
		if v, err := read(proc + "ipv6/conf/" + name + "/accept_ra"); err != nil || v != want {
			t.Errorf("accept_ra of %s is %d, want %d, %v", name, v, want, err)
		}
	}
	must(t, f.Close())
	if v, _ := read(proc + "ipv6/conf/eth0/accept_ra"); v != 1 {
		t.Errorf("accept_ra of eth0 is %d afterwards", v)
	}
	if after := kernel(t); strings.Contains(after, "forwarding=1") {
		t.Errorf("settings after\n%s\nbefore\n%s", after, before)
	}
}

// advertise sends one router advertisement, good for half an hour (RFC 4861
// section 4.2), from the interface to all nodes.
func advertise(t *testing.T, name string) {
	l, err := netlink.LinkByName(name)
	must(t, err)
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	must(t, err)
	defer unix.Close(s)
	must(t, unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255))
	must(t, unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, l.Attrs().Index))
	to := &unix.SockaddrInet6{ZoneId: uint32(l.Attrs().Index)}
	copy(to.Addr[:], net.ParseIP("ff02::1"))
	packet := []byte{134, 0, 0, 0, 64, 0, 1800 >> 8, 1800 & 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	unix.Sendto(s, packet, 0, to) // before it has an address of its own this fails, and is tried again
}

// Another tool's "sysctl --system" is noticed and repaired.
func TestForwardingTurnedOff(t *testing.T) {
	w := newWorld(t)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	must(t, os.WriteFile(proc+"ipv4/ip_forward", []byte("0"), 0))
	must(t, os.WriteFile(proc+"ipv6/conf/all/forwarding", []byte("0"), 0))
	w.stuck()
	p := f.Check()
	if len(p) != 2 || p[0].Kind != ForwardingOff || !strings.HasPrefix(p[0].Help, "sudo sysctl -w net.ipv4.ip_forward=1") || !strings.HasPrefix(p[1].Help, "sudo sysctl -w net.ipv6.conf.all.forwarding=1") {
		t.Errorf("problems %v", p)
	}
	_, err := f.repair()
	must(t, err)
	w.passes()
	must(t, f.Close())
}

func TestOurTableRemovedIsAProblem(t *testing.T) {
	inNamespace(t)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	must(t, f.firewall.commit(removalOf(TableName)))
	if p := f.Check(); len(p) != 1 || p[0].Kind != NoMasquerade {
		t.Errorf("problems %v", p)
	}
	must(t, f.Close())
}

func TestNearlyFull(t *testing.T) {
	for _, row := range []struct {
		t    Tracked
		full bool
	}{{Tracked{0, 0}, false}, {Tracked{89, 100}, false}, {Tracked{90, 100}, true}, {Tracked{262144, 262144}, true}} {
		if row.t.Full() != row.full {
			t.Errorf("%+v", row.t)
		}
	}
}

// A process of its own is killed for real.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	load(t, "docker.v4")
	rules, before := foreign(t), kernel(t)
	c := exec.Command("/proc/self/exe", "-test.run=^TestToBeKilled$", "-test.v")
	c.Env = append(os.Environ(), victim+"="+journal)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "enabled" {
		t.Log(lines.Text())
	}
	if _, err := w.reach(resource4); err != nil {
		t.Error(err)
	}
	must(t, c.Process.Kill())
	c.Wait()
	if list := tool(t, "nft", "list", "tables"); strings.Contains(list, TableName) {
		t.Errorf("our table outlives its owner: %s", list)
	}
	must(t, Restore(quiet))
	if got := foreign(t); got != rules {
		t.Errorf("others' rules after\n%s\nbefore\n%s", got, rules)
	}
	if after := kernel(t); after != before {
		t.Errorf("settings after\n%s\nbefore\n%s", after, before)
	}
	if _, err := os.Stat(journal); err == nil {
		t.Error("the journal stayed")
	}
}

// victim names the variable that makes the test below the process to kill.
const victim = "STILE_TEST_FORWARD_VICTIM"

func TestToBeKilled(t *testing.T) {
	if os.Getenv(victim) == "" {
		return // not a test by itself
	}
	journal = os.Getenv(victim)
	must(t, New(Config{Interface: tunnel, Integrate: true, Log: quiet}).Enable())
	os.Stdout.WriteString("enabled\n")
	select {}
}

// The kernel's lists are parsed without trust in their form.
func FuzzRules(f *testing.F) {
	for _, m := range ours(tunnel, tableOwner) {
		f.Add(m.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 4 {
			return
		}
		m := nl.Message{Data: data}
		if r, err := parseRule(m); err == nil {
			chain := &chainOf{family: inet, table: "t", name: "c", base: true, kind: "filter", hook: unix.NF_INET_FORWARD, rules: []*ruleOf{r}}
			set := &ruleset{chains: []*chainOf{chain}, sets: func(byte, string, string) ([]nftables.SetElement, error) { return nil, nil }}
			for _, answer := range []bool{false, true} {
				set.blocks(probe{family: unix.NFPROTO_IPV4, in: tunnel, out: "eth0", answer: answer, tunnel: client4.AsSlice()})
			}
		}
		parseChain(m)
	})
}

// No benchmark here has parts: b.Run would leave the namespace.

func BenchmarkEnableFirst(b *testing.B) {
	f := enabled(b)
	for b.Loop() {
		f.installed = ""
		must(b, f.Enable())
	}
}

func BenchmarkEnableAgain(b *testing.B) {
	f := enabled(b)
	for b.Loop() {
		must(b, f.Enable())
	}
}

func BenchmarkCheckBesideThreeOthers(b *testing.B) {
	f := enabled(b)
	load(b, "docker.v4")
	load(b, "ufw.v4")
	load(b, "firewalld.nft")
	for b.Loop() {
		f.Check()
	}
}

func enabled(b *testing.B) *Forwarding {
	inNamespace(b)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(b, f.Enable())
	b.Cleanup(func() { f.Close() })
	return f
}
