package forward

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	nl "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func TestForwardsBothFamiliesAndLetsOnlyAnswersIn(t *testing.T) {
	w := newWorld(t)
	w.stuck()
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	w.passes()
	// The resource's side knows the way, and somebody listens.
	w.in(w.resource, func() {
		route(t, "eth0", "100.64.0.0/11", "10.9.0.1")
		route(t, "eth0", "fd00:2021:1111::/107", "fd00:10:9::1")
	})
	for _, to := range []netip.Addr{client4, client6} {
		if c, err := w.dial(w.resource, to); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("a packet of the resource's own came to %v: %v", to, err)
			if c != nil {
				c.Close()
			}
		}
	}
	if p := f.Check(); len(p) > 0 {
		t.Errorf("problems %v", p)
	}
	must(t, f.Close())
	w.stuck()
}

// Beside each other firewall: found and explained; with the command that the
// administrator is told, it passes; with Integrate it passes without; and the
// other's rules are byte for byte as before afterwards.
func TestBesideOtherFirewalls(t *testing.T) {
	for _, row := range []struct {
		name  string
		files []string
		help  []string // for IPv4, then IPv6
		do    [][]string
	}{
		{"docker", []string{"docker.v4", "docker.v6"},
			[]string{"sudo iptables -I DOCKER-USER -i tun-test -j ACCEPT && sudo iptables -I DOCKER-USER -o tun-test -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "sudo ip6tables -I DOCKER-USER"}, nil},
		{"ufw", []string{"ufw.v4", "ufw.v6"}, []string{"sudo ufw route allow in on tun-test", "sudo ufw route allow in on tun-test"},
			[][]string{{"iptables-nft", "-A", "ufw-user-forward", "-i", "tun-test", "-j", "ACCEPT"}, {"ip6tables-nft", "-A", "ufw6-user-forward", "-i", "tun-test", "-j", "ACCEPT"}}},
		{"firewalld", []string{"firewalld.nft"}, []string{"sudo firewall-cmd --permanent --zone=trusted --add-interface=tun-test && sudo firewall-cmd --reload"},
			[][]string{{"nft", "insert", "rule", "inet", "firewalld", "filter_FORWARD_POLICIES", "iifname", "tun-test", "accept"}}},
		{"plain", []string{"plain.nft"}, []string{"sudo nft insert rule inet filter forward iifname tun-test accept"}, nil},
		{"all", []string{"docker.v4", "docker.v6", "ufw.v4", "ufw.v6", "firewalld.nft", "plain.nft"}, nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			for _, file := range row.files {
				load(t, file)
			}
			before := foreign(t)

			f := New(Config{Interface: tunnel, Log: quiet})
			must(t, f.Enable())
			w.stuck()
			problems := f.Check()
			if row.help != nil && len(problems) != len(row.help) {
				t.Fatalf("problems %v", problems)
			}
			for i, help := range row.help {
				if problems[i].Kind != Blocked || !strings.HasPrefix(problems[i].Help, help) {
					t.Errorf("problem %v, want %s", problems[i], help)
				}
			}
			if got := foreign(t); got != before {
				t.Errorf("others' rules changed:\n%s", got)
			}

			if row.name == "docker" || row.name == "plain" { // the very commands
				for _, p := range problems {
					for _, command := range strings.Split(strings.TrimSuffix(strings.TrimSuffix(p.Help, ", and save it with your rules"), " (Docker keeps these until the host restarts)"), " && ") {
						words := strings.Fields(strings.TrimPrefix(command, "sudo "))
						if strings.HasSuffix(words[0], "tables") {
							words[0] += "-nft"
						}
						tool(t, words[0], words[1:]...)
					}
				}
			}
			for _, words := range row.do { // what the command makes the other firewall do
				tool(t, words[0], words[1:]...)
			}
			if row.name != "all" {
				if p := f.Check(); len(p) > 0 {
					t.Errorf("after the advice: %v", p)
				}
				w.passes()
			}
			must(t, f.Close())
			tool(t, "nft", "flush", "ruleset")
			for _, file := range row.files {
				load(t, file)
			}
			before = foreign(t)

			f = New(Config{Interface: tunnel, Integrate: true, Log: quiet})
			must(t, f.Enable())
			must(t, f.Enable())
			if n := strings.Count(foreign(t), mark); n == 0 || n > 10 {
				t.Errorf("%d rules of ours:\n%s", n, foreign(t))
			}
			w.passes()
			if p := f.Check(); len(p) > 0 {
				t.Errorf("integrated: %v", p)
			}
			if len(row.files) > 1 { // the other's own tool still reads its rules
				if text := tool(t, "iptables-nft", "-S", "FORWARD"); !strings.Contains(text, "-i tun-test") {
					t.Error(text)
				}
			}
			must(t, f.Close())
			if got := foreign(t); got != before {
				t.Errorf("others' rules after\n%s\nbefore\n%s", got, before)
			}
		})
	}
}

func TestARuleThatNamesTheTunnelIsObeyed(t *testing.T) {
	w := newWorld(t)
	tool(t, "nft", `table inet mine { chain forward { type filter hook forward priority 0; iifname "tun-test" counter drop; }; }`)
	before := foreign(t)
	f := New(Config{Interface: tunnel, Integrate: true, Log: quiet})
	must(t, f.Enable())
	w.stuck()
	if p := f.Check(); len(p) != 1 || !strings.Contains(p[0].Text, "names tun-test") {
		t.Errorf("problems %v", p)
	}
	if got := foreign(t); got != before {
		t.Errorf("others' rules changed:\n%s", got)
	}
	must(t, f.Close())
}

// Rules about particular packets hold; only what drops by default is passed.
func TestIntegrationKeepsParticularRules(t *testing.T) {
	w := newWorld(t)
	tool(t, "nft", `table inet mine { chain forward { type filter hook forward priority 0; policy drop; ip daddr 10.9.0.10 drop; }; }`)
	f := New(Config{Interface: tunnel, Integrate: true, Log: quiet})
	must(t, f.Enable())
	if _, err := w.reach(resource4); err == nil {
		t.Error("the administrator's rule was passed by")
	}
	if _, err := w.reach(resource6); err != nil {
		t.Error(err)
	}
	must(t, f.Close())
}

// Rules that the kernel's other interface holds are seen by what they do.
func TestRulesOfIptablesLegacy(t *testing.T) {
	w := newWorld(t)
	tool(t, "iptables-legacy", "-P", "FORWARD", "DROP")
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	if p := f.Check(); len(p) != 0 {
		t.Errorf("before any packet: %v", p)
	}
	if _, err := w.reach(resource4); err == nil {
		t.Error("it passes")
	}
	if p := f.Check(); len(p) != 1 || p[0].Kind != Dropped || !strings.Contains(p[0].Help, "iptables-legacy -I FORWARD -i tun-test") {
		t.Errorf("problems %v", p)
	}
	if p := f.Check(); len(p) != 0 {
		t.Errorf("nothing more was lost: %v", p)
	}
	must(t, f.Close())
}

// Another tool's "flush everything" does not touch a table that the kernel
// guards, and what it does to one that it does not guard is put back.
func TestFlushedByAnotherTool(t *testing.T) {
	for _, guarded := range []bool{true, false} {
		t.Run(fmt.Sprint("guarded ", guarded), func(t *testing.T) {
			w := newWorld(t)
			var book logbook
			f := New(Config{Interface: tunnel, Log: book.logger()})
			must(t, f.Enable())
			if !f.owned {
				t.Log("this kernel knows no owners")
			}
			if !guarded { // as on Linux before 5.12
				commit := f.firewall.commit
				must(t, f.firewall.commit(ours(tunnel, 0)[:2]))
				must(t, commit(ours(tunnel, 0)))
				var err error
				f.installed, err = f.firewall.fingerprint()
				must(t, err)
				f.firewall.commit = func(m []nl.Message) error {
					if len(m) > 2 && bytes.Equal(m[2].Data, ours(tunnel, tableOwner)[2].Data) {
						return unix.EOPNOTSUPP
					}
					return commit(m)
				}
			}
			stop := running(t, w, f)
			flow, err := w.dial(w.client, resource4)
			must(t, err)
			defer flow.Close()
			_, err = greeting(flow)
			must(t, err)

			longest := time.Duration(0)
			for range 3 {
				tool(t, "nft", "flush", "ruleset")
				began := time.Now()
				for {
					if from, err := w.reach(resource4); err == nil && from.String() == "10.9.0.1" {
						break
					}
					if time.Since(began) > 3*time.Second {
						t.Fatalf("still down after %v\n%s", time.Since(began), book.String())
					}
				}
				longest = max(longest, time.Since(began))
				fmt.Fprint(flow, "x")
				if _, err := io.ReadFull(flow, make([]byte, 1)); err != nil {
					t.Fatalf("the open flow ended: %v", err)
				}
			}
			t.Logf("new connections worked %v after a flush", longest.Round(time.Millisecond))
			if longest > 1500*time.Millisecond {
				t.Errorf("it took %v", longest)
			}
			want := 1
			if guarded && f.owned {
				want = 0
			}
			if n := strings.Count(book.String(), "put back"); n != want {
				t.Errorf("%d lines, want %d:\n%s", n, want, book.String())
			}
			stop()
			must(t, f.Close())
		})
	}
}

// What left unmasqueraded while our table was gone must not stay so: the
// kernel remembers a flow for as long as it goes on.
func TestAFlowOfTheGapRecovers(t *testing.T) {
	w := newWorld(t)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	var at, from net.PacketConn
	var err error
	w.in(w.resource, func() { at, err = net.ListenPacket("udp", "10.9.0.10:53") })
	must(t, err)
	defer at.Close()
	w.in(w.client, func() { from, err = net.ListenPacket("udp", "100.64.0.5:4000") })
	must(t, err)
	defer from.Close()
	ask := func() string {
		_, err := from.WriteTo([]byte("?"), at.LocalAddr())
		must(t, err)
		at.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, as, err := at.ReadFrom(make([]byte, 9))
		must(t, err)
		return as.String()
	}
	must(t, f.firewall.commit(removalOf(TableName)))
	if as := ask(); as != "100.64.0.5:4000" {
		t.Fatalf("came as %s in the gap", as)
	}
	_, err = f.repair()
	must(t, err)
	if as := ask(); as != "10.9.0.1:4000" {
		t.Errorf("came as %s afterwards", as)
	}
	must(t, f.Close())
}

// On kernels that know no owners a killed process leaves its table.
func TestRestoreRemovesATableThatNobodyOwns(t *testing.T) {
	inNamespace(t)
	f, err := dial()
	must(t, err)
	must(t, f.commit(ours(tunnel, 0)))
	must(t, f.close())
	must(t, Restore(quiet))
	if list := tool(t, "nft", "list", "tables"); list != "" {
		t.Error(list)
	}
}

// An alarm goes off although something happens all the time.
func TestAlarmsAreNotPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, a := time.Now(), newAlarm(time.Hour)
		for range 100 {
			a.within(settle)
			select {
			case <-a.C:
				if took := time.Since(began); took != settle {
					t.Errorf("after %v", took)
				}
				return
			case <-time.After(settle / 10):
			}
		}
		t.Error("never")
	})
}

