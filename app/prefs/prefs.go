// Package prefs is the user's own settings: a small file that the user's
// programs read and write (spec desktop-client.md 13.1). What concerns the
// tunnel is the service's, so that no program of the user can redirect it.
package prefs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unicode"

	"stile/platform/dirs"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// Prefs are the settings. Whoever changes one changes a copy of all of them.
type Prefs struct {
	// Favorites stand at the top of the menu, in no order.
	Favorites []id.Resource
	// StartMinimized keeps the status page from opening when the app starts.
	StartMinimized bool
	// StartOnLogin and ConnectOnStart are the user's choices; nil: none was made,
	// and the defaults below apply.
	StartOnLogin, ConnectOnStart *bool
	AccountSlug                  string // where to sign in; "": the portal asks
	Language                     string // as words.For takes it; "": the desktop's

	RanBefore  bool // the app was started at least once
	ToldNoTray bool // the user knows why there is no icon
}

// Defaults are the settings of somebody who never changed one.
func Defaults() Prefs { return Prefs{StartMinimized: true} }

// OnLogin reports whether the app starts when the user logs in: not unless the
// user wants it.
func (p Prefs) OnLogin() bool { return p.StartOnLogin != nil && *p.StartOnLogin }

// Reset are the defaults, but for what is no setting: the favourites, and what
// the app remembers.
func (p Prefs) Reset() Prefs {
	d := Defaults()
	d.Favorites, d.RanBefore, d.ToldNoTray = p.Favorites, p.RanBefore, p.ToldNoTray
	return d
}

// WithFavorite returns p with a favourite more or less.
func (p Prefs) WithFavorite(r id.Resource, on bool) Prefs {
	p.Favorites = slices.DeleteFunc(slices.Clone(p.Favorites), func(f id.Resource) bool { return f == r })
	if on && len(p.Favorites) < maxFavorites {
		p.Favorites = append(p.Favorites, r)
	}
	return p
}

// Limits of what is believed of a file.
const (
	maxBytes     = 1 << 20
	maxFavorites = 10_000
	maxLanguage  = 100 // bytes
)

// file is the JSON of Prefs. The names of the first six are those of spec
// desktop-client.md 13.1; a field that is missing has its default.
type file struct {
	Favorites      []id.Resource `json:"favorite_resources"`
	StartMinimized *bool         `json:"start_minimized"`
	StartOnLogin   *bool         `json:"start_on_login"`
	ConnectOnStart *bool         `json:"connect_on_start"`
	AccountSlug    *string       `json:"account_slug"`
	Language       string        `json:"language,omitempty"`
	RanBefore      bool          `json:"ran_before,omitempty"`
	ToldNoTray     bool          `json:"told_no_tray,omitempty"`
}

// Path is where the settings of this user are.
func Path() (string, error) {
	dir, err := dirs.UserConfig()
	if err != nil {
		return "", fmt.Errorf("find your settings: %w", err)
	}
	return filepath.Join(dir, "general_settings.json"), nil
}

// Load reads the settings at path. There need not be any. The Prefs can be used
// also if there is an error: a file that makes no sense is put aside, as
// path.corrupt, and the defaults apply.
func Load(path string) (Prefs, error) {
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Defaults(), nil
	}
	if err != nil {
		return Defaults(), fmt.Errorf("read your settings: %w", err)
	}
	p, err := parse(text)
	if err == nil {
		return p, nil
	}
	aside := path + ".corrupt"
	if e := os.Rename(path, aside); e != nil {
		return Defaults(), fmt.Errorf("%s cannot be read (%v), nor moved away (%w): delete it", path, err, e)
	}
	return Defaults(), fmt.Errorf("your settings could not be read (%w): they are the standard ones again, and the file is kept as %s", err, aside)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxBytes+1))
}

// parse reads the text of a file.
func parse(text []byte) (Prefs, error) {
	if len(text) > maxBytes {
		return Prefs{}, errors.New("the file is too long")
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return Prefs{}, err
	}
	p := Defaults()
	seen := map[id.Resource]bool{}
	for _, r := range f.Favorites {
		if !seen[r] && !r.IsZero() && len(p.Favorites) < maxFavorites {
			p.Favorites = append(p.Favorites, r)
		}
		seen[r] = true
	}
	if f.StartMinimized != nil {
		p.StartMinimized = *f.StartMinimized
	}
	p.StartOnLogin, p.ConnectOnStart = f.StartOnLogin, f.ConnectOnStart
	if f.AccountSlug != nil && ipc.IsSlug(*f.AccountSlug) {
		p.AccountSlug = *f.AccountSlug
	}
	if isTag(f.Language) {
		p.Language = f.Language
	}
	p.RanBefore, p.ToldNoTray = f.RanBefore, f.ToldNoTray
	return p, nil
}

// isTag reports whether s can be the name of a language.
func isTag(s string) bool {
	if len(s) > maxLanguage {
		return false
	}
	for _, r := range s {
		if r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' && r != '.' && r != '@' && r != ':' {
			return false
		}
	}
	return true
}

// Save writes the settings to path, all or nothing.
func (p Prefs) Save(path string) error {
	f := file{
		Favorites: p.Favorites, StartMinimized: &p.StartMinimized, StartOnLogin: p.StartOnLogin, ConnectOnStart: p.ConnectOnStart,
		Language: p.Language, RanBefore: p.RanBefore, ToldNoTray: p.ToldNoTray,
	}
	if f.Favorites == nil {
		f.Favorites = []id.Resource{}
	}
	if p.AccountSlug != "" {
		f.AccountSlug = &p.AccountSlug
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = dirs.WriteFile(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("save your settings: %w", err)
	}
	return nil
}
