package console

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"stile/app/menu"
	"stile/app/words"
	"stile/assets"
	"stile/tunnel/ipc"
)

func TestEveryPageCanBeMade(t *testing.T) {
	c := console(t, newDesk(t))
	for name := range pages {
		m := c.model(t.Context(), &guest{token: "TOKEN"}, name, ask(""))
		m.fill(true)
		if err := layout().ExecuteTemplate(io.Discard, "page", m); err != nil {
			t.Error(name, err)
		}
		if _, err := parts(pages[name].parts, m, map[string]string{}); err != nil {
			t.Error(name, err)
		}
	}
}

// Every command of the tray that needs no more than a click is a button here,
// or is something else on purpose.
func TestEveryCommandHasAButton(t *testing.T) {
	known := map[menu.Command]bool{}
	for _, c := range commands {
		known[c] = true
	}
	for _, v := range []menu.View{
		{Service: menu.Outdated}, {Service: menu.Missing}, signedOut(),
		{Service: menu.Present, State: &ipc.State{Session: ipc.Session{Phase: ipc.SignedOut, Token: ipc.TokenFromSignIn}}},
		{Service: menu.Present, State: connected()}, {Service: menu.Present, State: signedOut().State, Browser: true},
	} {
		v.Words = &words.English
		f := &frame{view: v}
		_, items := f.head()
		for _, i := range items {
			if _, show := i.Command.(menu.Show); i.Kind == menu.Action && !show && !known[i.Command] {
				t.Errorf("%q means %T, which no page can do", i.Title, i.Command)
			}
		}
	}
}

// Words that no page says are work for translators and nobody else.
func TestEveryWordIsSaid(t *testing.T) {
	var text strings.Builder
	templates, err := fs.Glob(assets.Console, "console/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range templates {
		b, err := assets.Console.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(sources, "../support/lack.go") { // says what an export lacks
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			text.Write(b)
		}
	}
	for i := range reflect.TypeFor[words.Console]().NumField() {
		name := reflect.TypeFor[words.Console]().Field(i).Name
		if !regexp.MustCompile(`\.` + name + `\b`).MatchString(text.String()) {
			t.Errorf("nothing says %s", name)
		}
	}
}
