package serve

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"stile/tunnel/wire"
)

// remoteIP is where a request comes from. X-Forwarded-For is believed from the
// right for as long as those who wrote it are trusted; what others put into it
// is ignored.
func remoteIP(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	at := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(at) }) {
			return at
		}
		next, ok := parseHop(strings.TrimSpace(hop))
		if !ok {
			return at
		}
		at = next
	}
	return at
}

// parseHop reads an address as proxies write it: bare, or with a port.
func parseHop(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// tokenOf returns the token of a request: the header's, or else the
// parameter's, which older peers use (spec portal.md 1.3). "" if there is none.
func tokenOf(r *http.Request) wire.Secret {
	if token, ok := strings.CutPrefix(r.Header.Get("X-Authorization"), "Bearer "); ok {
		return wire.Secret(token)
	}
	return wire.Secret(r.URL.Query().Get("token"))
}
