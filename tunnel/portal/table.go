package portal

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"stile/tunnel/id"
)

// A table holds the joined peers of one kind, by device and by connection: a
// device has one connection at most.
type table[D comparable, P any] struct {
	devices map[D]*P
	conns   map[Conn]*P
}

func newTable[D comparable, P any]() table[D, P] {
	return table[D, P]{map[D]*P{}, map[Conn]*P{}}
}

// of and at return nil if there is none.
func (t *table[D, P]) of(device D) *P  { return t.devices[device] }
func (t *table[D, P]) at(conn Conn) *P { return t.conns[conn] }

func (t *table[D, P]) put(device D, conn Conn, p *P) {
	t.devices[device], t.conns[conn] = p, p
}

func (t *table[D, P]) remove(device D, conn Conn) {
	delete(t.conns, conn)
	delete(t.devices, device)
}

// all returns the peers in the order of their connections.
func (t *table[D, P]) all() []*P {
	list := make([]*P, 0, len(t.conns))
	for _, conn := range slices.Sorted(maps.Keys(t.conns)) {
		list = append(list, t.conns[conn])
	}
	return list
}

// A ledger holds the authorizations that gateways may have, which is one for
// each client, resource and gateway.
type ledger struct {
	byClient  map[id.Client]map[target]*Authorization
	byGateway map[id.Gateway]map[*Authorization]bool
}

// A target is what a client was authorized for.
type target struct {
	resource id.Resource
	gateway  id.Gateway
}

func newLedger() ledger {
	return ledger{map[id.Client]map[target]*Authorization{}, map[id.Gateway]map[*Authorization]bool{}}
}

// put adds a, in place of the one it supersedes.
func (l *ledger) put(a *Authorization) {
	at := target{a.Resource, a.Gateway}
	if old := l.byClient[a.Client][at]; old != nil {
		l.remove(old)
	}
	if l.byClient[a.Client] == nil {
		l.byClient[a.Client] = map[target]*Authorization{}
	}
	if l.byGateway[a.Gateway] == nil {
		l.byGateway[a.Gateway] = map[*Authorization]bool{}
	}
	l.byClient[a.Client][at] = a
	l.byGateway[a.Gateway][a] = true
}

func (l *ledger) remove(a *Authorization) {
	at := target{a.Resource, a.Gateway}
	if l.byClient[a.Client][at] != a {
		return
	}
	delete(l.byClient[a.Client], at)
	if len(l.byClient[a.Client]) == 0 {
		delete(l.byClient, a.Client)
	}
	delete(l.byGateway[a.Gateway], a)
	if len(l.byGateway[a.Gateway]) == 0 {
		delete(l.byGateway, a.Gateway)
	}
}

// all, ofClient and ofGateway are sorted by client, resource, gateway.
func (l *ledger) all() []*Authorization {
	var list []*Authorization
	for _, held := range l.byClient {
		list = slices.AppendSeq(list, maps.Values(held))
	}
	return sorted(list)
}

func (l *ledger) ofClient(c id.Client) []*Authorization {
	return sorted(slices.Collect(maps.Values(l.byClient[c])))
}

func (l *ledger) ofGateway(g id.Gateway) []*Authorization {
	return sorted(slices.Collect(maps.Keys(l.byGateway[g])))
}

func sorted(list []*Authorization) []*Authorization {
	slices.SortFunc(list, func(a, b *Authorization) int {
		return cmp.Or(a.Client.Compare(b.Client), a.Resource.Compare(b.Resource), a.Gateway.Compare(b.Gateway))
	})
	return list
}

// connects reports whether c and g share an authorization that has not expired.
func (l *ledger) connects(c id.Client, g id.Gateway, now time.Time) bool {
	for at, a := range l.byClient[c] {
		if at.gateway == g && a.ExpiresAt > now.Unix() {
			return true
		}
	}
	return false
}
