package wire

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"stile/tunnel/id"
)

// One row per example of the specification, in its order: the frame as it
// stands there decodes to want, and want encodes to the same JSON.
func TestGolden(t *testing.T) {
	for _, row := range golden() {
		t.Run(row.name, func(t *testing.T) {
			f, err := ParseFrame([]byte(row.frame))
			if err != nil {
				t.Fatal(err)
			}
			got, err := row.decode(V2, f.Event, f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("decoded\n%+v, want\n%+v", got, row.want)
			}
			payload, err := AppendPayload(nil, row.want)
			if err != nil {
				t.Fatal(err)
			}
			again := AppendFrame(nil, Frame{f.Topic, row.want.Event(V2), payload, f.Ref})
			if got, want := canonical(t, again), canonical(t, []byte(row.frame)); got != want {
				t.Errorf("encoded\n%s, want\n%s", got, want)
			}
		})
	}
}

type goldenRow struct {
	name, frame string
	decode      func(Version, string, []byte) (Message, error)
	want        Message
}

const (
	relayJSON    = `{"id":"271a413b-d339-4570-9fdc-eaec41f14f11","type":"turn","addr":"203.0.113.7:3478","username":"1800000000:kF8o","password":"vCYa","expires_at":1800000000}`
	flowLogsJSON = `{"api_url":"https://portal.example.net/","upload_interval_secs":0,"upload_batch_size":0}`
	wikiJSON     = `{"id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","type":"dns","name":"Wiki","address":"*.wiki.corp.example",
 "address_description":null,"ip_stack":"dual","gateway_groups":[{"id":"8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01","name":"Berlin"}],
 "filters":[{"protocol":"tcp","port_range_start":443,"port_range_end":443},{"protocol":"icmp"}]}`
)

var (
	wiki     = must(id.Resource{}, "5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11")
	berlin   = must(id.Site{}, "8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01")
	aClient  = must(id.Client{}, "11111111-1111-4111-8111-111111111111")
	aGateway = must(id.Gateway{}, "22222222-2222-4222-8222-222222222222")
	aRelay   = Relay{
		ID: must(id.Relay{}, "271a413b-d339-4570-9fdc-eaec41f14f11"), Addr: netip.MustParseAddrPort("203.0.113.7:3478"),
		Username: "1800000000:kF8o", Password: "vCYa", ExpiresAt: 1800000000,
	}
	logsOff      = &FlowLogs{APIURL: "https://portal.example.net/"}
	wikiResource = Resource{
		ID: wiki, Type: DNS, Name: "Wiki", Address: "*.wiki.corp.example", Sites: []Site{{berlin, "Berlin"}},
		IPStack: Dual, Filters: []Filter{{TCP, 443, 443}, {Protocol: ICMP}},
	}
	clientICE  = ICECredentials{"w7up", "ksqwm66pilnb7skdwwfw3r"}
	gatewayICE = ICECredentials{"kwe6", "mzkrj52x5h5ebrfdsh5iyq"}
)

