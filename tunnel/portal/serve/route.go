package serve

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"stile/tunnel/portal/config"
)

// A front answers the requests of one listener.
type front struct {
	*server
	listener config.Listener
}

// ServeHTTP routes by path alone: the Host header of peers lacks the port and
// that of proxies may be anything.
func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := f.config.Load()
	from := remoteIP(r, f.listener.TrustedProxies)
	path := r.URL.Path
	if base := basePath(c); base != "" && (path == base || strings.HasPrefix(path, base+"/")) {
		path = path[len(base):] // a proxy may leave it on, or take it off
	}
	if e, ok := endpoints[path]; ok {
		f.connect(w, r, e, from)
		return
	}
	if path == "/healthz" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("ok\n"))
		return
	}
	f.page(w, r, c, path, from)
}

// page answers a browser. On a listener that others can listen in on there are
// no pages: a password must not be typed into one.
func (f front) page(w http.ResponseWriter, r *http.Request, c *config.Config, path string, from netip.Addr) {
	if f.listener.Insecure {
		f.message(w, c, http.StatusForbidden, "Not here", "This address is not protected by TLS, so that nobody can sign in here. Use "+c.ExternalURL+" for that.")
		return
	}
	if path == "/style.css" {
		f.style(w)
		return
	}
	method, rest := http.MethodGet, ""
	if trimmed := strings.Trim(path, "/"); trimmed != "" {
		slug, after, _ := strings.Cut(trimmed, "/")
		if rest = after; slug != c.Account.Slug {
			f.message(w, c, http.StatusNotFound, "Not found", "There is no such page here, and no such account.")
			return
		}
	}
	answer := map[string]func(){
		"":          func() { f.begin(w, r, c) },
		"sign-in":   func() { f.signIn(w, r, c, from) },
		"signed-in": func() { f.signedIn(w, r, c) },
		"open":      func() { f.open(w, r, c, false) },
		"open-app":  func() { f.open(w, r, c, true) },
	}[rest]
	if rest == "sign-in" {
		method = http.MethodPost
	}
	switch {
	case answer == nil:
		f.message(w, c, http.StatusNotFound, "Not found", "There is no such page here.")
	case r.Method != method && !(r.Method == http.MethodHead && method == http.MethodGet):
		w.Header().Set("Allow", method)
		f.message(w, c, http.StatusMethodNotAllowed, "Not like this", "Start again from the program on your device.")
	default:
		answer()
	}
}

// basePath is the path of the external URL, "" if it has none.
func basePath(c *config.Config) string {
	u, err := url.Parse(c.ExternalURL)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

func isHTTPS(c *config.Config) bool { return strings.HasPrefix(c.ExternalURL, "https://") }
