package wire

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"stile/tunnel/id"
)

// DecodeForClient reads what the portal sends to a client. An event it does
// not know is Unknown, without an error; an error means that the message is to
// be dropped, counted and otherwise ignored (0.3). payload is borrowed.
func DecodeForClient(v Version, event string, payload []byte) (Message, error) {
	switch event {
	case "init":
		return message(event, payload, func(m *ClientInit, o *object) { m.read(o, v) })
	case "resource_created_or_updated":
		return decodeUpsert(event, payload)
	case "resource_deleted":
		var m ResourceDeleted
		if err := decode(payload, &m.ID); err != nil {
			return nil, fmt.Errorf("%s: payload %w", event, err)
		}
		return m, nil
	case "config_changed":
		return message(event, payload, func(m *ConfigChanged, o *object) { o.needObject("interface", m.Interface.read) })
	case "relays_presence":
		return message(event, payload, (*RelaysPresence).read)
	case AuthorizationCreated{}.Event(v):
		return message(event, payload, func(m *AuthorizationCreated, o *object) { m.read(o, v) })
	case AuthorizationFailed{}.Event(v):
		return message(event, payload, func(m *AuthorizationFailed, o *object) {
			o.need(&m.Resource, "resource_id")
			o.need(&m.Reason, "reason")
			m.Violated = mayList[string](o, "violated_properties")
		})
	case "ice_candidates", "gateway_ice_candidates", "invalidate_ice_candidates", "invalidate_gateway_ice_candidates":
		return message(event, payload, func(m *GatewayCandidates, o *object) {
			o.need(&m.Gateway, "gateway_id")
			m.Candidates = o.lenientStrings("candidates")
			m.Invalidate = event == "invalidate_ice_candidates" || event == "invalidate_gateway_ice_candidates"
		})
	case "client_device_access_denied":
		return message(event, payload, func(m *DeviceAccessDenied, o *object) {
			o.nullable((*v4)(&m.IPv4), "ipv4")
			o.nullable((*v6)(&m.IPv6), "ipv6")
			o.need(&m.Reason, "reason")
		})
	case "device_pool_domain_resolution_failed":
		return message(event, payload, func(m *PoolDomainFailed, o *object) {
			o.need(&m.Resource, "resource_id")
			o.need(&m.Domain, "domain")
			o.need(&m.Reason, "reason")
		})
	case "disconnect":
		return decodeDisconnect(payload)
	}
	return Unknown{event}, nil
}

// DecodeFromClient reads what a client sends to the portal; see
// DecodeForClient. On V1 the names of V2 are unknown, and the reverse.
func DecodeFromClient(v Version, event string, payload []byte) (Message, error) {
	switch event {
	case "set_snownet_capabilities":
		return decodeCapabilities(event, payload)
	case RequestAuthorization{}.Event(v):
		return message(event, payload, func(m *RequestAuthorization, o *object) {
			o.need(&m.Resource, "resource_id")
			m.ConnectedGateways = needList[id.Gateway](o, "connected_gateway_ids")
			o.nullable((*v4)(&m.IPv4), "ipv4")
			o.nullable((*v6)(&m.IPv6), "ipv6")
		})
	case "new_gateway_ice_candidates", "invalidate_gateway_ice_candidates":
		return message(event, payload, func(m *ClientCandidates, o *object) {
			m.Gateways = make([]id.Gateway, 1)
			o.need(&m.Gateways[0], "gateway_id")
			m.Candidates = o.lenientStrings("candidates")
			m.Invalidate = event == "invalidate_gateway_ice_candidates"
		})
	case "broadcast_ice_candidates", "broadcast_invalidated_ice_candidates":
		return message(event, payload, func(m *ClientCandidates, o *object) {
			m.Gateways = needList[id.Gateway](o, "gateway_ids")
			m.Candidates = o.lenientStrings("candidates")
			m.Invalidate = event == "broadcast_invalidated_ice_candidates"
		})
	case "resolve_device_pool_domain":
		return message(event, payload, func(m *ResolvePoolDomain, o *object) {
			o.need(&m.Resource, "resource_id")
			o.need(&m.Domain, "domain")
		})
	case "no_relays":
		return NoRelays{}, nil
	}
	return Unknown{event}, nil
}

