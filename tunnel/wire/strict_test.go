package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

const ifaceJSON = `"interface":{"ipv4":"100.64.0.1","ipv6":"fd00:2021:1111::1"}`

// Sections 0.3 and 3.8, in their order: what spoils a message, and what not.
func TestClientStrictness(t *testing.T) {
	init := func(rest string) string { return `{` + ifaceJSON + `,"flow_logs":` + flowLogsJSON + rest + `}` }
	resource := func(rest string) string {
		return `{"id":"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11","name":"N","gateway_groups":[],` + rest + `}`
	}
	for _, row := range []struct {
		name, payload string
		ok            bool
		skipped       int
	}{
		{"unknown field", init(`,"shiny":1`), true, 0},
		{"list is null", init(`,"resources":null`), false, 0},
		{"list is an object", init(`,"relays":{}`), false, 0},
		{"field given twice", init(`,"relays":[],"relays":[]`), false, 0},
		{"field in other case is unknown", init(`,"Resources":null`), true, 0},
		{"unknown type", init(`,"resources":[` + resource(`"type":"quantum"`) + `]`), true, 1},
		{"known type, bad field", init(`,"resources":[` + resource(`"type":"cidr","address":"10.0.0.1/24"`) + `]`), true, 1},
		{"no mask", init(`,"resources":[` + resource(`"type":"cidr","address":"10.0.0.1"`) + `]`), true, 1},
		{"bad one between good ones", init(`,"resources":[` + wikiJSON + `,` + resource(`"type":"dns"`) + `,` + wikiJSON + `]`), true, 1},
		{"missing type", init(`,"resources":[` + resource(`"address":"a"`) + `]`), false, 0},
		{"unknown filter protocol", init(`,"resources":[` + resource(`"type":"dns","address":"a","filters":[{"protocol":"sctp"}]`) + `]`), true, 1},
		{"port bound is null", init(`,"resources":[` + resource(`"type":"dns","address":"a","filters":[{"protocol":"tcp","port_range_start":null}]`) + `]`), true, 1},
		{"port too large", init(`,"resources":[` + resource(`"type":"dns","address":"a","filters":[{"protocol":"tcp","port_range_end":65536}]`) + `]`), true, 1},
		{"unknown ip_stack", init(`,"resources":[` + resource(`"type":"dns","address":"a","ip_stack":"ipv8"`) + `]`), true, 1},
		{"both names of the sites", init(`,"resources":[` + resource(`"type":"dns","address":"a","sites":[]`) + `]`), true, 1},
		{"devices with bare addresses", init(`,"resources":[` + resource(`"type":"static_device_pool","devices":[{"client_id":"11111111-1111-4111-8111-111111111111","ipv4":"100.64.0.1","ipv6":"fd00::1"}]`) + `]`), true, 1},
		{"unknown relay type", init(`,"relays":[` + strings.Replace(relayJSON, "turn", "ice9", 1) + `]`), false, 0},
		{"relay with a host name", init(`,"relays":[` + strings.Replace(relayJSON, "203.0.113.7", "relay.example", 1) + `]`), false, 0},
		{"expiry as text", init(`,"relays":[` + strings.Replace(relayJSON, "1800000000}", `"1800000000"}`, 1) + `]`), false, 0},
		{"expiry as float", init(`,"relays":[` + strings.Replace(relayJSON, "1800000000}", `1.8e9}`, 1) + `]`), false, 0},
		{"without flow_logs", `{` + ifaceJSON + `}`, false, 0},
		{"interface with a mask", `{"interface":{"ipv4":"100.64.0.1/32","ipv6":"fd00::1"},"flow_logs":` + flowLogsJSON + `}`, false, 0},
		{"interface of one family", `{"interface":{"ipv4":"100.64.0.1"},"flow_logs":` + flowLogsJSON + `}`, false, 0},
		{"DoH without TLS", strings.Replace(init(""), `"fd00:2021:1111::1"`, `"fd00::1","upstream_doh":[{"url":"http://dns.example/q"}]`, 1), false, 0},
		{"empty", ``, false, 0},
		{"not an object", `[]`, false, 0},
		{"something behind", init("") + `1`, false, 0},
	} {
		m, err := DecodeForClient(V2, "init", []byte(row.payload))
		if (err == nil) != row.ok {
			t.Errorf("%s: error %v, want ok %v", row.name, err, row.ok)
			continue
		}
		if row.ok && m.(ClientInit).Skipped != row.skipped {
			t.Errorf("%s: skipped %d, want %d", row.name, m.(ClientInit).Skipped, row.skipped)
		}
	}
	if _, err := DecodeForClient(V1, "init", []byte(`{`+ifaceJSON+`}`)); err != nil {
		t.Errorf("init without flow_logs on V1: %v", err)
	}
}

