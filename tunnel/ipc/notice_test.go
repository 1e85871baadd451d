package ipc

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	for _, row := range []struct {
		template, want string
		ok             bool
		places         []string
	}{
		{"It is so.", "It is so.", true, nil},
		{"{a} is at {b}, {a}.", "{b} is at B, {b}.", true, []string{"a", "b"}}, // what is inserted is not looked at
		{"{a}{empty}", "{b}", true, []string{"a", "empty"}},
		{"{c} is missing", "", false, []string{"c"}},
		{"{a is open", "", false, nil},
		{"", "", false, nil},
	} {
		got, ok := Fill(row.template, map[string]string{"a": "{b}", "b": "B", "empty": ""})
		if got != row.want || ok != row.ok || !slices.Equal(Places(row.template), row.places) {
			t.Errorf("%q: %q, %v, %q", row.template, got, ok, Places(row.template))
		}
	}
}

func TestNoticesAreSentences(t *testing.T) {
	for n, text := range Notices() {
		p := n.With()
		if p.Code == "" || p.Say != n || p.Text != text || strings.Trim(string(n), "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%s: %+v", n, p)
		}
		if text == "" || strings.ContainsAny(text, "%\n") || strings.Count(text, "{") < len(Places(text)) {
			t.Errorf("%s: %q", n, text)
		}
	}
	if p := Notice("nonsense").With("a", "b"); p.Text != "" || p.Code != "" {
		t.Errorf("%+v", p)
	}
}

// Older programs read what they know, newer ones what an older service says.
func TestProblemsAreReadByOtherVersions(t *testing.T) {
	text, err := json.Marshal(SayPortalChanged.With("portal", "wss://a", "set", "wss://b"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"code":"portal-changed","text":"You are signed in at wss://a, but the settings name wss://b. Sign in there, or set api_url back.",` +
		`"say":"portal-changed","with":{"portal":"wss://a","set":"wss://b"}}`
	if string(text) != want {
		t.Errorf("%s", text)
	}
	var p Problem
	if err := json.Unmarshal([]byte(`{"code":"busy","text":"Wait."}`), &p); err != nil || !reflect.DeepEqual(p, Problem{Code: Busy, Text: "Wait."}) {
		t.Errorf("%+v, %v", p, err)
	}
	if text, _ := json.Marshal(p); string(text) != `{"code":"busy","text":"Wait."}` {
		t.Errorf("%s", text)
	}
}

// Those whose notice is chosen when it is known what is wrong.
func TestChosenNoticesAreWhole(t *testing.T) {
	for _, err := range []error{
		CheckAPIURL("x"), CheckAPIURL("wss://a@b"), CheckAPIURL("wss://a?b"), CheckAPIURL("ws://a"), CheckAuthURL("ftp://a"), NoLogFilter("x\ny"),
		Hello{Protocol: Protocol + 1}.Outdated("1"), Hello{Protocol: Protocol - 1}.Outdated("1"),
		parsed(`{"protocol":2,"id":1,"command":"retry"}`), parsed(`{"protocol":0,"id":1,"command":"retry"}`), parsed(`{"protocol":1,"id":1,"command":"retry","with":{}}`),
	} {
		p, is := err.(*Problem)
		if !is || p.Say == "" || strings.Contains(p.Text, "{") {
			t.Errorf("%v: %+v", err, p)
		}
	}
}

func parsed(request string) error {
	_, err := ParseRequest([]byte(request))
	return err
}

// TestEveryProblemIsANotice reads all programs: what they say to people has a
// name, and each place of it gets a value.
func TestEveryProblemIsANotice(t *testing.T) {
	said := map[string]int{}
	names := declared(t)
	each(t, func(path string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			if called(call.Fun) == "Problemf" {
				t.Errorf("%s makes a problem that is no notice", path)
			}
			s, is := call.Fun.(*ast.SelectorExpr)
			if !is || s.Sel.Name != "With" {
				return true
			}
			notice, is := names[called(s.X)]
			if !is {
				return true
			}
			said[called(s.X)]++
			var places []string
			for i := 0; i < len(call.Args); i += 2 {
				if l, is := call.Args[i].(*ast.BasicLit); is {
					name, _ := strconv.Unquote(l.Value)
					places = append(places, name)
				}
			}
			want := Places(Notices()[notice])
			slices.Sort(places)
			slices.Sort(want)
			if !slices.Equal(places, want) || len(call.Args) != 2*len(want) {
				t.Errorf("%s fills %q of %s, whose places are %q", path, places, notice, want)
			}
			return true
		})
	})
	if len(names) != len(Notices()) {
		t.Errorf("%d names for %d notices", len(names), len(Notices()))
	}
	if len(said) < len(names)/2 { // some are chosen first, and said by another name
		t.Errorf("only %d of %d notices are said", len(said), len(names))
	}
}

// called is the last part of a name.
func called(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// declared maps the names of notice.go to notices.
func declared(t *testing.T) map[string]Notice {
	f, err := parser.ParseFile(token.NewFileSet(), "notice.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]Notice{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, is := n.(*ast.ValueSpec)
		if !is || len(v.Values) != 1 {
			return true
		}
		if call, is := v.Values[0].(*ast.CallExpr); is && called(call.Fun) == "notice" {
			name, _ := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
			names[v.Names[0].Name] = Notice(name)
		}
		return true
	})
	return names
}

// each shows the source of app and tunnel, without tests.
func each(t *testing.T, look func(path string, f *ast.File)) {
	for _, dir := range []string{"../../app", "../../tunnel"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
			if err == nil {
				look(path, f)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