// DecodeForGateway reads what the portal sends to a gateway; see
// DecodeForClient.
func DecodeForGateway(v Version, event string, payload []byte) (Message, error) {
	switch event {
	case "init":
		return message(event, payload, func(m *GatewayInit, o *object) { m.read(o, v) })
	case CreateAuthorization{}.Event(v):
		return message(event, payload, func(m *CreateAuthorization, o *object) { m.read(o, v) })
	case "reject_access":
		return message(event, payload, func(m *RejectAccess, o *object) {
			o.need(&m.Client, "client_id")
			o.need(&m.Resource, "resource_id")
		})
	case "resource_updated":
		return message(event, payload, func(m *GatewayResourceUpdated, o *object) { m.GatewayResource.read(o) })
	case "ice_candidates", "invalidate_ice_candidates":
		return message(event, payload, func(m *PeerCandidates, o *object) {
			o.need(&m.Client, "client_id")
			m.Candidates = o.lenientStrings("candidates")
			m.Invalidate = event == "invalidate_ice_candidates"
		})
	case "relays_presence":
		return message(event, payload, (*RelaysPresence).read)
	case "disconnect":
		return decodeDisconnect(payload)
	}
	return Unknown{event}, nil
}

// DecodeFromGateway reads what a gateway sends to the portal; see
// DecodeForClient.
func DecodeFromGateway(v Version, event string, payload []byte) (Message, error) {
	switch event {
	case "set_snownet_capabilities":
		return decodeCapabilities(event, payload)
	case AuthorizationAccepted{}.Event(v):
		return message(event, payload, func(m *AuthorizationAccepted, o *object) { o.need(&m.Ref, "ref") })
	case "broadcast_ice_candidates", "broadcast_invalidated_ice_candidates":
		return message(event, payload, func(m *BroadcastCandidates, o *object) {
			m.Clients = needList[id.Client](o, "client_ids")
			m.Candidates = o.lenientStrings("candidates")
			m.Invalidate = event == "broadcast_invalidated_ice_candidates"
		})
	case "no_relays":
		return NoRelays{}, nil
	}
	return Unknown{event}, nil
}

// DecodeForRelay reads what the portal sends to a relay; see DecodeForClient.
func DecodeForRelay(event string, payload []byte) (Message, error) {
	switch event {
	case "init":
		return RelayInit{}, nil
	case "disconnect":
		return decodeDisconnect(payload)
	}
	return Unknown{event}, nil
}

// DecodeFromRelay reads what a relay sends to the portal; see DecodeForClient.
func DecodeFromRelay(event string, payload []byte) (Message, error) {
	if event == "phx_join" {
		return message(event, payload, func(m *RelayJoin, o *object) {
			o.need(&m.StampSecret, "stamp_secret")
			o.fail("stamp_secret", checkStampSecret(m.StampSecret))
		})
	}
	return Unknown{event}, nil
}

func checkStampSecret(s string) error {
	if len(s) != 64 {
		return fmt.Errorf("has %d characters, not 64", len(s))
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("is not lower-case hexadecimal")
		}
	}
	return nil
}

// message reads a payload that is an object.
func message[M Message](event string, payload []byte, read func(*M, *object)) (Message, error) {
	var m M
	if err := readMessage(payload, func(o *object) { read(&m, o) }); err != nil {
		return nil, fmt.Errorf("%s: %w", event, err)
	}
	return m, nil
}

// decodeUpsert leaves a resource of unknown type to a later release.
func decodeUpsert(event string, payload []byte) (Message, error) {
	var m ResourceUpserted
	switch err := readMessage(payload, m.Resource.read); {
	case err == errResourceType:
		return Unknown{event}, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", event, err)
	}
	return m, nil
}

// decodeDisconnect ignores reasons it does not know, as every peer does.
func decodeDisconnect(payload []byte) (Message, error) {
	return message("disconnect", payload, func(m *Disconnect, o *object) { o.need(&m.Reason, "reason") })
}

// decodeCapabilities takes an absent capability as false.
func decodeCapabilities(event string, payload []byte) (Message, error) {
	return message(event, payload, func(m *SetCapabilities, o *object) { o.may(&m.Iceless, "iceless") })
}

func (m *ClientInit) read(o *object, v Version) {
	o.needObject("interface", m.Interface.read)
	m.Resources, m.Skipped = resources(o)
	m.Relays = relays(o, false, "relays")
	m.Authorizations = authorizations(o)
	m.FlowLogs = readFlowLogs(o, v)
}