func running(t *testing.T, w *world, f *Forwarding) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(w.gateway.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f.Run(ctx)
	}()
	return func() { cancel(); must(t, <-done) }
}

// Whoever removes the table again and again is not fought as often.
func TestRepairsBecomeRarer(t *testing.T) {
	inNamespace(t)
	var book logbook
	f := New(Config{Interface: tunnel, Log: book.logger()})
	must(t, f.Enable())
	k := keeper{f: f, known: map[string]bool{}}
	now, repairs := time.Now(), 0
	for range 1200 { // two minutes of an opponent who comes ten times a second
		if is, err := f.firewall.fingerprint(); err == nil && is != "" {
			must(t, f.firewall.commit(removalOf(TableName)))
		}
		was := k.last
		k.repair(now)
		if k.last != was {
			repairs++
		}
		now = now.Add(100 * time.Millisecond)
	}
	if repairs < 8 || repairs > 14 {
		t.Errorf("%d repairs in two minutes", repairs)
	}
	if n := strings.Count(book.String(), "level=WARN"); n != 2 {
		t.Errorf("%d lines:\n%s", n, book.String())
	}
	// Left alone, the next repair is at once again.
	k.repair(now.Add(time.Hour))
	must(t, f.firewall.commit(removalOf(TableName)))
	if k.repair(now.Add(2*time.Hour)) >= time.Second {
		t.Error("still slow")
	}
	must(t, f.Close())
}
