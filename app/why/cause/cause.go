// Package cause decides why a host cannot be reached, from what was found out.
//
// The way to a host is a chain. Its links are looked at in the order in which a
// connection needs them, and the first one that is broken is the cause: what
// lies behind it cannot be known. A link is broken only if facts say so;
// missing facts never accuse anybody, they end in Unclear at the worst.
//
//	link      what it needs                                       codes
//	service   the tunnel service runs and lets us in              service-…
//	network   this machine is in one, with a way out              no-network
//	session   somebody is signed in, the tunnel stands            signed-out, token-rejected, portal-…, tunnel-failed, session-changing, interface-down
//	name      programs are told the address that leads to us      dns-…, hosts-file, name-…
//	resource  a resource has the host and lets the port pass      filter-…, tcp-…, internet-off, address-…, outside-…
//	route     packets reach the tunnel                            route-…, local-firewall
//	access    the portal grants access                            portal-away, access-…, condition-violated, resource-gone, site-offline, gateway-version, no-relay
//	gateway   the gateway is connected                            gateway-connecting, gateway-unreachable, gateway-lost
//	resolve   the gateway knows an address of the name            gateway-cannot-resolve, gateway-dns-silent, gateway-no-address
//	answer    the host answers                                    reachable…, server-…, gateway-denies, unclear
//
// [Meanings] says what each code means. A host that no resource has is reached
// past the tunnel: then service and session are noted, but accuse nobody as long
// as it answers.
//
// An open TCP connection is what counts as reached. What is said over it, such
// as a certificate, is nobody's business here.
package cause

import (
	"cmp"
	"slices"
	"strings"

	"stile/app/words"
)

// A Report is one cause, the evidence for it, and what to do, in English; In
// says it in other languages. Its JSON is stable: fields are only added.
type Report struct {
	Target string `json:"target"`
	Code   Code   `json:"code"`
	// Cause is one sentence; Next, one or more, says what to do, and is "" when
	// there is nothing to do.
	Cause string `json:"cause"`
	Next  string `json:"next"`
	// Reachable tells that a connection could be opened, however.
	Reachable bool `json:"reachable"`
	// Steps are the links of the chain, as far as they were looked at.
	Steps  []Step `json:"steps"`
	Millis int64  `json:"millis"` // how long it took

	said *said // what the texts say; nil: it is not known
}

// What a Report says, in whatever language; details are those of its Steps.
type said struct {
	cause, next text
	details     []text
}

// A Step is one link of the chain as it was found.
type Step struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Detail string `json:"detail,omitzero"`
}

// A Result is whether a link holds.
type Result string

// Results.
const (
	OK      Result = "ok"
	Failing Result = "failed"
	Open    Result = "unknown"
)

// Links of the chain, the names of Steps.
const (
	ServiceLink  = "service"
	NetworkLink  = "network"
	SessionLink  = "session"
	NameLink     = "name"
	ResourceLink = "resource"
	RouteLink    = "route"
	AccessLink   = "access"
	GatewayLink  = "gateway"
	ResolveLink  = "resolve"
	AnswerLink   = "answer"
)

// A link looks at its part of the facts. It returns "" for a code if it holds,
// and nothing at all if it has no part in this.
type link struct {
	name string
	look func(f *Facts) finding
}

// A finding is what a link found: why it is broken, and what is so.
type finding struct {
	code        Code // "": it holds
	cause, next text
	result      Result // "": OK, or Failing if there is a code
	detail      text   // nil and no code: it has no part
}

var chain = []link{
	{ServiceLink, service}, {NetworkLink, network}, {SessionLink, session}, {NameLink, name}, {ResourceLink, resource}, {RouteLink, route},
	{AccessLink, access}, {GatewayLink, gateway}, {ResolveLink, resolve}, {AnswerLink, answer},
}

// Judge finds the first broken link.
func Judge(f Facts) Report {
	r := Report{Target: f.Target.String(), Reachable: f.opened(), said: &said{}}
	step := func(s Step, detail text) {
		r.Steps = append(r.Steps, s)
		r.said.details = append(r.said.details, detail)
	}
	covered, _ := f.covered()
	outside := r.Reachable && !covered
	for _, l := range chain {
		found := l.look(&f)
		if found.code == "" && found.detail == nil {
			continue
		}
		s := Step{Name: l.name, Result: found.result}
		switch {
		case s.Result != "":
		case found.code == "" || found.code == Reachable || found.code == ReachableOutside:
			s.Result = OK
		default:
			s.Result = Failing
		}
		step(s, found.detail)
		if found.code == "" || outside && l.name != AnswerLink {
			continue
		}
		r.Code, r.said.cause, r.said.next = found.code, found.cause, found.next
		if l.name != AnswerLink && len(f.Attempts) > 0 {
			step(Step{Name: AnswerLink, Result: attempted(&f)}, attempts(&f))
		}
		break
	}
	return r.In(&words.English)
}

// attempted is how the attempts look beside a cause that lies before them.
func attempted(f *Facts) Result {
	if f.opened() {
		return OK
	}
	return Failing
}

// attempts lists how the attempts ended; nil: there were none.
func attempts(f *Facts) text {
	if len(f.Attempts) == 0 {
		return nil
	}
	list := slices.Clone(f.Attempts)
	slices.SortFunc(list, func(a, b Attempt) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.To.Compare(b.To))
	})
	return func(w *words.Words) string {
		y := w.Causes()
		var said []string
		for _, a := range list {
			how := y.Outcomes[string(a.Outcome)]
			if a.By.IsValid() && a.By != a.To.Addr() { // gateways speak in the name of who was tried
				how += y.Says(a.By.String())
			}
			said = append(said, y.Attempt(a.To.String(), how, brief(w, a.Took)))
		}
		return strings.Join(said, "; ")
	}
}

// rank puts what was reached first.
func rank(a Attempt) int {
	if a.Outcome == Opened {
		return 0
	}
	return 1
}
