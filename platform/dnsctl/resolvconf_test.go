package dnsctl

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const found = `# made by hand
domain home.example
search home.example lan
nameserver 192.168.1.1
nameserver fe80::1%eth0
nameserver not-an-address
options ndots:3 timeout:1
sortlist 10.0.0.0
`

var sentinels = []netip.Addr{netip.MustParseAddr("100.100.111.1"), netip.MustParseAddr("100.100.111.2"),
	netip.MustParseAddr("100.100.111.3"), netip.MustParseAddr("fd00:2021:1111:8000:100:100:111:0")}

func TestTakeOverKeepsWhatIsNotOurs(t *testing.T) {
	f := file(t, found)
	must(t, f.Set(sentinels, "corp.example"))
	want := `nameserver 100.100.111.1
nameserver fd00:2021:1111:8000:100:100:111:0
nameserver 100.100.111.2
search corp.example home.example lan
options ndots:1 timeout:1
# made by hand
sortlist 10.0.0.0
`
	got := content(t, f.Path)
	if !strings.HasPrefix(got, magic+"\n") || !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s", got)
	}
	if b := content(t, f.Backup); b != found {
		t.Errorf("backup\n%s", b)
	}
}

// What a portal calls a domain does not become other settings.
func TestASearchDomainIsOne(t *testing.T) {
	f := file(t, found)
	for _, evil := range []string{"corp.example\nnameserver 198.51.100.9", "a b", "a\tb", "a#b"} {
		if err := f.Set(sentinels, evil); err == nil || content(t, f.Path) != found {
			t.Errorf("%q: %v\n%s", evil, err, content(t, f.Path))
		}
	}
}

func TestSetTwiceIsSetOnceAndRestoreGivesAllBack(t *testing.T) {
	f := file(t, found)
	must(t, f.Set(sentinels, ""))
	first := content(t, f.Path)
	must(t, f.Set(sentinels, ""))
	if second := content(t, f.Path); second != first {
		t.Errorf("second time\n%s", second)
	}
	must(t, f.Set(sentinels[:1], "corp.example"))
	for range 2 {
		must(t, f.Restore())
		if got := content(t, f.Path); got != found {
			t.Errorf("restored\n%s", got)
		}
	}
}

func TestFileKeepsItsInode(t *testing.T) {
	f := file(t, found)
	before, _ := os.Stat(f.Path)
	must(t, f.Set(sentinels, ""))
	must(t, f.Restore())
	if after, _ := os.Stat(f.Path); !os.SameFile(before, after) {
		t.Error("the file was replaced; a bind mount would not see it")
	}
}

func TestCrashedRunIsRepaired(t *testing.T) {
	f := file(t, found)
	must(t, f.Set(sentinels, "")) // and then the process dies
	must(t, File{f.Path, f.Backup, f.Log}.Set(sentinels[:1], ""))
	if b := content(t, f.Backup); b != found {
		t.Errorf("backup\n%s", b)
	}
	must(t, f.Restore())
	if got := content(t, f.Path); got != found {
		t.Errorf("restored\n%s", got)
	}
}

func TestHalfWrittenFileIsStillOurs(t *testing.T) {
	f := file(t, strings.Repeat(found, 20))
	must(t, f.Set(sentinels, ""))
	ours := content(t, f.Path)
	// died between writing and cutting to length
	must(t, os.WriteFile(f.Path, []byte(ours+strings.Repeat(found, 20)[len(ours):]), 0o644))
	must(t, f.Restore())
	if got := content(t, f.Path); got != strings.Repeat(found, 20) {
		t.Errorf("restored\n%s", got)
	}
}

func TestUsersEditsWin(t *testing.T) {
	f := file(t, found)
	must(t, f.Set(sentinels, ""))
	const edited = "nameserver 9.9.9.9\n"
	must(t, os.WriteFile(f.Path, []byte(edited), 0o644))
	must(t, f.Restore())
	if got := content(t, f.Path); got != edited {
		t.Errorf("the edit was lost:\n%s", got)
	}
	must(t, f.Set(sentinels, ""))
	must(t, f.Restore())
	if got := content(t, f.Path); got != edited {
		t.Errorf("restored an old backup:\n%s", got)
	}
}

