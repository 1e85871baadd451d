package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"stile/platform/clock"
	"stile/tunnel/client"
	"stile/tunnel/core"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/policy"
	"stile/tunnel/wire"
)

// Inform implements link.Informant. It asks the session, not the owner, so that
// an owner who is stuck can be looked at, too.
func (d *daemon) Inform(ctx context.Context, from link.Caller, question ipc.Command, put func(ipc.Part) error) error {
	if v := d.seen(); !v.of(from) {
		return ipc.HeldBy(userName(v.holder()))
	}
	switch q := question.(type) {
	case ipc.Inspect:
		k := d.inspect(q)
		return put(ipc.Part{Knowledge: &k})
	case ipc.Collect:
		return d.collect(ctx, put)
	}
	return ipc.SayUnknownCommand.With("command", fmt.Sprintf("%T", question))
}

// inspect tells what is known about a host.
func (d *daemon) inspect(q ipc.Inspect) ipc.Knowledge {
	s := d.seen().session
	k := ipc.Knowledge{Verdict: ipc.NotCovered}
	if s == nil {
		return k
	}
	k.PortalTrouble = kind(s.why())
	var v client.View
	s.engine.Inspect(func(r core.Role, now time.Time) {
		if c, is := r.(*client.Core); is {
			v = c.Look(q.Host, q.Port, now)
			k.NoRelay = v.Relays == 0
		}
	})
	k.Name, k.Proxies = v.Name, v.Proxies
	switch v.Verdict {
	case policy.Permitted:
		k.Verdict = ipc.Permitted
	case policy.Denied:
		k.Verdict = ipc.Denied
	}
	for i := range v.Access {
		k.Access = append(k.Access, access(&v.Access[i]))
	}
	return k
}

// kind sorts trouble with the portal.
func kind(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, dial.ErrLookup) {
		return ipc.TroubleName
	}
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	if verification || authority || host || invalid {
		return ipc.TroubleCertificate
	}
	return ipc.TroubleOther
}

// access puts an Access into the words of watchers.
func access(a *client.Access) ipc.Access {
	mono, wall := clock.Now(), time.Now()
	at := func(t time.Time) time.Time { // more exactly than ipc.Wall: seconds tell causes apart
		if t.IsZero() {
			return t
		}
		return wall.Add(t.Sub(mono)).UTC().Truncate(time.Millisecond)
	}
	out := ipc.Access{
		Resource: a.ID, Name: a.Name, Type: string(a.Type), Address: a.Address, Filters: filters(a.Filters),
		State: stateOf(a), Asked: at(a.Asked), Waiting: a.Waiting, Failed: at(a.Broke), Seen: at(a.Seen),
	}
	for _, s := range a.Sites {
		out.Sites = append(out.Sites, s.Name)
	}
	if r := a.Refusal; !r.At.IsZero() {
		out.Refusal = &ipc.Refusal{Reason: r.Reason, Violated: r.Violated, At: at(r.At)}
	}
	if a.Authorized {
		c := a.Connection
		out.Gateway, out.Connection, out.Received = a.Gateway, c.State, c.Received
		out.Began, out.Heard = at(c.Began), at(c.Heard)
		switch {
		case c.Relayed:
			out.Path = ipc.Relayed
		case c.Remote.IsValid():
			out.Path = ipc.Direct
		}
	}
	if a.Bound {
		out.Binding = map[client.Binding]string{
			client.BindingPending: ipc.BindingPending, client.BindingConfirmed: ipc.BindingConfirmed,
			client.BindingRenewing: ipc.BindingRenewing, client.BindingFailed: ipc.BindingFailed,
		}[a.Binding]
		out.BindingSince = at(a.BoundSince)
		out.LacksIPv4, out.LacksIPv6 = a.Lacks4, a.Lacks6
	}
	return out
}

func stateOf(a *client.Access) string {
	switch {
	case a.Authorized:
		return ipc.AccessAuthorized
	case a.NoRelay:
		return ipc.AccessNoRelay
	case a.Wanted && !a.Asked.IsZero():
		return ipc.AccessAsked
	case a.Wanted:
		return ipc.AccessWaiting
	}
	return ipc.AccessIdle
}

// filters says what may pass as administrators write it.
func filters(list []wire.Filter) []string {
	var texts []string
	for _, f := range list {
		name := f.Protocol.String()
		switch {
		case f.Protocol == wire.ICMP, f.First == 0 && f.Last == 65535:
			texts = append(texts, name)
		case f.First == f.Last:
			texts = append(texts, fmt.Sprintf("%s/%d", name, f.First))
		default:
			texts = append(texts, fmt.Sprintf("%s/%d-%d", name, f.First, f.Last))
		}
	}
	return texts
}
