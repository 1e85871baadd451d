package portal

import (
	"slices"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// returnTime is how long a site whose last gateway has left may be without one
// before clients hear that it is offline. A gateway that is started anew says
// goodbye, and all its clients ask for it before it is back: an answer that
// takes a moment costs them less than a refusal, which they show to the user
// and do not question for two seconds. They wait for an answer as long as for
// a gateway's word (spec portal.md 4.4).
const returnTime = 3 * time.Second

// A patient is a client's request that waits for a gateway of the site to come
// back.
type patient struct {
	client  *client
	request wire.RequestAuthorization
	site    id.Site
	due     time.Time // when it is refused
}

// abandoned notes that a gateway has left. Requests that waited for its word go
// to another of the site's gateways, or wait for one to come back.
func (p *Portal) abandoned(g *gateway, now time.Time) {
	if !p.serves(g.Site) {
		p.deserted[g.Site] = now
	}
	for _, r := range slices.Clone(p.asked) {
		if r.gateway == g {
			p.forgetRequest(r)
			p.authorize(r.client, wire.RequestAuthorization{Resource: r.answer.Resource, ConnectedGateways: []id.Gateway{g.ID}}, now)
		}
	}
}

// serves reports whether a gateway of the site is online.
func (p *Portal) serves(s id.Site) bool {
	return slices.ContainsFunc(p.gateways.all(), func(g *gateway) bool { return g.Site == s })
}

// wait keeps a request that no gateway is there for, if one was a moment ago.
func (p *Portal) wait(c *client, m wire.RequestAuthorization, s id.Site, now time.Time) bool {
	left, deserted := p.deserted[s]
	if !deserted || due(left.Add(returnTime), now) {
		delete(p.deserted, s)
		return false
	}
	p.stopWaiting(func(w *patient) bool { return w.client == c && w.request.Resource == m.Resource })
	p.patients = append(p.patients, &patient{client: c, request: m, site: s, due: left.Add(returnTime)})
	return true
}

func (p *Portal) stopWaiting(which func(*patient) bool) {
	p.patients = slices.DeleteFunc(p.patients, which)
}

// returned asks again for all who wait for a site, one of whose gateways is
// back.
func (p *Portal) returned(s id.Site, now time.Time) {
	delete(p.deserted, s)
	p.resume(func(w *patient) bool { return w.site == s }, now)
}

// expirePatients asks again for those who have waited long enough: they are
// refused.
func (p *Portal) expirePatients(now time.Time) {
	p.resume(func(w *patient) bool { return due(w.due, now) }, now)
}

func (p *Portal) resume(which func(*patient) bool, now time.Time) {
	var ready []*patient
	p.stopWaiting(func(w *patient) bool {
		if which(w) {
			ready = append(ready, w)
			return true
		}
		return false
	})
	for _, w := range ready {
		p.authorize(w.client, w.request, now)
	}
}

// nextPatient is when the first of those who wait is refused; zero: nobody waits.
func (p *Portal) nextPatient() (next time.Time) {
	for _, w := range p.patients {
		if next.IsZero() || w.due.Before(next) {
			next = w.due
		}
	}
	return next
}
