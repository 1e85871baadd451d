package prefs

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"stile/tunnel/id"
)

func resource(n byte) id.Resource { return id.Resource{15: n} }

func TestSettingsComeBackAsTheyWereSaved(t *testing.T) {
	yes, no := true, false
	for _, p := range []Prefs{
		{},
		Defaults(),
		{
			Favorites: []id.Resource{resource(1), resource(2)}, StartMinimized: true, StartOnLogin: &yes, ConnectOnStart: &no,
			AccountSlug: "acme", Language: "de_AT.UTF-8", RanBefore: true, ToldNoTray: true,
		},
	} {
		path := filepath.Join(t.TempDir(), "new", "settings.json")
		if err := p.Save(path); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v became %+v, %v", p, got, err)
		}
		if info, _ := os.Stat(path); info.Mode().Perm()&0o077 != 0 {
			t.Error(info.Mode())
		}
	}
}

func TestWhatIsMissingHasItsDefault(t *testing.T) {
	got, err := Load(filepath.Join(t.TempDir(), "none"))
	if err != nil || !reflect.DeepEqual(got, Defaults()) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"{}", `{"start_on_login":null,"account_slug":null,"favorite_resources":null,"of_tomorrow":[1]}`, `{"account_slug":"../x","language":"a b"}`} {
		got, err := parse([]byte(text))
		if err != nil || !reflect.DeepEqual(got, Defaults()) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestACorruptFileIsPutAside(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"favorite_resources":["x"]}`, `{"start_minimized":"no"}`, strings.Repeat(" ", maxBytes) + "{}"} {
		path := filepath.Join(t.TempDir(), "settings.json")
		os.WriteFile(path, []byte(text), 0o600)
		got, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), path+".corrupt") || !reflect.DeepEqual(got, Defaults()) {
			t.Errorf("%.20q: %+v, %v", text, got, err)
		}
		if b, _ := os.ReadFile(path + ".corrupt"); string(b) != text {
			t.Errorf("%.20q is lost", text)
		}
		if err := got.Save(path); err != nil {
			t.Error(err)
		}
	}
}

func TestFavoritesAreASet(t *testing.T) {
	var p Prefs
	a := p.WithFavorite(resource(1), true).WithFavorite(resource(2), true)
	b := a.WithFavorite(resource(1), true).WithFavorite(resource(2), false)
	if !reflect.DeepEqual(a.Favorites, []id.Resource{resource(1), resource(2)}) || !reflect.DeepEqual(b.Favorites, []id.Resource{resource(1)}) || p.Favorites != nil {
		t.Error(p, a, b)
	}
}

func TestResetKeepsFavorites(t *testing.T) {
	yes := true
	p := Prefs{Favorites: []id.Resource{resource(1)}, StartOnLogin: &yes, AccountSlug: "acme", RanBefore: true}
	if want := (Prefs{Favorites: p.Favorites, StartMinimized: true, RanBefore: true}); !reflect.DeepEqual(p.Reset(), want) {
		t.Errorf("%+v", p.Reset())
	}
}

func TestPathFollowsTheDesktop(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "/somewhere")
	if got, err := Path(); err != nil || got != "/somewhere/stile/config/general_settings.json" {
		t.Error(got, err)
	}
	t.Setenv("XDG_CONFIG_HOME", "relative") // to be ignored
	t.Setenv("HOME", "/home/ada")
	if got, err := Path(); err != nil || got != "/home/ada/.config/stile/config/general_settings.json" {
		t.Error(got, err)
	}
	t.Setenv("HOME", "")
	if got, err := Path(); err == nil {
		t.Error(got)
	}
}

// Whatever is in the file, what was understood of it survives being saved.
func FuzzPrefs(f *testing.F) {
	f.Add([]byte(`{"favorite_resources":["00000000-0000-0000-0000-000000000001"],"start_minimized":false,"account_slug":"acme","language":"de"}`))
	f.Add([]byte(`{"start_on_login":true,"connect_on_start":false,"ran_before":true}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parse(text)
		if err != nil {
			return
		}
		path := filepath.Join(dir, "settings.json")
		if err := p.Save(path); err != nil {
			t.Fatal(err)
		}
		if again, err := Load(path); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}
