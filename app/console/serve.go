package console

import (
	"bytes"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"stile/app/menu"
	"stile/app/words"
	"stile/assets"
)

// layout are the templates. Most runs of the program show no page.
var layout = sync.OnceValue(func() *template.Template {
	return template.Must(template.ParseFS(assets.Console, "console/*.html"))
})

// files are what pages consist of besides themselves.
var files = map[string]string{
	"style.css": "text/css; charset=utf-8",
	"live.js":   "text/javascript; charset=utf-8",
	"icon.svg":  "image/svg+xml",
}

// ServeHTTP answers one request; gate.go says who is answered at all.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.guard(w.Header())
	view, t := c.view()
	refuse := func(status int, title, text string) { c.refuse(w, r, status, view.Words.Tag, title, text) }
	if r.Host != c.host {
		refuse(http.StatusMisdirectedRequest, t.NotFoundTitle, t.NotFoundText)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, c.base+"/")
	if !ok {
		refuse(http.StatusNotFound, t.NotFoundTitle, t.NotFoundText)
		return
	}
	secret, invited := strings.CutPrefix(path, "open/")
	if c.foreign(r) && !invited { // the secret is better proof
		refuse(http.StatusForbidden, t.RefusedTitle, t.StrangerText)
		return
	}
	action, post := strings.CutPrefix(path, "do/")
	switch {
	case post && r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(http.StatusMethodNotAllowed, t.WrongTitle, t.WrongText)
		return
	case !post && r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(http.StatusMethodNotAllowed, t.WrongTitle, t.WrongText)
		return
	}
	if kind := files[path]; kind != "" {
		c.file(w, path, kind)
		return
	}
	if invited {
		c.open(w, r, secret, view.Words.Tag, t)
		return
	}
	who := c.gate.known(r)
	if who == nil {
		refuse(http.StatusForbidden, t.RefusedTitle, t.RefusedText)
		return
	}
	if post {
		c.act(w, r, who, action)
		return
	}
	if page, is := strings.CutPrefix(path, "live/"); is {
		if pages[page] == nil {
			refuse(http.StatusNotFound, t.NotFoundTitle, t.NotFoundText)
			return
		}
		c.live(w, r, who, page)
		return
	}
	if path == "" {
		path = string(menu.StatusPage)
	}
	if pages[path] == nil {
		refuse(http.StatusNotFound, t.NotFoundTitle, t.NotFoundText)
		return
	}
	c.page(w, r, who, path, c.gate.told(who))
}

// view is what the pages show, with its words.
func (c *Console) view() (menu.View, *words.Console) {
	v := c.desk.View()
	if v.Words == nil {
		v.Words = c.words
	}
	if v.Service != menu.Present {
		v.State = nil
	}
	return v, v.Words.Console()
}

// file answers with what anybody may have: it is in every copy of the program.
func (c *Console) file(w http.ResponseWriter, name, kind string) {
	text, err := fs.ReadFile(assets.Console, "console/"+name)
	if err != nil {
		panic(err) // built in
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "private, max-age=3600") // the path is this run's
	w.Write(text)
}

// open lets a browser with an invitation in.
func (c *Console) open(w http.ResponseWriter, r *http.Request, secret, lang string, t *words.Console) {
	if r.Method != http.MethodGet || prefetched(r) {
		c.refuse(w, r, http.StatusServiceUnavailable, lang, t.RefusedTitle, t.RefusedText)
		return
	}
	cookie := ""
	if k, err := r.Cookie(cookieName); err == nil {
		cookie = k.Value
	}
	page, who := c.gate.enter(secret, cookie, c.now())
	if who == nil {
		c.refuse(w, r, http.StatusForbidden, lang, t.RefusedTitle, t.UsedText)
		return
	}
	if pages[page] == nil {
		page = string(menu.StatusPage)
	}
	http.SetCookie(w, c.cookie(who))
	if c.foreign(r) {
		// A browser that was sent here by something else than its user keeps the
		// cookie back until a page of ours asks for the next.
		c.send(w, http.StatusOK, "enter", struct{ Lang, Title, Text, Next string }{lang, pages[page].title(t), t.Continue, c.base + "/" + page})
		return
	}
	http.Redirect(w, r, c.base+"/"+page, http.StatusSeeOther)
}

// page answers with a page.
func (c *Console) page(w http.ResponseWriter, r *http.Request, who *guest, name string, n *notice) {
	http.NewResponseController(w).SetReadDeadline(time.Time{}) // the request is read; its end would end the context
	m := c.model(r.Context(), who, name, ask(r.URL.RawQuery))
	m.fill(true)
	m.base().Notice = n
	c.send(w, http.StatusOK, "page", m)
}

// refuse answers with a page that tells nothing of the user. Programs that read
// streams and answers to commands look at the status alone.
func (c *Console) refuse(w http.ResponseWriter, r *http.Request, status int, lang, title, text string) {
	base := ""
	if strings.HasPrefix(r.URL.Path, c.base+"/") && r.Host == c.host {
		base = c.base
	}
	if r.Body != nil && r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // nobody reads the rest
	}
	c.send(w, status, "refused", struct{ Lang, Title, Text, Base string }{lang, title, text, base})
}

func (c *Console) send(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := layout().ExecuteTemplate(&b, name, data); err != nil {
		c.log.Error("a page cannot be made", "page", name, "error", err)
		http.Error(w, "This page cannot be shown. The log of the app says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mime.FormatMediaType("text/html", map[string]string{"charset": "utf-8"}))
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
