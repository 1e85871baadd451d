package menu

import (
	"stile/app/words"
	"stile/tunnel/ipc"
)

// What the status pages say in the same words.

// Name is what a resource is called, on one line.
func Name(r *ipc.Resource) string { return name(r) }

// Plain is s on one line, without characters that show nothing or reorder
// others.
func Plain(s string) string { return plain(s) }

// IsWeb reports whether a browser may be sent to s.
func IsWeb(s string) bool { return web(s) }

// Listed reports whether a resource is shown: pools of devices have no address
// of their own to reach.
func Listed(r *ipc.Resource) bool {
	return r.Type == "dns" || r.Type == "cidr" || r.Type == internetType
}

// IsInternet reports whether a resource stands for all traffic.
func IsInternet(r *ipc.Resource) bool { return r.Type == internetType }

// Standing tells how the gateways of a resource of s stand.
func Standing(w *words.Words, s *ipc.State, r *ipc.Resource) (Dot, string) {
	b := builder{View: View{State: s}, w: w}
	return b.standing(r)
}
