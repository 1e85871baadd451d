// Package layers proves the walls of the house: which package may import
// which, and that values, machines and roles are pure.
package layers

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pure lists the packages that decide and never act: no operating system, no
// network, no goroutine, no lock, no clock.
var pure = []string{
	"app/menu", "app/signin", "app/words", "app/why/cause",
	"tunnel/id", "tunnel/packet", "tunnel/wire", "tunnel/ipc", "tunnel/ice", "tunnel/turn", "tunnel/wg",
	"tunnel/path", "tunnel/policy", "tunnel/resolver", "tunnel/nat", "tunnel/fragment", "tunnel/phoenix", "tunnel/core",
	"tunnel/client", "tunnel/gateway", "tunnel/relay", "tunnel/portal", "tunnel/portal/config",
}

// impure lists what pure packages may not import. wg alone may use
// sync/atomic: the send counter of a key snapshot.
var impure = []string{"os", "net", "sync", "context", "log", "log/slog", "os/exec", "os/signal", "syscall", "net/http", "runtime", "crypto/rand"}

// homes names the packages that may import a module; a prefix ending in "/"
// stands for the whole tree below it.
var homes = map[string][]string{
	"github.com/alecthomas/kong":     {"platform/cmdline", "app/", "tunnel/cmd/", "tunnel/portal/admin", "tunnel/portal/serve", "tunnel/relay/serve", "build/lab", "build/man"},
	"github.com/coder/websocket":     {"tunnel/phoenix/dial", "tunnel/portal/serve", "build/chrome"},
	"github.com/flynn/noise":         {"tunnel/wg"},
	"github.com/gaissmai/bart":       {"tunnel/policy"},
	"github.com/goccy/go-yaml":       {"tunnel/portal/config"},
	"github.com/mdlayher/netlink":    {"platform/forward"},
	"github.com/google/nftables":     {"platform/forward", "build/lab/"},
	"github.com/vishvananda/netlink": {"platform/route", "platform/forward", "platform/netmon", "build/lab/"},
	"github.com/miekg/dns":           {"tunnel/resolver", "tunnel/upstream", "tunnel/tcpdns", "build/lab/"},
	"github.com/pion/stun/v3":        {"tunnel/ice", "tunnel/turn", "tunnel/relay"},
	"github.com/prometheus":          {"tunnel/operator"},
	"golang.zx2c4.com/wireguard":     {"platform/", "build/lab/"},
	"golang.zx2c4.com/wireguard/tun": {"platform/tun", "build/lab/"},
	"github.com/jezek/xgb":           {"platform/desktop"},
	"github.com/godbus/dbus/v5":      {"platform/"},
	"github.com/Microsoft/go-winio":  {"platform/ipcsock"},
	"github.com/danieljoos/wincred":  {"platform/keystore"},
	"github.com/kardianos/service":   {"platform/service"},
	"gvisor.dev/gvisor":              {"tunnel/sim/tcp"},
	"modernc.org/sqlite":             {"tunnel/portal/store"},
}

// walls lists imports that are refused: whoever lives below a path may not
// import what starts with one of the others.
var walls = map[string][]string{
	"platform/":      {"stile/app/", "stile/tunnel/"},
	"tunnel/":        {"stile/app/", "stile/build/lab"},
	"app/":           {"stile/tunnel/"}, // but for ipc, ipc/link and id, below
	"tunnel/client":  {"stile/tunnel/gateway", "stile/tunnel/relay", "stile/tunnel/portal", "stile/tunnel/engine", "stile/tunnel/nat"},
	"tunnel/gateway": {"stile/tunnel/client", "stile/tunnel/relay", "stile/tunnel/portal", "stile/tunnel/engine", "stile/tunnel/resolver"},
	"tunnel/engine":  {"stile/tunnel/client", "stile/tunnel/gateway", "stile/tunnel/phoenix", "stile/tunnel/path"},
	"tunnel/portal":  {"stile/tunnel/client", "stile/tunnel/gateway", "stile/tunnel/engine", "stile/tunnel/path"},
	"tunnel/relay":   {"stile/tunnel/client", "stile/tunnel/gateway", "stile/tunnel/engine", "stile/tunnel/path"},
	"tunnel/wg":      {"stile/tunnel/path", "stile/tunnel/core", "stile/tunnel/ice", "stile/tunnel/turn"},
	"tunnel/wire":    {"stile/tunnel/core", "stile/tunnel/packet", "stile/tunnel/wg"},
	"tunnel/packet":  {"stile/tunnel/wire", "stile/tunnel/core", "stile/tunnel/wg"},
	"tunnel/id":      {"stile/"},
	"tunnel/policy":  {"stile/tunnel/core", "stile/tunnel/path"},
	"tunnel/core":    {"stile/tunnel/path", "stile/tunnel/client", "stile/tunnel/gateway", "stile/tunnel/engine"},
}

// exempt lists the few imports that a wall above would refuse.
var exempt = []string{"stile/tunnel/ipc", "stile/tunnel/ipc/link", "stile/tunnel/id"}

type file struct {
	pkg, name string // "tunnel/wg", "tunnel/wg/keys.go"
	test      bool
	syntax    *ast.File
	text      string
}