func (m *RelaysPresence) read(o *object) {
	m.Disconnected = needList[id.Relay](o, "disconnected_ids")
	m.Connected = relays(o, true, "connected")
}

func (m *AuthorizationCreated) read(o *object, v Version) {
	o.need(&m.Resource, "resource_id")
	o.need(&m.Gateway, "gateway_id")
	o.need(&m.GatewayKey, "gateway_public_key")
	o.need((*v4)(&m.GatewayIPv4), "gateway_ipv4")
	o.need((*v6)(&m.GatewayIPv6), "gateway_ipv6")
	o.need(&m.Site, "gateway_group_id", "site_id")
	o.need(&m.PresharedKey, "preshared_key")
	o.needObject("client_ice_credentials", m.ClientICE.read)
	o.needObject("gateway_ice_credentials", m.GatewayICE.read)
	o.may(&m.Iceless, "use_iceless")
	m.IngestToken = readIngestToken(o, v, "initiator")
}

func (m *GatewayInit) read(o *object, v Version) {
	o.needObject("interface", func(o *object) {
		o.need((*v4)(&m.IPv4), "ipv4")
		o.need((*v6)(&m.IPv6), "ipv6")
	})
	o.needObject("config", func(o *object) {
		var ignored bool
		o.need(&ignored, "ipv4_masquerade_enabled")
		o.need(&ignored, "ipv6_masquerade_enabled")
	})
	m.Relays = relays(o, false, "relays")
	o.nullable(&m.AccountSlug, "account_slug")
	m.Authorizations = authorizations(o)
	m.FlowLogs = readFlowLogs(o, v)
}

func (m *CreateAuthorization) read(o *object, v Version) {
	o.need(&m.Ref, "ref")
	o.needObject("resource", m.Resource.read)
	o.needObject("client", func(o *object) {
		o.need(&m.Client, "id")
		o.need(&m.ClientKey, "public_key")
		o.need(&m.PresharedKey, "preshared_key")
		o.need((*v4)(&m.ClientIPv4), "ipv4")
		o.need((*v6)(&m.ClientIPv6), "ipv6")
	})
	o.needObject("client_ice_credentials", m.ClientICE.read)
	o.needObject("gateway_ice_credentials", m.GatewayICE.read)
	o.nullable(&m.ExpiresAt, "expires_at")
	o.may(&m.Iceless, "use_iceless")
	m.IngestToken = readIngestToken(o, v, "responder")
}

// readIngestToken reads what V2 requires and V1 ignores.
func readIngestToken(o *object, v Version, role string) (token string) {
	if v == V1 {
		return ""
	}
	o.need(&token, "flow_logs_ingest_token")
	if o.err == nil {
		o.fail("flow_logs_ingest_token", CheckIngestToken(token, role))
	}
	return token
}

// AppendPayload appends m's payload as JSON. It fails only for a message that
// lacks an address or is none of this package's; dst is returned unchanged
// then.
func AppendPayload(dst []byte, m Message) ([]byte, error) {
	w := &writer{b: dst}
	if !w.payload(m) {
		return dst, fmt.Errorf("%T has no encoding", m)
	}
	if w.err != nil {
		return dst, fmt.Errorf("%T: %w", m, w.err)
	}
	return w.b, nil
}

// payload is false for a message that it does not know.
func (w *writer) payload(m Message) bool {
	if m, bare := m.(ResourceDeleted); bare {
		w.value(m.ID)
		return true
	}
	known := true
	w.object(func() { known = w.members(m) })
	return known
}

