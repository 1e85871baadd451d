package forward

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

var quiet = slog.New(slog.DiscardHandler)

func TestEnableAndRestore(t *testing.T) {
	inNamespace(t)
	c, err := nftables.New()
	must(t, err)
	foreign := c.AddTable(&nftables.Table{Name: "foreign", Family: nftables.TableFamilyINet})
	must(t, c.Flush())
	before := kernel(t)

	for range 2 {
		must(t, Enable("tun-test", quiet))
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
		if got := strings.Join(names, " "); got != "stile/forward:3 stile/postrouting:2" {
			t.Errorf("chains %s", got)
		}
	}

	for range 2 {
		must(t, Restore(quiet))
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

func TestWhatOthersChangedMeanwhileStays(t *testing.T) {
	inNamespace(t)
	must(t, Enable("tun-test", quiet))
	must(t, os.WriteFile(proc+"ipv4/conf/all/src_valid_mark", []byte("0"), 0))
	must(t, Restore(quiet))
	if v, _ := read(proc + "ipv4/ip_forward"); v != 0 {
		t.Error("ours was not put back")
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
	must(t, Enable("tun-test", quiet))
	must(t, Restore(quiet))
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
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: forwarding needs root; run the tests as root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	must(t, unix.Unshare(unix.CLONE_NEWNET))
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