func TestStunRelaysAreSkipped(t *testing.T) {
	m, err := DecodeForGateway(V2, "relays_presence", []byte(`{"disconnected_ids":[],"connected":[
		{"type":"stun","id":"271a413b-d339-4570-9fdc-eaec41f14f11","addr":"203.0.113.7:3478"},`+relayJSON+`]}`))
	if want := (RelaysPresence{Connected: []Relay{aRelay}}); !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v, %v; want %+v", m, err, want)
	}
}

func TestMalformedCandidatesAreSkipped(t *testing.T) {
	m, err := DecodeForGateway(V2, "ice_candidates", []byte(`{"client_id":"11111111-1111-4111-8111-111111111111","candidates":["a",7,null,"b"]}`))
	if want := (PeerCandidates{aClient, []string{"a", "b"}, false}); !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v, %v; want %+v", m, err, want)
	}
}

func TestGatewayStrictness(t *testing.T) {
	frame := ""
	for _, row := range golden() {
		if row.name == "3.4 create_authorization" {
			frame = row.frame
		}
	}
	for _, row := range []struct {
		name, old, new string
		v              Version
		ok             bool
	}{
		{"as it stands", "", "", V2, true},
		{"expiry null", "1790035200", "null", V2, true},
		{"expiry missing", `"expires_at":1790035200,`, "", V2, true},
		{"unknown type", `"cidr"`, `"ip"`, V2, false},
		{"pool", `"cidr"`, `"static_device_pool"`, V2, false},
		{"filters missing", `,"filters":[]`, "", V2, false},
		{"unknown filter", `"filters":[]`, `"filters":[{"protocol":"gre"}]`, V2, false},
		{"key without padding", "jjE=", "jjE", V2, false},
		{"key of 33 bytes", "jjE=", "jjEA", V2, false},
		{"no ingest token", "flow_logs_ingest_token", "x", V2, false},
		{"no ingest token on V1", "flow_logs_ingest_token", "x", V1, true},
		{"ingest token is no JWT", ingestToken("responder"), "a.b.c", V2, false},
		{"ingest token of the other role", ingestToken("responder"), ingestToken("initiator"), V2, false},
	} {
		f, err := ParseFrame([]byte(strings.Replace(frame, row.old, row.new, 1)))
		if err != nil {
			t.Fatal(row.name, err)
		}
		m, err := DecodeForGateway(row.v, CreateAuthorization{}.Event(row.v), f.Payload)
		if (err == nil) != row.ok {
			t.Errorf("%s: %+v, %v; want ok %v", row.name, m, err, row.ok)
		}
	}
}

func TestUnknownIsTolerated(t *testing.T) {
	for _, decode := range []func(Version, string, []byte) (Message, error){
		DecodeForClient, DecodeFromClient, DecodeForGateway, DecodeFromGateway,
	} {
		if m, err := decode(V2, "shiny", []byte(`7`)); m != (Unknown{"shiny"}) || err != nil {
			t.Errorf("unknown event: %v, %v", m, err)
		}
	}
	m, err := DecodeForClient(V2, "resource_created_or_updated", []byte(`{"type":"quantum"}`))
	if m != (Unknown{"resource_created_or_updated"}) || err != nil {
		t.Errorf("unknown type of resource: %v, %v", m, err)
	}
	caps, err := DecodeFromClient(V2, "set_snownet_capabilities", []byte(`{"teleport":true}`))
	if caps != (SetCapabilities{}) || err != nil {
		t.Errorf("unknown capability: %v, %v", caps, err)
	}
}

func TestListsAreNeverNull(t *testing.T) {
	for _, m := range []Message{
		ConfigChanged{zeroInterface()}, ClientInit{Interface: zeroInterface(), Resources: []Resource{{Type: DNS}, {Type: StaticDevicePool}}},
		RelaysPresence{}, GatewayCandidates{}, RequestAuthorization{}, ClientCandidates{},
		GatewayInit{IPv4: zeroInterface().IPv4, IPv6: zeroInterface().IPv6}, PeerCandidates{}, BroadcastCandidates{},
		GatewayResourceUpdated{GatewayResource{Type: CIDR}}, AuthorizationFailed{},
	} {
		b, err := AppendPayload(nil, m)
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		text := strings.NewReplacer(`"search_domain":null`, "", `"address_description":null`, "", `"account_slug":null`, "").Replace(string(b))
		if strings.Contains(text, "null") {
			t.Errorf("%T: null in %s", m, b)
		}
	}
	if b, err := AppendPayload([]byte("x"), ConfigChanged{}); err == nil || string(b) != "x" {
		t.Errorf("message without addresses: %s, %v; want an error and dst unchanged", b, err)
	}
}