// members appends the fields of m's payload.
func (w *writer) members(m Message) bool {
	switch m := m.(type) {
	case ClientInit:
		w.key("interface")
		w.object(func() { m.Interface.write(w) })
		writeList(w, "resources", m.Resources, func(r Resource) { w.object(func() { r.write(w) }) })
		w.relays("relays", m.Relays)
		w.authorizations(m.Authorizations)
		w.flowLogs(m.FlowLogs)
	case ResourceUpserted:
		m.Resource.write(w)
	case ConfigChanged:
		w.key("interface")
		w.object(func() { m.Interface.write(w) })
	case RelaysPresence:
		values(w, "disconnected_ids", m.Disconnected)
		w.relays("connected", m.Connected)
	case AuthorizationCreated:
		m.write(w)
	case AuthorizationFailed:
		w.field("resource_id", m.Resource)
		w.field("reason", m.Reason)
		if len(m.Violated) > 0 {
			values(w, "violated_properties", m.Violated)
		}
	case GatewayCandidates:
		w.field("gateway_id", m.Gateway)
		values(w, "candidates", m.Candidates)
	case DeviceAccessDenied:
		w.optionalAddr("ipv4", m.IPv4)
		w.optionalAddr("ipv6", m.IPv6)
		w.field("reason", m.Reason)
	case PoolDomainFailed:
		w.field("resource_id", m.Resource)
		w.field("domain", m.Domain)
		w.field("reason", m.Reason)
	case Disconnect:
		w.field("reason", m.Reason)
	case SetCapabilities:
		w.field("iceless", m.Iceless)
	case RequestAuthorization:
		w.field("resource_id", m.Resource)
		values(w, "connected_gateway_ids", m.ConnectedGateways)
		w.optionalAddr("ipv4", m.IPv4)
		w.optionalAddr("ipv6", m.IPv6)
	case ClientCandidates:
		if len(m.Gateways) == 1 {
			w.field("gateway_id", m.Gateways[0])
		} else {
			values(w, "gateway_ids", m.Gateways)
		}
		values(w, "candidates", m.Candidates)
	case ResolvePoolDomain:
		w.field("resource_id", m.Resource)
		w.field("domain", m.Domain)
	case GatewayInit:
		m.write(w)
	case CreateAuthorization:
		m.write(w)
	case RejectAccess:
		w.field("client_id", m.Client)
		w.field("resource_id", m.Resource)
	case GatewayResourceUpdated:
		m.GatewayResource.write(w)
	case PeerCandidates:
		w.field("client_id", m.Client)
		values(w, "candidates", m.Candidates)
	case AuthorizationAccepted:
		w.field("ref", m.Ref)
	case BroadcastCandidates:
		values(w, "client_ids", m.Clients)
		values(w, "candidates", m.Candidates)
	case RelayJoin:
		w.field("stamp_secret", m.StampSecret)
	case NoRelays, RelayInit:
	default:
		return false
	}
	return true
}

func (m *AuthorizationCreated) write(w *writer) {
	w.field("resource_id", m.Resource)
	w.field("gateway_id", m.Gateway)
	w.field("gateway_public_key", m.GatewayKey)
	w.addr("gateway_ipv4", m.GatewayIPv4)
	w.addr("gateway_ipv6", m.GatewayIPv6)
	w.field("gateway_group_id", m.Site)
	w.field("preshared_key", m.PresharedKey)
	w.ice("client_ice_credentials", m.ClientICE)
	w.ice("gateway_ice_credentials", m.GatewayICE)
	w.field("use_iceless", m.Iceless)
	w.optional("flow_logs_ingest_token", m.IngestToken)
}

func (m *GatewayInit) write(w *writer) {
	w.key("interface")
	w.object(func() {
		w.addr("ipv4", m.IPv4)
		w.addr("ipv6", m.IPv6)
	})
	w.field("config", json.RawMessage(`{"ipv4_masquerade_enabled":true,"ipv6_masquerade_enabled":true}`))
	w.relays("relays", m.Relays)
	w.nullableString("account_slug", m.AccountSlug)
	w.authorizations(m.Authorizations)
	w.flowLogs(m.FlowLogs)
}

func (m *CreateAuthorization) write(w *writer) {
	w.field("ref", m.Ref)
	w.key("resource")
	w.object(func() { m.Resource.write(w) })
	w.key("client")
	w.object(func() {
		w.field("id", m.Client)
		w.field("public_key", m.ClientKey)
		w.field("preshared_key", m.PresharedKey)
		w.addr("ipv4", m.ClientIPv4)
		w.addr("ipv6", m.ClientIPv6)
	})
	w.ice("client_ice_credentials", m.ClientICE)
	w.ice("gateway_ice_credentials", m.GatewayICE)
	if m.ExpiresAt == 0 {
		w.field("expires_at", nil) // old releases require the key
	} else {
		w.field("expires_at", m.ExpiresAt)
	}
	w.field("use_iceless", m.Iceless)
	w.optional("flow_logs_ingest_token", m.IngestToken)
}

// optional leaves out an empty string.
func (w *writer) optional(name, s string) {
	if s != "" {
		w.field(name, s)
	}
}

// optionalAddr leaves out the zero address.
func (w *writer) optionalAddr(name string, a netip.Addr) {
	if a.IsValid() {
		w.field(name, a)
	}
}