func golden() []goldenRow {
	addr, key := netip.MustParseAddr, mustKey
	forRelay := func(_ Version, event string, payload []byte) (Message, error) { return DecodeForRelay(event, payload) }
	fromRelay := func(_ Version, event string, payload []byte) (Message, error) { return DecodeFromRelay(event, payload) }
	return []goldenRow{
		{"2.2 relay join", `{"topic":"relay","event":"phx_join","payload":{"stamp_secret":"` + strings.Repeat("ab", 32) + `"},"ref":0}`,
			fromRelay, RelayJoin{strings.Repeat("ab", 32)}},
		{"2.5 disconnect", `{"topic":"client","event":"disconnect","payload":{"reason":"token_expired"},"ref":null}`,
			DecodeForClient, Disconnect{TokenExpired}},
		{"3.2 init", `{"topic":"client","event":"init","ref":null,"payload":{
 "interface":{"ipv4":"100.64.12.7","ipv6":"fd00:2021:1111::c:7","search_domain":null,
   "upstream_do53":[{"ip":"9.9.9.9"}],"upstream_doh":[],"upstream_dns":[{"protocol":"ip_port","address":"9.9.9.9:53"}]},
 "resources":[` + wikiJSON + `],"authorizations":[],"relays":[` + relayJSON + `],"flow_logs":` + flowLogsJSON + `}}`,
			DecodeForClient, ClientInit{
				Interface: Interface{
					IPv4: addr("100.64.12.7"), IPv6: addr("fd00:2021:1111::c:7"), UpstreamDo53: []netip.Addr{addr("9.9.9.9")},
					UpstreamDNS: []netip.AddrPort{netip.MustParseAddrPort("9.9.9.9:53")},
				},
				Resources: []Resource{wikiResource}, Relays: []Relay{aRelay}, FlowLogs: logsOff,
			}},
		{"3.2 resource_created_or_updated", `{"topic":"client","event":"resource_created_or_updated","payload":` + wikiJSON + `,"ref":null}`,
			DecodeForClient, ResourceUpserted{wikiResource}},
		{"3.2 internet resource", `{"topic":"client","event":"resource_created_or_updated","ref":null,"payload":{"id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11",
 "type":"internet","name":"Internet Resource","can_be_disabled":true,"gateway_groups":[{"id":"8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01","name":"Berlin"}]}}`,
			DecodeForClient, ResourceUpserted{Resource{ID: wiki, Type: Internet, Name: "Internet Resource", Sites: []Site{{berlin, "Berlin"}}}}},
		{"3.2 device pool", `{"topic":"client","event":"resource_created_or_updated","ref":null,"payload":{"id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11",
 "type":"static_device_pool","name":"Pool","filters":[],"devices":[{"client_id":"11111111-1111-4111-8111-111111111111","ipv4":"100.64.12.7/32","ipv6":"fd00:2021:1111::c:7/128"}]}}`,
			DecodeForClient, ResourceUpserted{Resource{ID: wiki, Type: StaticDevicePool, Name: "Pool",
				Devices: []PoolDevice{{aClient, addr("100.64.12.7"), addr("fd00:2021:1111::c:7")}}}}},
		{"3.2 resource_deleted", `{"topic":"client","event":"resource_deleted","payload":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","ref":null}`,
			DecodeForClient, ResourceDeleted{wiki}},
		{"3.2 config_changed", `{"topic":"client","event":"config_changed","ref":null,"payload":{"interface":{"ipv4":"100.64.12.7","ipv6":"fd00:2021:1111::c:7",
 "search_domain":"corp.example","upstream_do53":[],"upstream_doh":[{"url":"https://dns.quad9.net/dns-query"}],"upstream_dns":[]}}}`,
			DecodeForClient, ConfigChanged{Interface{IPv4: addr("100.64.12.7"), IPv6: addr("fd00:2021:1111::c:7"),
				UpstreamDoH: []string{"https://dns.quad9.net/dns-query"}, SearchDomain: "corp.example"}}},
		{"3.2 relays_presence", `{"topic":"client","event":"relays_presence","payload":{"disconnected_ids":["271a413b-d339-4570-9fdc-eaec41f14f11"],"connected":[` + relayJSON + `]},"ref":null}`,
			DecodeForClient, RelaysPresence{[]id.Relay{aRelay.ID}, []Relay{aRelay}}},
		{"3.2 authorization_created", `{"topic":"client","event":"authorization_created","ref":null,"payload":{"resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11",
 "gateway_id":"22222222-2222-4222-8222-222222222222","gateway_public_key":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",
 "gateway_ipv4":"100.64.3.9","gateway_ipv6":"fd00:2021:1111::3:9","gateway_group_id":"8a6f0c55-0d5b-4b8c-8f0e-6f2f0d9f3a01",
 "preshared_key":"q8Vg5uTVUXn/Twe2E0aVaXAOjAh9dKuPDDTFvBSVjjE=",
 "client_ice_credentials":{"username":"w7up","password":"ksqwm66pilnb7skdwwfw3r"},
 "gateway_ice_credentials":{"username":"kwe6","password":"mzkrj52x5h5ebrfdsh5iyq"},
 "use_iceless":false,"flow_logs_ingest_token":"` + ingestToken("initiator") + `"}}`,
			DecodeForClient, AuthorizationCreated{
				Resource: wiki, Gateway: aGateway, GatewayKey: key("ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="),
				GatewayIPv4: addr("100.64.3.9"), GatewayIPv6: addr("fd00:2021:1111::3:9"), Site: berlin,
				PresharedKey: key("q8Vg5uTVUXn/Twe2E0aVaXAOjAh9dKuPDDTFvBSVjjE="),
				ClientICE:    clientICE, GatewayICE: gatewayICE, IngestToken: ingestToken("initiator"),
			}},
		{"3.2 authorization_creation_failed", `{"topic":"client","event":"authorization_creation_failed","ref":null,"payload":
 {"resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","reason":"forbidden","violated_properties":["remote_ip"]}}`,
			DecodeForClient, AuthorizationFailed{wiki, ReasonForbidden, []string{"remote_ip"}}},
		{"3.2 ice_candidates", `{"topic":"client","event":"ice_candidates","payload":{"gateway_id":"22222222-2222-4222-8222-222222222222","candidates":["candidate:1"]},"ref":null}`,
			DecodeForClient, GatewayCandidates{aGateway, []string{"candidate:1"}, false}},
		{"3.2 invalidate_ice_candidates", `{"topic":"client","event":"invalidate_ice_candidates","payload":{"gateway_id":"22222222-2222-4222-8222-222222222222","candidates":["candidate:1"]},"ref":null}`,
			DecodeForClient, GatewayCandidates{aGateway, []string{"candidate:1"}, true}},
		{"3.2 client_device_access_denied", `{"topic":"client","event":"client_device_access_denied","payload":{"ipv4":"100.64.12.7","reason":"forbidden"},"ref":null}`,
			DecodeForClient, DeviceAccessDenied{IPv4: addr("100.64.12.7"), Reason: ReasonForbidden}},
		{"3.2 device_pool_domain_resolution_failed", `{"topic":"client","event":"device_pool_domain_resolution_failed","payload":{"resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","domain":"tv","reason":"not_found"},"ref":null}`,
			DecodeForClient, PoolDomainFailed{wiki, "tv", ReasonNotFound}},
		{"3.3 set_snownet_capabilities", `{"topic":"client","event":"set_snownet_capabilities","payload":{"iceless":true},"ref":1}`,
			DecodeFromClient, SetCapabilities{true}},
		{"3.3 request_authorization", `{"topic":"client","event":"request_authorization","payload":{"resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","connected_gateway_ids":["22222222-2222-4222-8222-222222222222"]},"ref":5}`,
			DecodeFromClient, RequestAuthorization{Resource: wiki, ConnectedGateways: []id.Gateway{aGateway}}},
		{"3.3 request_authorization for a pool", `{"topic":"client","event":"request_authorization","payload":{"resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","connected_gateway_ids":[],"ipv4":"100.64.12.7"},"ref":5}`,
			DecodeFromClient, RequestAuthorization{Resource: wiki, IPv4: addr("100.64.12.7")}},
		{"3.3 new_gateway_ice_candidates", `{"topic":"client","event":"new_gateway_ice_candidates","payload":{"gateway_id":"22222222-2222-4222-8222-222222222222","candidates":["candidate:8f3a 1 udp 2113937151 192.0.2.10 52625 typ host"]},"ref":6}`,
			DecodeFromClient, ClientCandidates{[]id.Gateway{aGateway}, []string{"candidate:8f3a 1 udp 2113937151 192.0.2.10 52625 typ host"}, false}},
		{"3.3 invalidate_gateway_ice_candidates", `{"topic":"client","event":"invalidate_gateway_ice_candidates","payload":{"gateway_id":"22222222-2222-4222-8222-222222222222","candidates":[]},"ref":6}`,
			DecodeFromClient, ClientCandidates{[]id.Gateway{aGateway}, nil, true}},
		{"3.3 broadcast_ice_candidates", `{"topic":"client","event":"broadcast_ice_candidates","payload":{"gateway_ids":["22222222-2222-4222-8222-222222222222","22222222-2222-4222-8222-222222222222"],"candidates":["candidate:1"]},"ref":6}`,
			DecodeFromClient, ClientCandidates{[]id.Gateway{aGateway, aGateway}, []string{"candidate:1"}, false}},
		{"3.3 resolve_device_pool_domain", `{"topic":"client","event":"resolve_device_pool_domain","payload":{"resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","domain":"tv.example"},"ref":7}`,
			DecodeFromClient, ResolvePoolDomain{wiki, "tv.example"}},
		{"3.3 no_relays", `{"topic":"client","event":"no_relays","payload":{},"ref":8}`, DecodeFromClient, NoRelays{}},
		{"3.4 init", `{"topic":"gateway","event":"init","ref":null,"payload":{"interface":{"ipv4":"100.64.3.9","ipv6":"fd00:2021:1111::3:9"},
 "config":{"ipv4_masquerade_enabled":true,"ipv6_masquerade_enabled":true},"account_slug":"acme","relays":[],
 "authorizations":[{"client_id":"11111111-1111-4111-8111-111111111111","resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","expires_at":1790035200}],
 "flow_logs":` + flowLogsJSON + `}}`,
			DecodeForGateway, GatewayInit{IPv4: addr("100.64.3.9"), IPv6: addr("fd00:2021:1111::3:9"), AccountSlug: "acme",
				Authorizations: []Authorization{{aClient, wiki, 1790035200}}, FlowLogs: logsOff}},
		{"3.4 create_authorization", `{"topic":"gateway","event":"create_authorization","ref":null,"payload":{"ref":"opaque-8c1f","expires_at":1790035200,"use_iceless":false,
 "resource":{"id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","type":"cidr","name":"Lab","address":"10.20.0.0/16","filters":[]},
 "client":{"id":"11111111-1111-4111-8111-111111111111","public_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","preshared_key":"q8Vg5uTVUXn/Twe2E0aVaXAOjAh9dKuPDDTFvBSVjjE=","ipv4":"100.64.12.7","ipv6":"fd00:2021:1111::c:7"},
 "client_ice_credentials":{"username":"w7up","password":"ksqwm66pilnb7skdwwfw3r"},"gateway_ice_credentials":{"username":"kwe6","password":"mzkrj52x5h5ebrfdsh5iyq"},
 "flow_logs_ingest_token":"` + ingestToken("responder") + `"}}`,
			DecodeForGateway, CreateAuthorization{
				Ref: "opaque-8c1f", Resource: GatewayResource{ID: wiki, Type: CIDR, Name: "Lab", Address: "10.20.0.0/16"},
				Client: aClient, ClientKey: key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), PresharedKey: key("q8Vg5uTVUXn/Twe2E0aVaXAOjAh9dKuPDDTFvBSVjjE="),
				ClientIPv4: addr("100.64.12.7"), ClientIPv6: addr("fd00:2021:1111::c:7"), ClientICE: clientICE, GatewayICE: gatewayICE,
				ExpiresAt: 1790035200, IngestToken: ingestToken("responder"),
			}},
		{"3.4 reject_access", `{"topic":"gateway","event":"reject_access","ref":null,"payload":{"client_id":"11111111-1111-4111-8111-111111111111","resource_id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11"}}`,
			DecodeForGateway, RejectAccess{aClient, wiki}},
		{"3.4 resource_updated", `{"topic":"gateway","event":"resource_updated","ref":null,"payload":{"id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","type":"internet"}}`,
			DecodeForGateway, GatewayResourceUpdated{GatewayResource{ID: wiki, Type: Internet}}},
		{"3.4 ice_candidates", `{"topic":"gateway","event":"ice_candidates","ref":null,"payload":{"client_id":"11111111-1111-4111-8111-111111111111","candidates":["candidate:1"]}}`,
			DecodeForGateway, PeerCandidates{aClient, []string{"candidate:1"}, false}},
		{"3.5 authorization_created", `{"topic":"gateway","event":"authorization_created","payload":{"ref":"opaque-8c1f"},"ref":3}`,
			DecodeFromGateway, AuthorizationAccepted{"opaque-8c1f"}},
		{"3.5 broadcast_ice_candidates", `{"topic":"gateway","event":"broadcast_ice_candidates","payload":{"client_ids":["11111111-1111-4111-8111-111111111111"],"candidates":["candidate:51c2 1 udp 1694498815 198.51.100.4 52625 typ srflx raddr 0.0.0.0 rport 0"]},"ref":4}`,
			DecodeFromGateway, BroadcastCandidates{[]id.Client{aClient}, []string{"candidate:51c2 1 udp 1694498815 198.51.100.4 52625 typ srflx raddr 0.0.0.0 rport 0"}, false}},
		{"3.6 init", `{"topic":"relay","event":"init","payload":{},"ref":null}`, forRelay, RelayInit{}},
	}
}