func (f file) imports() []string {
	var paths []string
	for _, i := range f.syntax.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		paths = append(paths, path)
	}
	return paths
}

func TestPurePackagesOnlyDecide(t *testing.T) {
	for _, f := range source(t) {
		if f.test || !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, path := range f.imports() {
			if slices.Contains(impure, path) || path == "sync/atomic" && f.pkg != "tunnel/wg" {
				t.Errorf("%s imports %s, but %s is pure", f.name, path, f.pkg)
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine, but %s is pure", f.name, f.pkg)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Since", "Until"}, n.Sel.Name) {
					t.Errorf("%s uses time.%s, but %s is pure: time is a parameter", f.name, n.Sel.Name, f.pkg)
				}
			}
			return true
		})
	}
}

func TestEachModuleHasOneHome(t *testing.T) {
	for _, f := range source(t) {
		if f.test {
			continue
		}
		for _, path := range f.imports() {
			module, lives := home(path)
			if module != "" && !slices.ContainsFunc(lives, func(h string) bool { return within(f.pkg, h) }) {
				t.Errorf("%s imports %s, whose home is %s", f.name, path, strings.Join(lives, ", "))
			}
		}
	}
}

func TestImportsPointOneWay(t *testing.T) {
	for _, f := range source(t) {
		if f.test {
			continue
		}
		for who, refused := range walls {
			if f.pkg != who && !(strings.HasSuffix(who, "/") && strings.HasPrefix(f.pkg, who)) {
				continue
			}
			for _, path := range f.imports() {
				if slices.Contains(exempt, path) && who != "tunnel/id" && who != "platform/" {
					continue
				}
				for _, r := range refused {
					if path == r || strings.HasPrefix(path, strings.TrimSuffix(r, "/")+"/") {
						t.Errorf("%s imports %s", f.name, path)
					}
				}
			}
		}
	}
}

func TestBuildTagsLiveInPlatform(t *testing.T) {
	for _, f := range source(t) {
		if within(f.pkg, "platform/") || within(f.pkg, "build/lab/") {
			continue
		}
		base := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(f.name), ".go"), "_test")
		for _, suffix := range []string{"_linux", "_windows", "_darwin"} {
			if strings.HasSuffix(base, suffix) {
				t.Errorf("%s is for one system only; that belongs in platform/", f.name)
			}
		}
		for _, mark := range []string{"//go:build ", "runtime." + "GOOS"} {
			if strings.Contains(f.text, "\n"+mark) || strings.HasPrefix(f.text, mark) || mark[0] != '/' && strings.Contains(f.text, mark) {
				t.Errorf("%s says %s; that belongs in platform/", f.name, strings.TrimSpace(mark))
			}
		}
		if !f.test && slices.Contains(f.imports(), "syscall") {
			t.Errorf("%s imports syscall; that belongs in platform/", f.name)
		}
	}
}

func TestNoVagueNames(t *testing.T) {
	for _, f := range source(t) {
		if base := filepath.Base(f.pkg); base == "util" || base == "utils" || base == "common" || base == "helpers" {
			t.Errorf("%s: a package named %s has no noun yet", f.name, base)
		}
		if strings.Contains(f.text, "//"+"nolint") || strings.Contains(f.text, "//lint:"+"ignore") {
			t.Errorf("%s silences a linter", f.name)
		}
	}
}

// named is a test, or several, in a document, with the folder where they are.
var named = regexp.MustCompile("([a-z]+(?:/[a-z]+)+ )?((?:`(?:Test|Benchmark)\\w+` ?)+)")

// What is promised is said to be proved by tests that exist.
func TestPromisesNameTheirTests(t *testing.T) {
	const doc = "build/desktop/ACCEPTANCE.md"
	text, err := os.ReadFile(filepath.Join("../..", doc))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range source(t) {
		for _, d := range f.syntax.Decls {
			if fn, is := d.(*ast.FuncDecl); is && f.test {
				there[f.pkg+" "+fn.Name.Name] = true
			}
		}
	}
	found := 0
	for _, m := range named.FindAllStringSubmatch(string(text), -1) {
		pkg := cmp.Or(strings.TrimSpace(m[1]), filepath.Dir(doc))
		for _, name := range strings.FieldsFunc(m[2], func(r rune) bool { return r == '`' || r == ' ' }) {
			if found++; !there[pkg+" "+name] {
				t.Errorf("%s: there is no %s in %s", doc, name, pkg)
			}
		}
	}
	if found < 50 {
		t.Errorf("%s names %d tests", doc, found)
	}
}

func home(path string) (module string, lives []string) {
	for m, l := range homes {
		if (path == m || strings.HasPrefix(path, m+"/")) && len(m) > len(module) {
			module, lives = m, l
		}
	}
	return module, lives
}

func within(pkg, tree string) bool {
	return pkg == strings.TrimSuffix(tree, "/") || strings.HasSuffix(tree, "/") && strings.HasPrefix(pkg, tree)
}

func source(t *testing.T) []file {
	t.Helper()
	const root = "../.."
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if name == ".git" || name == "build/out" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.Dir(name), name, strings.HasSuffix(name, "_test.go"), syntax, string(text)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Fatalf("found only %d Go files below %s", len(files), root)
	}
	return files
}
