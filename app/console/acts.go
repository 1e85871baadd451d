package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"stile/app/menu"
	"stile/app/why/cause"
	"stile/app/words"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

const (
	actTime = 10 * time.Second // for the program to do what a button says
	logMore = 10 * time.Minute // that more is logged
	maxCode = 12_000           // bytes of what was pasted: an address with a token
)

// An act is what a form does. The text is for the user, "" when the page shows
// the outcome itself; page, if it is not "", is where to go on.
type act func(c *Console, ctx context.Context, f url.Values, t *words.Console) (text, page string, err error)

// acts are all forms but those of commands.
var acts = map[string]act{
	"paste":         (*Console).paste,
	"internet":      (*Console).internet,
	"favorite":      (*Console).favorite,
	"prefs":         (*Console).prefs,
	"apply":         (*Console).apply,
	"log-level":     (*Console).logLevel,
	"clear-logs":    (*Console).clearLogs,
	"export":        (*Console).export,
	"export-cancel": (*Console).exportCancel,
	"check":         (*Console).check,
}

// act does what a form says, and leads back to where it was. The script of the
// pages (header Stile-Live) is told the outcome instead.
func (c *Console) act(w http.ResponseWriter, r *http.Request, who *guest, name string) {
	_, t := c.view()
	do := acts[name]
	command := commands[name]
	if do == nil && command == nil {
		c.refuse(w, r, http.StatusNotFound, t.Tag, t.NotFoundTitle, t.NotFoundText)
		return
	}
	form, err := read(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if _, long := errors.AsType[*http.MaxBytesError](err); long {
			status = http.StatusRequestEntityTooLarge
		}
		c.refuse(w, r, status, t.Tag, t.WrongTitle, t.WrongText)
		return
	}
	if !same(form.Get("token"), who.token) {
		c.refuse(w, r, http.StatusForbidden, t.Tag, t.RefusedTitle, t.StaleText)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actTime)
	defer cancel()
	var text, page string
	if command != nil {
		err = c.desk.Do(ctx, command)
	} else {
		text, page, err = do(c, ctx, form, t)
	}
	n := notice{err == nil, text}
	if err != nil {
		n.Text = menu.Plain(cut(err.Error(), maxMessage))
		c.log.Debug("what the status page asked for was not done", "form", name, "error", err)
	}
	if v, _ := c.view(); v.Words.Tag != t.Tag && n.OK && n.Text == t.Saved { // in the language just chosen
		n.Text = v.Words.Console().Saved
	}
	back, q := where(form.Get("back"))
	if page != "" {
		back, q = page, query{}
	}
	to := c.base + "/" + back + q.String()
	if r.Header.Get("Stile-Live") != "" {
		answer := struct {
			notice
			Go string `json:"go,omitempty"` // where the page has to go
		}{notice: n}
		if page != "" || name == "prefs" || name == "apply" {
			answer.Go = to
			c.leave(who, n)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
		return
	}
	c.leave(who, n)
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// leave leaves a notice, if there is something to say.
func (c *Console) leave(who *guest, n notice) {
	if n.Text != "" {
		c.gate.tell(who, n)
	}
}

// read takes the fields of a form.
func read(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return nil, errors.New("not a form")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	return r.PostForm, nil
}

func (c *Console) paste(ctx context.Context, f url.Values, _ *words.Console) (text, page string, err error) {
	code := strings.TrimSpace(f.Get("code"))
	if code == "" || len(code) > maxCode {
		v, _ := c.view()
		return "", "", errors.New(v.Words.NoCodeText)
	}
	return "", "", c.desk.Paste(ctx, code)
}

func (c *Console) internet(ctx context.Context, f url.Values, _ *words.Console) (text, page string, err error) {
	return "", "", c.desk.Do(ctx, menu.SetInternet{On: f.Get("on") == "yes"})
}

func (c *Console) favorite(ctx context.Context, f url.Values, t *words.Console) (text, page string, err error) {
	var r id.Resource
	on := f.Get("add") != ""
	if err := r.UnmarshalText([]byte(f.Get("add") + f.Get("remove"))); err != nil {
		return "", "", errors.New(t.WrongText)
	}
	return "", "", c.desk.Do(ctx, menu.Favorite{Resource: r, On: on})
}

func (c *Console) prefs(_ context.Context, f url.Values, t *words.Console) (text, page string, err error) {
	p := c.desk.Prefs()
	if f.Get("reset") == "yes" {
		return t.ResetDone, "", c.desk.SetPrefs(p.Reset())
	}
	var s ipc.Settings
	if v, _ := c.view(); v.State != nil {
		s = v.State.Settings
	}
	if !slices.Contains(s.Managed, ipc.SettingAccountSlug) {
		p.AccountSlug = strings.TrimSpace(f.Get("slug"))
		if p.AccountSlug != "" && !ipc.IsSlug(p.AccountSlug) {
			return "", "", errors.New(t.SlugWrong)
		}
	}
	p.StartMinimized = f.Get("start-minimized") == "yes"
	p.StartOnLogin = choice(p.StartOnLogin, p.OnLogin(), f.Get("start-on-login") == "yes")
	if !slices.Contains(s.Managed, ipc.SettingConnectOnStart) {
		p.ConnectOnStart = choice(p.ConnectOnStart, p.ConnectOnStart == nil || *p.ConnectOnStart, f.Get("connect-on-start") == "yes")
	}
	if p.Language = f.Get("language"); !slices.Contains(words.Tags(), p.Language) {
		p.Language = ""
	}
	return t.Saved, "", c.desk.SetPrefs(p)
}

// choice leaves a wish that nobody uttered as it is, if the default says the
// same.
func choice(was *bool, is, want bool) *bool {
	if was == nil && is == want {
		return nil
	}
	return &want
}

func (c *Console) apply(ctx context.Context, f url.Values, t *words.Console) (text, page string, err error) {
	v, _ := c.view()
	if v.State == nil {
		return "", "", errors.New(t.AdvancedAway)
	}
	return t.Saved, "", c.desk.Apply(ctx, ipc.ApplySettings{
		AuthURL: strings.TrimSpace(f.Get("auth-url")), APIURL: strings.TrimSpace(f.Get("api-url")), LogFilter: strings.TrimSpace(f.Get("log-filter")),
	})
}

func (c *Console) logLevel(ctx context.Context, _ url.Values, t *words.Console) (text, page string, err error) {
	return t.LogMoreDone, "", c.desk.SetLogFilter(ctx, "debug", logMore)
}

func (c *Console) clearLogs(ctx context.Context, f url.Values, t *words.Console) (text, page string, err error) {
	if f.Get("sure") != "yes" {
		return "", "clear-logs", nil
	}
	return t.LogClearDone, "", c.desk.ClearLogs(ctx)
}

func (c *Console) export(_ context.Context, f url.Values, t *words.Console) (text, page string, err error) {
	full := f.Get("names") == "keep"
	if full && f.Get("sure") != "yes" {
		return "", "export-all", nil
	}
	if !c.beginExport(full) {
		return "", "", errors.New(t.ExportBusy)
	}
	c.feed.wake()
	return "", "", nil
}

func (c *Console) exportCancel(context.Context, url.Values, *words.Console) (text, page string, err error) {
	c.stopExport()
	return "", "", nil
}

func (c *Console) check(context.Context, url.Values, *words.Console) (text, page string, err error) {
	c.beginCheck()
	c.feed.wake()
	return "", "", nil
}

// why asks why a host cannot be reached; a few at a time may.
func (c *Console) why(ctx context.Context, target string) (cause.Report, error) {
	_, t := c.view()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	default:
		return cause.Report{}, errors.New(t.BusyText)
	}
	ctx, cancel := context.WithTimeout(ctx, whyTime)
	defer cancel()
	r, err := c.desk.Why(ctx, target)
	switch {
	case errors.Is(err, cause.ErrTarget):
		err = errors.New(t.WhyNoTarget)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		err = errors.New(t.WhyLate)
	}
	return r, err
}
