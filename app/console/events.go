package console

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"stile/app/menu"
	"stile/app/words"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// What can happen.
type happening uint8

const (
	networkChanged happening = iota
	uplinkChanged
	serviceGone
	serviceBack
	phaseChanged
	portalGone
	portalBack
	gatewayUp
	pathDirect
	pathRelayed
	gatewayGone
	resourceBlocked
	resourceBack
	internetOn
	internetOff
	dnsChanged
	resourcesShared
)

// An event is something that happened. What it is called depends on the
// language that the page has when it is shown.
type event struct {
	at     time.Time
	what   happening
	phase  ipc.Phase
	why    *ipc.Problem // nil: there is none
	name   string       // of a site, resource or person
	detail string
	n      int
}

// maxEvents is how many are remembered.
const maxEvents = 100

// happened lists what is different between two views, the order being that of
// the fields.
func happened(was, is *menu.View) (list []event) {
	add := func(e event) { list = append(list, e) }
	here, before := is.State, was.State
	switch {
	case before != nil && here == nil:
		return []event{{what: serviceGone}}
	case here == nil:
		return nil
	case before == nil:
		add(event{what: serviceBack})
		before = &ipc.State{Session: ipc.Session{PortalUp: here.Session.PortalUp}, Internet: here.Internet, DNS: here.DNS, Resources: here.Resources}
	}
	code := func(s *ipc.Session) ipc.Code {
		if s.Problem == nil {
			return ""
		}
		return s.Problem.Code
	}
	a, b := &before.Session, &here.Session
	if a.Phase != b.Phase || code(a) != code(b) && b.Problem != nil {
		add(event{what: phaseChanged, phase: b.Phase, why: b.Problem, name: b.Actor})
	}
	if a.Phase == ipc.Connected && b.Phase == ipc.Connected && a.PortalUp != b.PortalUp {
		add(event{what: map[bool]happening{true: portalBack, false: portalGone}[b.PortalUp]})
	}
	list = append(list, paths(before.Connections, here.Connections)...)
	list = append(list, blocked(before.Resources, here.Resources)...)
	if b.Phase == ipc.Connected && len(before.Resources) != len(here.Resources) {
		add(event{what: resourcesShared, n: len(here.Resources)})
	}
	if before.Internet.On != here.Internet.On {
		add(event{what: map[bool]happening{true: internetOn, false: internetOff}[here.Internet.On]})
	}
	if a.Phase == ipc.Connected && b.Phase == ipc.Connected && !slices.Equal(before.DNS.Upstream, here.DNS.Upstream) {
		add(event{what: dnsChanged, detail: joined(here.DNS.Upstream)})
	}
	return list
}

// paths is what happened to connections.
func paths(was, is []ipc.Connection) (list []event) {
	before := make(map[id.Gateway]*ipc.Connection, len(was))
	for i := range was {
		before[was[i].Gateway] = &was[i]
	}
	for i := range is {
		n := &is[i]
		o := before[n.Gateway]
		delete(before, n.Gateway)
		if o == nil {
			o = &ipc.Connection{}
		}
		switch {
		case n.Path == o.Path || n.Path == "":
		case o.Path == "":
			list = append(list, event{what: gatewayUp, name: n.Site, detail: n.Path})
		case n.Path == ipc.Direct:
			list = append(list, event{what: pathDirect, name: n.Site})
		default:
			list = append(list, event{what: pathRelayed, name: n.Site})
		}
		if o.Local.IsValid() && n.Local.IsValid() && o.Local.Addr() != n.Local.Addr() {
			list = append(list, event{what: uplinkChanged, name: n.Site, detail: n.Local.Addr().String()})
		}
	}
	for i := range was {
		if o := before[was[i].Gateway]; o != nil && o.Path != "" {
			list = append(list, event{what: gatewayGone, name: o.Site})
		}
	}
	return list
}

// blocked is what happened to resources that were there before.
func blocked(was, is []ipc.Resource) (list []event) {
	broken := func(r *ipc.Resource) bool {
		return r.Problem != nil && r.Problem.Code != ipc.InternetIsOff && r.Problem.Code != ipc.NotConnected
	}
	before := make(map[id.Resource]bool, len(was))
	for i := range was {
		before[was[i].ID] = broken(&was[i])
	}
	for i := range is {
		r := &is[i]
		o, there := before[r.ID]
		switch b := broken(r); {
		case !there || b == o:
		case b:
			list = append(list, event{what: resourceBlocked, name: menu.Name(r), why: r.Problem})
		default:
			list = append(list, event{what: resourceBack, name: menu.Name(r)})
		}
	}
	return list
}

// text says what happened, and dot how good that is.
func (e *event) text(w *words.Words, t *words.Console) string {
	name := menu.Plain(e.name)
	if name == "" {
		name = t.NoSite
	}
	switch e.what {
	case networkChanged:
		return t.EventNetwork
	case uplinkChanged:
		return t.EventUplink(name, e.detail)
	case serviceGone:
		return w.ServiceLost
	case serviceBack:
		return t.EventServiceBack
	case phaseChanged:
		return e.phaseText(w, t)
	case portalGone:
		return w.PortalLost
	case portalBack:
		return t.EventPortalBack
	case gatewayUp:
		text := t.EventGateway(name)
		if e.detail == ipc.Direct {
			return text + " · " + t.PathDirect
		}
		return text + " · " + t.PathRelayed
	case pathDirect:
		return t.EventDirect(name)
	case pathRelayed:
		return t.EventRelayed(name)
	case gatewayGone:
		return t.EventGatewayGone(name)
	case resourceBlocked:
		return t.EventBlocked(name) + ": " + menu.Plain(w.Problem(e.why))
	case resourceBack:
		return t.EventUnblocked(name)
	case internetOn:
		return t.EventInternetOn
	case internetOff:
		return t.EventInternetOff
	case dnsChanged:
		return t.EventDNS + ": " + e.detail
	}
	return t.EventResources(strconv.Itoa(e.n))
}

func (e *event) phaseText(w *words.Words, t *words.Console) string {
	text := ""
	switch e.phase {
	case ipc.SignedOut:
		text = w.SignedOut
	case ipc.Connecting:
		text = w.Connecting
	case ipc.Raising:
		text = w.Raising
	case ipc.Ending:
		text = w.Ending
	case ipc.Connected:
		text = t.EventConnected
		if e.name != "" {
			text += " · " + menu.Plain(w.SignedInAs(e.name))
		}
	default:
		text = menu.Plain(string(e.phase))
	}
	if e.why != nil {
		text += ": " + menu.Plain(w.Problem(e.why))
	}
	return text
}

func (e *event) dot() string {
	switch e.what {
	case serviceGone, portalGone, resourceBlocked:
		return "red"
	case serviceBack, portalBack, gatewayUp, resourceBack, pathDirect:
		return "green"
	case phaseChanged:
		if e.why != nil {
			return "red"
		}
		if e.phase == ipc.Connected {
			return "green"
		}
	}
	return "grey"
}

func joined(list []netip.AddrPort) (s string) {
	for i, a := range list {
		if i > 0 {
			s += ", "
		}
		s += addressText(a)
	}
	return s
}
