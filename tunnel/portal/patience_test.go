package portal

import (
	"testing"
	"time"

	"stile/tunnel/wire"
)

const offline = " authorization_creation_failed resource 1 offline []"

// A gateway that is started anew is away for a moment only: who asks meanwhile
// is told when it is back.
func TestClientsWaitForAGatewayThatComesBack(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.Leave(1, w.now)
	w.requests(2, wiki)
	w.requests(2, wiki) // impatient: it is one request all the same
	w.after(returnTime - 1)
	w.want()
	w.gateway(3, 7, berlin)
	created := pushed[wire.CreateAuthorization](t, w.want(
		"3 init authorizations 0 relays 0", "save client 1 resource 1 gateway 7", "3 create_authorization client 1 resource 1"))
	w.says(3, wire.AuthorizationAccepted{Ref: created.Ref})
	w.want("2 authorization_created resource 1 gateway 7")
	w.after(time.Minute)
	w.want()
}

func TestSiteThatStaysAwayIsOffline(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.client(3, alice, func(c *Client) { c.ID[15] ^= 1 })
	w.settle()
	w.Leave(1, w.now)
	w.requests(2, wiki)
	w.requests(3, wiki)
	w.Leave(3, w.now)      // nobody waits any more
	w.gateway(4, 9, paris) // another site's does not help
	w.want("4 init authorizations 0 relays 0")
	if got, want := w.Next(), w.now.Add(returnTime); got != want {
		t.Errorf("due at %v, want %v", got, want)
	}
	w.after(returnTime)
	w.want("2" + offline)
	w.requests(2, wiki) // now it is known
	w.want("2" + offline)
}

// Requests that wait for a gateway's word do not wait for one that has left.
func TestGatewayThatLeavesBeforeItAnswers(t *testing.T) {
	w := newWorld(t)
	w.gateway(1, 7, berlin)
	w.client(2, alice)
	w.settle()
	w.requests(2, wiki)
	w.settle()
	w.gateway(3, 8, berlin)
	w.settle()
	w.Leave(1, w.now)
	w.want("save client 1 resource 1 gateway 8", "3 create_authorization client 1 resource 1")
	w.Leave(3, w.now)
	w.after(returnTime)
	w.want("2" + offline)
}
