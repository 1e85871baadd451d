package wire

import (
	"net/netip"

	"stile/tunnel/id"
)

// Portal → gateway (3.4).
type (
	// GatewayInit follows every join and every change of tunnel addresses or
	// account slug. Authorizations that are not listed are revoked.
	GatewayInit struct {
		IPv4, IPv6     netip.Addr      // tunnel addresses, bare
		Relays         []Relay         // absent: none
		AccountSlug    string          // "": absent or null
		Authorizations []Authorization // absent: none, and so all are revoked
		// FlowLogs is required by gateways of V2, who drop an init without it;
		// nil (absent) on V1.
		FlowLogs *FlowLogs
	}

	// CreateAuthorization permits a client a resource; the gateway answers
	// with AuthorizationAccepted.
	CreateAuthorization struct {
		Ref                     string // opaque; echoed in the answer
		Resource                GatewayResource
		Client                  id.Client
		ClientKey, PresharedKey Key
		ClientIPv4, ClientIPv6  netip.Addr // tunnel addresses, bare
		ClientICE, GatewayICE   ICECredentials
		ExpiresAt               int64 // Unix seconds; 0 (absent or null): never
		Iceless                 bool  // absent: false
		// IngestToken obeys CheckIngestToken with role responder. It is
		// required on V2; "" (absent) on V1.
		IngestToken string
	}

	// RejectAccess removes one permission.
	RejectAccess struct {
		Client   id.Client
		Resource id.Resource
	}

	// GatewayResourceUpdated replaces the filters of a resource for all clients
	// that may use it.
	GatewayResourceUpdated struct{ GatewayResource }

	// PeerCandidates are a client's ICE candidates as its gateway receives
	// them, new ones or, if Invalidate, ones that no longer count.
	PeerCandidates struct {
		Client     id.Client
		Candidates []string // SDP lines, unparsed, in order
		Invalidate bool
	}
)

// Gateway → portal (3.5). SetCapabilities and NoRelays are the client's.
type (
	// AuthorizationAccepted acknowledges CreateAuthorization.
	AuthorizationAccepted struct{ Ref string }

	// BroadcastCandidates are a gateway's ICE candidates for each of Clients.
	BroadcastCandidates struct {
		Clients    []id.Client
		Candidates []string // SDP lines, unparsed, in order
		Invalidate bool
	}
)

// Relay and portal (3.6).
type (
	// RelayJoin is the payload of a relay's join.
	RelayJoin struct {
		// StampSecret is 64 lower-case hexadecimal characters, fixed for the
		// life of a relay process; credentials and relay ID derive from it (5.5).
		StampSecret string
	}

	// RelayInit follows a relay's join. It says nothing.
	RelayInit struct{}
)

func (GatewayInit) Event(Version) string { return "init" }
func (CreateAuthorization) Event(v Version) string {
	return byVersion(v, "authorize_flow", "create_authorization")
}
func (RejectAccess) Event(Version) string           { return "reject_access" }
func (GatewayResourceUpdated) Event(Version) string { return "resource_updated" }
func (c PeerCandidates) Event(Version) string       { return candidatesEvent(c.Invalidate) }
func (AuthorizationAccepted) Event(v Version) string {
	return byVersion(v, "flow_authorized", "authorization_created")
}
func (c BroadcastCandidates) Event(Version) string { return broadcastEvent(c.Invalidate) }
func (RelayJoin) Event(Version) string             { return "phx_join" }
func (RelayInit) Event(Version) string             { return "init" }