// A search domain ends up in a file of settings: it is one word.
func TestSearchDomainsAreOneWord(t *testing.T) {
	for name, good := range map[string]bool{`corp.example`: true, `a-b_c.example.`: true, `corp.example\nnameserver 198.51.100.9`: false, `a b`: false, `a\tb`: false, `a#b`: false, `a;b`: false, `a\u007fb`: false} {
		_, err := DecodeForClient(V1, "init", []byte(`{`+strings.Replace(ifaceJSON, `"ipv4"`, `"search_domain":"`+name+`","ipv4"`, 1)+`}`))
		if (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func zeroInterface() Interface {
	m, err := DecodeForClient(V1, "init", []byte(`{`+ifaceJSON+`}`))
	if err != nil {
		panic(err)
	}
	return m.(ClientInit).Interface
}

func TestFrameBounds(t *testing.T) {
	for _, row := range []struct {
		name, frame string
		truncated   bool
	}{
		{"empty", "", true},
		{"blank", " \n", true},
		{"ends in an object", `{"topic":"client","event":"init","payload":{"a":[1`, true},
		{"ends in a string", `{"topic":"cli`, true},
		{"ref as text", `{"topic":"client","event":"init","payload":{},"ref":"1"}`, false},
		{"ref negative", `{"topic":"client","event":"init","payload":{},"ref":-1}`, false},
		{"no topic", `{"event":"init","payload":{}}`, false},
		{"array form", `[null,"1","client","init",{}]`, false},
		{"deep", `{"topic":"a","event":"b","payload":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, false},
		{"large", `{"topic":"` + strings.Repeat("a", MaxFrame) + `"}`, false},
		{"garbage", "\x00\xff", false},
	} {
		_, err := ParseFrame([]byte(row.frame))
		if err == nil || errors.Is(err, ErrTruncated) != row.truncated {
			t.Errorf("%s: %v, want truncated %v", row.name, err, row.truncated)
		}
	}
	f, err := ParseFrame([]byte(`{"topic":"client","event":"x","join_ref":"1"}`))
	if err != nil || f.Payload != nil || f.Ref != nil {
		t.Errorf("frame without payload and ref: %+v, %v", f, err)
	}
	long := strings.TrimSuffix(strings.Repeat(`"a",`, maxList+1), ",")
	if _, err := DecodeFromClient(V2, "new_gateway_ice_candidates", []byte(`{"gateway_id":"22222222-2222-4222-8222-222222222222","candidates":[`+long+`]}`)); err == nil {
		t.Error("a list without end was accepted")
	}
}

func TestReplies(t *testing.T) {
	for _, row := range []struct {
		payload string
		want    Reply
		ok      bool
	}{
		{`{"status":"ok","response":{}}`, Reply{OK: true, Empty: true}, true},
		{`{"status":"ok","response":null}`, Reply{OK: true}, true},
		{`{"status":"ok"}`, Reply{OK: true}, true},
		{`{"status":"ok","response":{"a":1}}`, Reply{OK: true}, true},
		{`{"status":"error","response":{"reason":"unmatched topic"}}`, Reply{Reason: UnmatchedTopic}, true},
		{`{"status":"error","response":{"reason":7}}`, Reply{}, false},
		{`{"status":"maybe","response":{}}`, Reply{}, false},
	} {
		got, err := ParseReply([]byte(row.payload))
		if got != row.want || (err == nil) != row.ok {
			t.Errorf("%s: %+v, %v; want %+v", row.payload, got, err, row.want)
		}
	}
	if got, want := string(AppendFrame(nil, OK("client", 0))), `{"topic":"client","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":0}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := string(AppendFrame(nil, Refusal("client", 7, "unknown_message"))), `{"topic":"client","event":"phx_reply","payload":{"status":"error","response":{"reason":"unknown_message"}},"ref":7}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	secret := Secret("hunter2")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "s", secret, "g", struct{ S Secret }{secret})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "s", secret, "g", struct{ S Secret }{secret})
	all := log.String() + fmt.Sprintf("%s %v %+v %#v %q %x %d", secret, secret, struct{ S Secret }{secret}, secret, secret, secret, secret)
	if strings.Contains(all, "hunter2") || strings.Contains(all, "68756e746572") {
		t.Error("the secret shows in: " + all)
	}
	if secret.Reveal() != "hunter2" {
		t.Error("Reveal does not")
	}
}
