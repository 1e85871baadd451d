package serve

import (
	"bytes"
	"html/template"
	"net/http"
	"strconv"

	"stile/assets"
	"stile/tunnel/portal/config"
)

// pages are the templates, each with the layout.
var pages = template.Must(template.ParseFS(assets.Portal, "portal/*.html"))

// policy lets a page load our style sheet and send a form to us, and nothing
// else. Chrome applies form-action to redirects that follow a form, so the
// answer to a form leads to a page of ours before it leads to an application.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// A page is what a template is filled with.
type page struct {
	Title   string
	Account string
	Base    string // path prefix of all our URLs, without a final slash
	Slug    string
	Refresh string // path that the page leads to after two seconds; "" for nowhere
	Lead    string
	Error   string

	Hidden []field // of the form
	Email  string
	Actor  string
	Token  string

	First, Other string // paths that lead to the application; Other may be ""
	Again        bool   // the browser was led there before
	Code         string // for the application, by hand
}

// A field is a hidden input.
type field struct{ Name, Value string }

// newPage is a page of the portal as it is configured.
func newPage(c *config.Config, title string) page {
	return page{Title: title, Account: c.Account.Name, Base: basePath(c), Slug: c.Account.Slug}
}

// show sends a page.
func (s *server) show(w http.ResponseWriter, status int, name string, p page) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, p); err != nil {
		s.log.Error("a page could not be made", "page", name, "error", err)
		http.Error(w, "This page could not be made.", http.StatusInternalServerError)
		return
	}
	secure(w)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// message is a page with one sentence that says what is wrong.
func (s *server) message(w http.ResponseWriter, c *config.Config, status int, title, sentence string) {
	p := newPage(c, title)
	p.Error = sentence
	s.show(w, status, "message.html", p)
}

// secure sets the headers of everything a browser gets from us.
func secure(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer") // addresses hold nonces and states
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

func (s *server) style(w http.ResponseWriter) {
	css, err := assets.Portal.ReadFile("portal/style.css")
	if err != nil {
		panic(err) // it is built in
	}
	secure(w)
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Write(css)
}
