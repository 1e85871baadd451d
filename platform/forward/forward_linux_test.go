package forward

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var quiet = slog.New(slog.DiscardHandler)

func TestEnableAndClose(t *testing.T) {
	inNamespace(t)
	c, err := nftables.New()
	must(t, err)
	foreign := c.AddTable(&nftables.Table{Name: "foreign", Family: nftables.TableFamilyINet})
	must(t, c.Flush())
	before := kernel(t)

	for range 2 {
		f := New(Config{Interface: tunnel, Log: quiet})
		for range 2 {
			must(t, f.Enable())
			if v, _ := read(proc + "ipv4/ip_forward"); v != 1 {
				t.Error("forwarding is off")
			}
			chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
			must(t, err)
			var names []string
			for _, ch := range chains {
				rules, err := c.GetRules(ch.Table, ch)
				must(t, err)
				names = append(names, ch.Table.Name+"/"+ch.Name+":"+string(rune('0'+len(rules))))
			}
			if got := strings.Join(names, " "); got != "stile/forward:4 stile/passed:2 stile/postrouting:2" {
				t.Errorf("chains %s", got)
			}
		}
		for range 2 {
			must(t, f.Close())
			if after := kernel(t); after != before {
				t.Errorf("settings after\n%s\nbefore\n%s", after, before)
			}
			tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
			must(t, err)
			if len(tables) != 1 || tables[0].Name != foreign.Name {
				t.Errorf("tables %v", tables)
			}
		}
		if _, err := os.Stat(journal); err == nil {
			t.Error("the journal stayed")
		}
	}
}

// The connection settings do not exist before our rules load tracking.
func TestTrackingOutlastsSessions(t *testing.T) {
	inNamespace(t)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	for name, least := range map[string]int{"udp_timeout_stream": 300, "udp_timeout": 60, "icmp_timeout": 120, "icmpv6_timeout": 120, "tcp_be_liberal": 1, "tcp_ignore_invalid_rst": 1} {
		if v, err := read(proc + "netfilter/nf_conntrack_" + name); err != nil || v < least {
			t.Errorf("%s is %d, %v", name, v, err)
		}
	}
	if c, err := Conntrack(); err != nil || c.Max == 0 || c.Full() {
		t.Errorf("%+v, %v", c, err)
	}
	must(t, f.Close())
	if v, _ := read(proc + "netfilter/nf_conntrack_udp_timeout"); v != 30 {
		t.Errorf("the kernel's 30 s became %d", v)
	}
	if v, _ := read(proc + "netfilter/nf_conntrack_tcp_be_liberal"); v != 0 {
		t.Errorf("liberal about TCP windows afterwards: %d", v)
	}
}

// A process that is killed leaves its settings and its journal; its table and
// the socket that owned it are gone. The next one takes over.
func TestTheNextRunUndoesAKilledOne(t *testing.T) {
	w := newWorld(t)
	load(t, "docker.v4")
	rules, before := foreign(t), kernel(t)
	killed := New(Config{Interface: tunnel, Integrate: true, Log: quiet})
	must(t, killed.Enable())
	if foreign(t) == rules {
		t.Fatal("nothing was integrated")
	}
	must(t, killed.firewall.close()) // what the kernel does at kill -9
	if strings.Contains(tool(t, "nft", "list", "tables"), TableName) {
		t.Error("our table outlives its owner")
	}
	must(t, Restore(quiet))
	if got := foreign(t); got != rules {
		t.Errorf("others' rules after\n%s\nbefore\n%s", got, rules)
	}
	if after := kernel(t); after != before {
		t.Errorf("settings after\n%s\nbefore\n%s", after, before)
	}
	w.stuck()
}

func TestAnEarlierVersionsTableIsReplaced(t *testing.T) {
	w := newWorld(t)
	tool(t, "nft", `table inet stile {
		set old { type ipv4_addr; }
		map names { type ipv4_addr : verdict; }
		chain helper { return; }
		chain forward { type filter hook forward priority filter; policy drop; jump helper; }
		chain postrouting { type nat hook postrouting priority srcnat; policy accept; oifname "eth0" masquerade; }
	}`)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	w.passes()
	if list := tool(t, "nft", "list", "table", "inet", TableName); strings.Contains(list, "old") || strings.Contains(list, "helper") {
		t.Error(list)
	}
	must(t, f.Close())
}

