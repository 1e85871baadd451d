package wire

import (
	"net/netip"

	"stile/tunnel/id"
)

// Portal → client (3.2).
type (
	// ClientInit follows every join and every change of tunnel addresses. The
	// resource list replaces the known one, relays are added or updated.
	ClientInit struct {
		Interface
		Resources []Resource // absent: none
		Relays    []Relay    // absent: none
		// Authorizations are permissions of other clients on this one (device
		// pools). Absent: none.
		Authorizations []Authorization
		// FlowLogs is required by clients of V2, who drop an init without it;
		// nil (absent) on V1.
		FlowLogs *FlowLogs
		// Skipped counts resources that were of an unknown type or malformed
		// and are not in Resources. It does not travel.
		Skipped int
	}

	// ResourceUpserted adds a resource or replaces one.
	ResourceUpserted struct{ Resource }

	// ResourceDeleted removes a resource. Its payload is a bare JSON string.
	ResourceDeleted struct{ ID id.Resource }

	// ConfigChanged replaces the interface configuration.
	ConfigChanged struct{ Interface }

	// RelaysPresence tells a client or gateway which relays are gone and which
	// it may use; those not mentioned are kept.
	RelaysPresence struct {
		Disconnected []id.Relay
		Connected    []Relay
	}

	// AuthorizationCreated answers RequestAuthorization: through which gateway
	// the resource is reached, and with what keys.
	AuthorizationCreated struct {
		Resource                 id.Resource
		Gateway                  id.Gateway
		GatewayKey               Key
		GatewayIPv4, GatewayIPv6 netip.Addr // tunnel addresses, bare
		Site                     id.Site    // "gateway_group_id" or "site_id"
		PresharedKey             Key
		ClientICE, GatewayICE    ICECredentials
		Iceless                  bool // absent: false
		// IngestToken obeys CheckIngestToken with role initiator. It is
		// required on V2; "" (absent) on V1.
		IngestToken string
	}

	// AuthorizationFailed answers RequestAuthorization: no.
	AuthorizationFailed struct {
		Resource id.Resource
		Reason   string   // one of the Reason constants, or anything
		Violated []string // properties of conditions (9.4). Absent: none
	}

	// GatewayCandidates are a gateway's ICE candidates, new ones or, if
	// Invalidate, ones that no longer count.
	GatewayCandidates struct {
		Gateway    id.Gateway
		Candidates []string // SDP lines, unparsed, in order
		Invalidate bool
	}

	// DeviceAccessDenied answers a RequestAuthorization for a device pool.
	DeviceAccessDenied struct {
		IPv4, IPv6 netip.Addr // of the device asked for; zero: absent
		Reason     string
	}

	// PoolDomainFailed answers ResolvePoolDomain: no.
	PoolDomainFailed struct {
		Resource id.Resource
		Domain   string
		Reason   string
	}

	// Disconnect ends the session of a client, gateway or relay.
	Disconnect struct {
		Reason string // TokenExpired; others are ignored by peers
	}
)

// Reasons of AuthorizationFailed and DeviceAccessDenied (3.2).
const (
	ReasonNotFound        = "not_found"        // unknown resource, or none of this actor's
	ReasonOffline         = "offline"          // no gateway online, or no answer from it in time
	ReasonVersionMismatch = "version_mismatch" // gateways online, none compatible
	ReasonForbidden       = "forbidden"        // conditions violated
	ReasonDisabled        = "disabled"
)

// TokenExpired is the one reason of Disconnect that peers obey: sign out.
const TokenExpired = "token_expired"

// Client → portal (3.3).
type (
	// SetCapabilities follows each join of a V2 client or gateway. A
	// capability counts as absent until it arrives.
	SetCapabilities struct{ Iceless bool }

	// RequestAuthorization asks for a resource that traffic wants.
	RequestAuthorization struct {
		Resource id.Resource
		// ConnectedGateways are the gateways the client knows, best first.
		ConnectedGateways []id.Gateway
		// IPv4 or IPv6, never both, names the member of a device pool. Zero:
		// absent.
		IPv4, IPv6 netip.Addr
	}

	// ClientCandidates are a client's ICE candidates for each of Gateways. One
	// gateway travels as new_gateway_ice_candidates or
	// invalidate_gateway_ice_candidates, any other number as broadcast_….
	ClientCandidates struct {
		Gateways   []id.Gateway
		Candidates []string // SDP lines, unparsed, in order
		Invalidate bool
	}

	// ResolvePoolDomain asks for a device of a dynamic pool by host name.
	ResolvePoolDomain struct {
		Resource id.Resource
		Domain   string
	}

	// NoRelays asks for relays: a client or gateway has none that works.
	NoRelays struct{}
)

// byVersion picks the one of two event names that belongs to v.
func byVersion(v Version, v1, v2 string) string {
	if v == V1 {
		return v1
	}
	return v2
}

func (ClientInit) Event(Version) string       { return "init" }
func (ResourceUpserted) Event(Version) string { return "resource_created_or_updated" }
func (ResourceDeleted) Event(Version) string  { return "resource_deleted" }
func (ConfigChanged) Event(Version) string    { return "config_changed" }
func (RelaysPresence) Event(Version) string   { return "relays_presence" }
func (AuthorizationCreated) Event(v Version) string {
	return byVersion(v, "flow_created", "authorization_created")
}
func (AuthorizationFailed) Event(v Version) string {
	return byVersion(v, "flow_creation_failed", "authorization_creation_failed")
}
func (c GatewayCandidates) Event(Version) string { return candidatesEvent(c.Invalidate) }
func (DeviceAccessDenied) Event(Version) string  { return "client_device_access_denied" }
func (PoolDomainFailed) Event(Version) string    { return "device_pool_domain_resolution_failed" }
func (Disconnect) Event(Version) string          { return "disconnect" }
func (SetCapabilities) Event(Version) string     { return "set_snownet_capabilities" }
func (RequestAuthorization) Event(v Version) string {
	return byVersion(v, "create_flow", "request_authorization")
}
func (c ClientCandidates) Event(Version) string {
	switch {
	case len(c.Gateways) != 1:
		return broadcastEvent(c.Invalidate)
	case c.Invalidate:
		return "invalidate_gateway_ice_candidates"
	}
	return "new_gateway_ice_candidates"
}
func (ResolvePoolDomain) Event(Version) string { return "resolve_device_pool_domain" }
func (NoRelays) Event(Version) string          { return "no_relays" }

// candidatesEvent names candidates on their way from the portal to a peer.
func candidatesEvent(invalidate bool) string {
	if invalidate {
		return "invalidate_ice_candidates"
	}
	return "ice_candidates"
}

// broadcastEvent names candidates on their way to several peers.
func broadcastEvent(invalidate bool) string {
	if invalidate {
		return "broadcast_invalidated_ice_candidates"
	}
	return "broadcast_ice_candidates"
}