func TestFiveNamesDependOnTheVersion(t *testing.T) {
	for _, row := range []struct {
		m      Message
		v1, v2 string
	}{
		{RequestAuthorization{}, "create_flow", "request_authorization"},
		{AuthorizationCreated{}, "flow_created", "authorization_created"},
		{AuthorizationFailed{}, "flow_creation_failed", "authorization_creation_failed"},
		{CreateAuthorization{}, "authorize_flow", "create_authorization"},
		{AuthorizationAccepted{}, "flow_authorized", "authorization_created"},
	} {
		if got := row.m.Event(V1); got != row.v1 {
			t.Errorf("%T on V1 is %s, want %s", row.m, got, row.v1)
		}
		if got := row.m.Event(V2); got != row.v2 {
			t.Errorf("%T on V2 is %s, want %s", row.m, got, row.v2)
		}
	}
	ack, err := DecodeFromGateway(V1, "flow_authorized", []byte(`{"ref":"r"}`))
	if ack != (AuthorizationAccepted{"r"}) {
		t.Errorf("flow_authorized: %v, %v", ack, err)
	}
	m, err := DecodeFromClient(V1, "request_authorization", []byte(`{}`))
	if m != (Unknown{"request_authorization"}) {
		t.Errorf("request_authorization on V1: %v, %v; want Unknown", m, err)
	}
}

func ingestToken(role string) string {
	part := base64.RawURLEncoding.EncodeToString
	claims := `{"account_id":"0b7e","iat":1790000000,"exp":1792678400,"uploads_enabled":false,"role":"` + role + `",
 "initiator_device_id":"1111","responder_device_id":"2222","policy_authorization_id":"77aa","policy_id":"66bb",
 "resource_id":"5d1f","resource_name":"Wiki","initiator_actor_id":"44cc","initiator_actor_name":"Alice",
 "authorized_at":"2026-09-21T14:13:20Z","authorization_expires_at":"2026-09-22T00:00:00Z"}`
	return part([]byte(`{"alg":"HS256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("sig"))
}

func must[K any](_ id.ID[K], text string) id.ID[K] {
	i, err := id.Parse[K](text)
	if err != nil {
		panic(err)
	}
	return i
}

func mustKey(text string) (k Key) {
	if err := k.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return k
}

// canonical sorts the members of objects.
func canonical(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	out, _ := json.Marshal(v)
	return string(out)
}