func TestASecondOneIsRefused(t *testing.T) {
	inNamespace(t)
	first, second := New(Config{Interface: tunnel, Log: quiet}), New(Config{Interface: tunnel, Log: quiet})
	must(t, first.Enable())
	for what, err := range map[string]error{"Enable": second.Enable(), "Restore": Restore(quiet)} {
		if err == nil || !strings.Contains(err.Error(), "belongs to another process") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if v, _ := read(proc + "ipv4/ip_forward"); v != 1 {
		t.Error("the second one ended the first one's forwarding")
	}
	must(t, first.Close())
	must(t, second.Close())
}

// Each feature's absence has a sentence of its own, and the next step.
func TestKernelsThatLackSomething(t *testing.T) {
	inNamespace(t)
	has := func(m netlink.Message, part string) bool { return bytes.Contains(m.Data, []byte(part+"\x00")) }
	is := func(m netlink.Message, kind int) bool { return int(m.Header.Type)&0xff == kind }
	for _, row := range []struct {
		lacks func(netlink.Message) bool
		errno unix.Errno
		says  string
	}{
		{func(m netlink.Message) bool { return true }, unix.EPERM, "root or CAP_NET_ADMIN"},
		{func(m netlink.Message) bool { return is(m, unix.NFT_MSG_NEWTABLE) }, unix.EOPNOTSUPP, "modprobe nf_tables"},
		{func(m netlink.Message) bool { return is(m, unix.NFT_MSG_NEWCHAIN) && has(m, "filter") }, unix.ENOENT, "filter chains"},
		{func(m netlink.Message) bool { return has(m, "ct") }, unix.ENOENT, "modprobe nft_ct"},
		{func(m netlink.Message) bool { return is(m, unix.NFT_MSG_NEWCHAIN) && has(m, "nat") }, unix.ENOENT, "modprobe nft_chain_nat"},
		{func(m netlink.Message) bool { return has(m, "masq") }, unix.ENOENT, "modprobe nft_masq"},
	} {
		f := New(Config{Interface: tunnel, Log: quiet})
		w, err := dial()
		must(t, err)
		f.firewall, f.told = w, map[string]bool{}
		w.commit = func(batch []netlink.Message) error {
			for _, m := range batch {
				if row.lacks(m) {
					return row.errno
				}
			}
			return w.send(batch)
		}
		err = f.Enable()
		if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is missing in: %v", row.says, err)
		}
		if v, _ := read(proc + "ipv4/ip_forward"); v != 0 {
			t.Error("forwards without a firewall")
		}
		w.commit = w.send
		must(t, f.Close())
	}
	f, err := dial()
	must(t, err)
	defer f.close()
	if left, err := f.dump(unix.NFT_MSG_GETTABLE, inet); err != nil || len(left) > 0 {
		t.Errorf("%d tables are left, %v", len(left), err)
	}
}

func TestWhatOthersChangedMeanwhileStays(t *testing.T) {
	inNamespace(t)
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	must(t, os.WriteFile(proc+"netfilter/nf_conntrack_udp_timeout", []byte("77"), 0))
	must(t, f.Close())
	if v, _ := read(proc + "ipv4/ip_forward"); v != 0 {
		t.Error("ours was not put back")
	}
	if v, _ := read(proc + "netfilter/nf_conntrack_udp_timeout"); v != 77 {
		t.Errorf("somebody's 77 s became %d", v)
	}
}

func TestJournalWithForeignNamesIsRefused(t *testing.T) {
	inNamespace(t)
	must(t, os.WriteFile(journal, []byte(`{"../../kernel/panic":1}`), 0o600))
	if _, err := readJournal(); err == nil {
		t.Error("a path outside was taken")
	}
	must(t, os.WriteFile(journal, []byte(`{"ipv4/ip_forward":`), 0o600))
	must(t, Restore(quiet)) // says so and goes on
	f := New(Config{Interface: tunnel, Log: quiet})
	must(t, f.Enable())
	must(t, f.Close())
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"ipv4/ip_forward":0,"ipv6/conf/eth0/accept_ra":1}`))
	f.Add([]byte(`{"../../kernel/panic":1}`))
	f.Add([]byte(`{"/etc/passwd":1,"a/../../b":2,"":3}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		before, err := parseJournal(text)
		if (err == nil) == (before == nil) {
			t.Fatalf("%v with %v", before, err)
		}
		for name := range before {
			if path := filepath.Join(proc, name); !strings.HasPrefix(path+"/", proc) {
				t.Fatalf("%q leads to %s", name, path)
			}
		}
	})
}

// inNamespace moves the test into a network namespace of its own, which ends
// with the thread, and gives it a journal of its own.
func inNamespace(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: forwarding needs root; run the tests as root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	must(t, os.WriteFile(proc+"ipv4/ip_forward", []byte("0"), 0)) // a new one takes the machine's own setting
	was := journal
	journal = filepath.Join(t.TempDir(), "forward.json")
	t.Cleanup(func() { journal = was })
}

func kernel(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, s := range settings() {
		text, _ := os.ReadFile(proc + s.name)
		b.WriteString(s.name + "=" + string(text))
	}
	return b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