func TestServersComeFromTheBackupOnlyWhileTheFileIsOurs(t *testing.T) {
	f := file(t, found)
	check := func(want ...string) {
		t.Helper()
		got, err := f.Servers()
		must(t, err)
		var texts []string
		for _, s := range got {
			texts = append(texts, s.String())
		}
		if strings.Join(texts, " ") != strings.Join(want, " ") {
			t.Errorf("got %v, want %v", texts, want)
		}
	}
	check("192.168.1.1:53", "[fe80::1%eth0]:53")
	must(t, f.Set(sentinels, ""))
	check("192.168.1.1:53", "[fe80::1%eth0]:53")
	must(t, os.WriteFile(f.Path, []byte("nameserver 9.9.9.9\n"), 0o644))
	check("9.9.9.9:53")
}

func TestRefusals(t *testing.T) {
	f := file(t, found)
	must(t, f.Set(nil, ""))
	if got := content(t, f.Path); got != found {
		t.Error("no sentinels, but the file changed")
	}

	link := file(t, found)
	must(t, os.Rename(link.Path, link.Path+".real"))
	must(t, os.Symlink("../run/systemd/resolve/stub-resolv.conf", link.Path))
	if err := link.Set(sentinels, ""); err == nil || !strings.Contains(err.Error(), "systemd-resolved") {
		t.Errorf("a link: %v", err)
	}

	garbage := file(t, "nameserver \xff\xfe")
	if err := garbage.Set(sentinels, ""); err == nil || content(t, garbage.Path) != "nameserver \xff\xfe" {
		t.Errorf("not text: %v", err)
	}
	huge := file(t, strings.Repeat("#", maxFile+1))
	if err := huge.Set(sentinels, ""); err == nil {
		t.Error("a huge file was taken over")
	}
	if err := (File{f.Path + ".none", f.Backup, f.Log}).Set(sentinels, ""); err == nil || !strings.Contains(err.Error(), "create it") {
		t.Errorf("missing file: %v", err)
	}

	folder := file(t, found)
	must(t, os.Remove(folder.Path))
	must(t, os.Mkdir(folder.Path, 0o755))
	if err := folder.Restore(); err != nil {
		t.Errorf("a folder is none of ours: %v", err)
	}
	if err := folder.Check(); err == nil || !strings.Contains(err.Error(), "--dns-control disabled") {
		t.Errorf("a folder: %v", err)
	}
}

func TestDamagedBackupStopsTheRepair(t *testing.T) {
	f := file(t, found)
	must(t, f.Set(sentinels, ""))
	must(t, os.WriteFile(f.Backup, []byte("\xff\xfe"), 0o644))
	if err := f.Restore(); err == nil || !strings.Contains(err.Error(), f.Backup) || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("got %v", err)
	}
	if got := content(t, f.Path); !strings.HasPrefix(got, magic) {
		t.Errorf("got\n%s", got)
	}
}

func TestLostBackupLeavesAUsableFile(t *testing.T) {
	f := file(t, found)
	must(t, f.Set(sentinels, ""))
	must(t, os.Remove(f.Backup))
	must(t, f.Restore()) // nothing to restore from
	must(t, f.Set(sentinels[:1], ""))
	if got := content(t, f.Path); !strings.Contains(got, "nameserver 100.100.111.1\n") || strings.Contains(got, "111.2") {
		t.Errorf("got\n%s", got)
	}
}

func FuzzTakeOver(f *testing.F) {
	f.Add([]byte(found))
	f.Add([]byte(magic))
	f.Add([]byte("options\nsearch\nnameserver"))
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.HasPrefix(text, []byte(magic)) {
			return
		}
		dir := t.TempDir()
		c := File{filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "backup"), log}
		must(t, os.WriteFile(c.Path, text, 0o644))
		before, refused := c.Servers()
		for _, s := range before {
			if !s.IsValid() || s.Port() != 53 || !bytes.Contains(text, []byte("nameserver")) {
				t.Fatalf("server %v", s)
			}
		}
		if c.Set(sentinels, "corp.example") == nil {
			if got := content(t, c.Path); strings.Count(got, "nameserver ") < 3 || !strings.HasPrefix(got, magic) {
				t.Fatalf("%q", got)
			}
			if during, err := c.Servers(); refused != nil || err != nil || !slices.Equal(during, before) {
				t.Fatalf("servers %v, then %v (%v, %v)", before, during, refused, err)
			}
		}
		must(t, c.Restore())
		if got := content(t, c.Path); got != string(text) {
			t.Fatalf("restored %q, want %q", got, text)
		}
	})
}

func file(t *testing.T, text string) File {
	t.Helper()
	dir := t.TempDir()
	f := File{filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "resolv.conf.before-stile"), slog.New(slog.DiscardHandler)}
	must(t, os.WriteFile(f.Path, []byte(text), 0o644))
	return f
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
