package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"stile/tunnel/id"
)

var update = flag.Bool("update", false, "write the golden files")

// Requests as they stand on the wire; commands of released programs must stay
// readable.
var requests = []struct {
	body    string
	request Request
}{
	{`{"protocol":1,"id":1,"command":"sign-in","with":{"token":"a.b","account_slug":"acme","actor":"Alice <a&b>"}}`, Request{1, SignIn{Token: "a.b", AccountSlug: "acme", Actor: "Alice <a&b>"}}},
	{`{"protocol":1,"id":2,"command":"sign-in","with":{"token":"a.b","account_slug":"acme","actor":"Alice","kept_since_ms":1764460800000,"back":true,"portal":"wss://portal.example"}}`, Request{2, SignIn{"a.b", "acme", "Alice", 1764460800000, true, "wss://portal.example"}}},
	{`{"protocol":1,"id":2,"command":"sign-in","with":{"token":".b","account_slug":"","actor":""}}`, Request{2, SignIn{Token: ".b"}}},
	{`{"protocol":1,"id":3,"command":"sign-out"}`, Request{3, SignOut{}}},
	{`{"protocol":1,"id":4,"command":"set-internet","with":{"on":true}}`, Request{4, SetInternet{true}}},
	{`{"protocol":1,"id":5,"command":"set-internet","with":{"on":false}}`, Request{5, SetInternet{false}}},
	{`{"protocol":1,"id":6,"command":"set-log-filter","with":{"filter":"debug","for_s":600}}`, Request{6, SetLogFilter{"debug", 10 * time.Minute}}},
	{`{"protocol":1,"id":7,"command":"set-log-filter","with":{"filter":"info,tunnel=off"}}`, Request{7, SetLogFilter{Filter: "info,tunnel=off"}}},
	{`{"protocol":1,"id":8,"command":"clear-logs"}`, Request{8, ClearLogs{}}},
	{`{"protocol":1,"id":10,"command":"inspect","with":{"host":"wiki.corp.example","port":443}}`, Request{10, Inspect{"wiki.corp.example", 443}}},
	{`{"protocol":1,"id":11,"command":"inspect","with":{"host":"fd00::1"}}`, Request{11, Inspect{Host: "fd00::1"}}},
	{`{"protocol":1,"id":12,"command":"collect"}`, Request{12, Collect{}}},
	{`{"protocol":1,"id":13,"command":"apply-settings","with":{"api_url":"wss://portal.example","auth_url":"https://portal.example/x","log_filter":"debug"}}`, Request{13, ApplySettings{"wss://portal.example", "https://portal.example/x", "debug"}}},
	{`{"protocol":1,"id":14,"command":"apply-settings","with":{"api_url":"","auth_url":"","log_filter":""}}`, Request{14, ApplySettings{}}},
	{`{"protocol":1,"id":15,"command":"set-connect-on-start","with":{"on":false}}`, Request{15, SetConnectOnStart{}}},
	{`{"protocol":1,"id":16,"command":"connect"}`, Request{16, Connect{}}},
	{`{"protocol":1,"id":18446744073709551615,"command":"retry"}`, Request{1<<64 - 1, Retry{}}},
}

func TestRequestsOnTheWire(t *testing.T) {
	for _, row := range requests {
		frame, err := AppendRequest(nil, row.request)
		if err != nil || string(frame[HeaderLen:]) != row.body {
			t.Errorf("%d is written as %s, %v", row.request.ID, frame, err)
		}
		got, err := ParseRequest([]byte(row.body))
		if err != nil || got != row.request {
			t.Errorf("%s is read as %d %#v, %v", row.body, got.ID, got.Command, err)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	long := strings.Repeat("x", MaxToken+1)
	for _, row := range []struct {
		body string
		id   uint64
		code Code
	}{
		{`{"protocol":1,"id":9,"command":"set-log-filter","with":{"filter":""}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-log-filter","with":{"filter":"debug","for_s":604801}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-log-filter","with":{"filter":"debug","for_s":-1}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-log-filter","with":{"filter":"a\nb"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"clear-logs","with":{"all":true}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"inspect"}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"inspect","with":{"host":""}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"inspect","with":{"host":"a b"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"inspect","with":{"host":"a","port":65536}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"collect","with":{"path":"/etc/shadow"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"apply-settings"}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"apply-settings","with":{"api_url":"ws://portal.example"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"apply-settings","with":{"auth_url":"http://portal.example"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"apply-settings","with":{"log_filter":"a\nb"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"apply-settings","with":{"account_slug":"acme"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-connect-on-start","with":{}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"connect","with":{}}`, 9, InvalidArgument},
		{``, 0, Malformed},
		{`{`, 0, Malformed},
		{`[]`, 0, Malformed},
		{`null`, 0, WrongVersion},
		{`{"id":-1}`, 0, Malformed},
		{`{"protocol":1,"id":9,"command":"retry"} {}`, 0, Malformed},
		{`{"protocol":2,"id":9,"command":"retry"}`, 9, WrongVersion},
		{`{"protocol":0,"id":9,"command":"retry"}`, 9, WrongVersion},
		{`{"protocol":2,"id":9,"do":["something","else"]}`, 9, WrongVersion},
		{`{"protocol":1,"id":9,"command":"retry","how":"fast"}`, 9, Malformed},
		{`{"protocol":1,"id":9,"command":"Retry"}`, 9, UnknownCommand},
		{`{"protocol":1,"id":9,"command":""}`, 9, UnknownCommand},
		{`{"protocol":1,"id":9,"command":"retry","with":{}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-internet"}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-internet","with":{}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-internet","with":{"on":1}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"set-internet","with":{"on":true,"for":"10m"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"sign-in","with":{"account_slug":"","actor":""}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"sign-in","with":{"token":"a b"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"sign-in","with":{"token":"ä"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"sign-in","with":{"token":"` + long + `"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"sign-in","with":{"token":"a","account_slug":"../x"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"sign-in","with":{"token":"a","portal":"wss://a\nb"}}`, 9, InvalidArgument},
		{`{"protocol":1,"id":9,"command":"sign-in","with":{"token":"a","actor":"a\u001b[31m"}}`, 9, InvalidArgument},
	} {
		got, err := ParseRequest([]byte(row.body))
		p, is := errors.AsType[*Problem](err)
		if !is || got.ID != row.id || p.Code != row.code || p.Text == "" {
			t.Errorf("%.80s: %d, %v", row.body, got.ID, err)
		}
		if strings.Contains(fmt.Sprint(err), long) {
			t.Error("a refusal repeats the token")
		}
	}
	if _, err := AppendRequest(nil, Request{1, SignIn{Token: "a\n"}}); err == nil {
		t.Error("an unusable token was sent")
	}
}

func TestFrames(t *testing.T) {
	for _, row := range []struct {
		header [HeaderLen]byte
		want   int
	}{
		{[4]byte{0, 0, 0, 2}, 2},
		{[4]byte{0, 1, 0, 0}, MaxRequest},
		{[4]byte{0, 0, 0, 0}, 0}, {[4]byte{0, 0, 0, 1}, 0}, {[4]byte{0, 1, 0, 1}, 0}, {[4]byte{255, 255, 255, 255}, 0}, {[4]byte{'G', 'E', 'T', ' '}, 0},
	} {
		n, err := BodyLen(row.header, MaxRequest)
		if n != row.want || (err == nil) != (row.want > 0) || err != nil && !errors.Is(err, ErrFrame) {
			t.Errorf("%v: %d, %v", row.header, n, err)
		}
	}
	for _, body := range [][]byte{nil, []byte("1"), make([]byte, MaxRequest+1)} {
		if b, err := AppendFrame(nil, body, MaxRequest); err == nil || b != nil {
			t.Errorf("a body of %d bytes was framed", len(body))
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	secret := SignIn{Token: "hunter2"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "c", secret, "t", secret.Token)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "c", secret, "t", secret.Token)
	text, err := json.Marshal(secret)
	all := log.String() + string(text) + fmt.Sprintf("%v %v %+v %#v %q %x", secret, secret, secret, secret, secret.Token, secret.Token)
	if err != nil || strings.Contains(all, "hunter2") || strings.Contains(all, "68756e74657232") {
		t.Error(all, err)
	}
	if got := secret.Token.Reveal(); got != "hunter2" {
		t.Error(got)
	}
}

func TestPastedTokens(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{".abc-_=", ".abc-_="},
		{" .ab\n  c\t\r\n", ".abc"},
		{"\ufeff.a\u200bb\u00a0c\u2060", ".abc"},
		{strings.Repeat("x", MaxToken) + "\n", strings.Repeat("x", MaxToken)},
	} {
		got, err := ParseToken(row.text)
		if err != nil || got.Reveal() != row.want {
			t.Errorf("%.40q: %.40q, %v", row.text, got.Reveal(), err)
		}
	}
	for _, row := range []struct {
		text string
		want error
	}{
		{"", ErrNoToken}, {" \n\u200b", ErrNoToken},
		{"tökn", ErrBadToken}, {"a\x00b", ErrBadToken}, {"a\x7f", ErrBadToken}, {"\xff", ErrBadToken},
		{strings.Repeat("x", MaxToken+1), ErrBadToken}, {strings.Repeat(" ", 1<<20), ErrBadToken},
	} {
		if got, err := ParseToken(row.text); err != row.want || got != "" {
			t.Errorf("%.40q: %v", row.text, err)
		}
	}
}

func exampleState() State {
	address := netip.MustParseAddrPort
	return State{
		Version: "0.1.0 (1f2e3d4c5b6a)",
		Session: Session{
			Phase: Connected, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), PortalUp: true, Token: TokenFromSignIn,
			Account: "acme", Actor: "Alice & Bob", Portal: "wss://portal.example.net",
		},
		Resources: []Resource{
			{ID: id.Resource{0}, Type: "internet", Name: "Internet", Sites: []string{"Munich"}, State: Unknown, Problem: Problemf(InternetIsOff, "The Internet resource is switched off. Switch it on with: stile internet on")},
			{ID: id.Resource{1}, Type: "dns", Name: "Wiki", Address: "wiki.corp.example", Description: "https://wiki.corp.example/", Sites: []string{"Munich"}, State: Online},
			{ID: id.Resource{2}, Type: "cidr", Name: "Office", Address: "10.0.0.0/24", State: Offline, Problem: SaySiteOffline.With()},
		},
		Connections: []Connection{
			{Gateway: id.Gateway{7}, Site: "Munich", State: "connected", Path: Direct, Local: address("192.0.2.1:52625"), Remote: address("[2001:db8::1]:52625"), RTTMicros: 12345, LastHandshake: time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC), Sent: 1 << 20, Received: 3 << 30},
			{Gateway: id.Gateway{8}, State: "connecting"},
		},
		Internet: Internet{Available: true},
		Tunnel:   Tunnel{Interface: "tun-stile", IPv4: netip.MustParseAddr("100.64.0.5"), IPv6: netip.MustParseAddr("fd00:2021:1111::5"), Routes: []netip.Prefix{netip.MustParsePrefix("100.96.0.0/11")}},
		DNS:      DNS{Mode: "etc-resolv-conf", Sentinels: []netip.Addr{netip.MustParseAddr("100.100.111.1")}, Upstream: []netip.AddrPort{address("192.0.2.53:53")}, SearchDomain: "corp.example"},
		Logs:     Logs{Dir: "/var/log/stile", Filter: "info"},
		Settings: Settings{APIURL: "wss://portal.example.net", LogFilter: "info", CheckForUpdates: true, ConnectOnStart: new(true), Managed: []string{SettingAPIURL}},
		Counters: []Counter{{"dropped: malformed", 3}},
	}
}

// The JSON of a state is what scripts read from `stile status --json`: a
// changed golden file is a change for users.
func TestStateAsJSON(t *testing.T) {
	for name, state := range map[string]State{"connected": exampleState(), "empty": {Session: Session{Phase: SignedOut}}} {
		file := "testdata/" + name + ".json"
		var indented bytes.Buffer
		text, err := state.MarshalJSON()
		if err != nil || json.Indent(&indented, text, "", "\t") != nil {
			t.Fatal(err)
		}
		indented.WriteByte('\n')
		if *update {
			os.WriteFile(file, indented.Bytes(), 0o644)
		}
		want, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(indented.Bytes(), want) {
			t.Errorf("%s: %v; got %s", file, err, indented.Bytes())
		}
		if bytes.Contains(text, []byte("null")) {
			t.Errorf("%s has a null", text)
		}
	}
}

func TestStateDoesNotChangeWhatItEncodes(t *testing.T) {
	s := exampleState()
	s.MarshalJSON()
	if !reflect.DeepEqual(s, exampleState()) {
		t.Error("encoding changed the state")
	}
}

func TestMessagesOnTheWire(t *testing.T) {
	state := exampleState()
	state.Resources[2].Sites = []string{}
	for _, m := range []Message{
		{Hello: &Hello{Protocol, "0.1.0"}}, {State: &state}, {Answer: &Answer{ID: 7}},
		{Answer: &Answer{7, Problemf(Internal, "No.")}}, {Goodbye: Problemf(NotAllowed, "No.")}, {},
		{Part: &Part{ID: 7, Knowledge: &Knowledge{Name: "a", Verdict: Denied, Access: []Access{{Name: "A", Type: "dns", State: AccessIdle}}}}},
		{Part: &Part{ID: 7, File: &FilePart{Name: "logs/a.log", Data: []byte("x\n"), Left: 9}}},
	} {
		frame, err := AppendMessage([]byte("before"), m)
		if err != nil {
			t.Fatal(err)
		}
		n, err := BodyLen([HeaderLen]byte(frame[6:]), MaxMessage)
		if err != nil || n != len(frame)-6-HeaderLen {
			t.Errorf("%s: %d, %v", frame, n, err)
		}
		got, err := ParseMessage(frame[6+HeaderLen:])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s is read as %+v, %v", frame, got, err)
		}
	}
	for _, body := range []string{``, `[]`, `"hello"`, `{"hello":{"protocol":"x"}}`, `{"hello":{},"goodbye":{}}`, `{"state":{"connections":[{"local":"here"}]}}`} {
		if got, err := ParseMessage([]byte(body)); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	newer := `{"weather":{"sun":true}}`
	if got, err := ParseMessage([]byte(newer)); err != nil || !reflect.DeepEqual(got, Message{}) {
		t.Errorf("%s: %+v, %v", newer, got, err)
	}
	huge := State{Version: strings.Repeat("x", MaxMessage)}
	if _, err := AppendMessage(nil, Message{State: &huge}); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
}

func TestOutdated(t *testing.T) {
	for protocol, want := range map[int]string{Protocol: "", Protocol + 1: "Start the program anew", Protocol - 1: "Restart the service"} {
		p := Hello{protocol, "0.2.0"}.Outdated("0.1.0")
		if want == "" && p != nil || want != "" && (p == nil || p.Code != WrongVersion || !strings.Contains(p.Text, want) || !strings.Contains(p.Text, "0.2.0")) {
			t.Errorf("%d: %v", protocol, p)
		}
	}
}

func TestOrderOfResources(t *testing.T) {
	want := []Resource{{Type: "internet", Name: "zzz"}, {Name: "*"}, {Name: "1"}, {Name: "B"}, {Name: "a"}, {Name: "a", ID: id.Resource{1}}, {Name: "é"}}
	for seed := range uint64(20) {
		got := append([]Resource(nil), want...)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		SortResources(got)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v", seed, got)
		}
	}
}

func TestWall(t *testing.T) {
	wall := time.Date(2026, 1, 2, 3, 4, 5, 999, time.Local)
	now := time.Unix(5000, 0)
	if got := Wall(now.Add(-time.Minute), now, wall); !got.Equal(time.Date(2026, 1, 2, 3, 3, 5, 0, time.Local)) || got.Location() != time.UTC {
		t.Error(got)
	}
	if got := Wall(time.Time{}, now, wall); !got.IsZero() {
		t.Error(got)
	}
}

func TestNamesOfFiles(t *testing.T) {
	for name, want := range map[string]bool{
		"service/logs/tunnel-service.2026-11-23-08-00-00.log": true, "a": true, "a/b-c_d.E": true,
		"": false, "/a": false, "a/": false, "a//b": false, "../a": false, "a/../b": false, "a/..": false, ".a": false, "a/.b": false, "a.": false, "a b": false, "a\\b": false, "ä": false, "c:": false,
	} {
		if IsFileName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestAddressesOfPortals(t *testing.T) {
	for address, want := range map[string][2]bool{ // for programs, for people
		"wss://portal.example.com": {true, false}, "wss://portal.example.com:8443/x": {true, false}, "wss://[2001:db8::1]:443": {true, false},
		"https://portal.example.com": {false, true}, "https://portal.example.com/sign": {false, true},
		"ws://localhost:8080": {true, false}, "ws://127.0.0.1": {true, false}, "ws://[::1]:1": {true, false}, "http://LOCALHOST": {false, true}, "http://127.9.9.9:80/": {false, true},
		"ws://portal.example.com": {}, "http://portal.example.com": {}, "ws://localhost.example.com": {}, "http://127.0.0.1.example.com": {},
		"": {}, "portal.example.com": {}, "wss://": {}, "wss:portal": {}, "https://:443": {}, "wss://a b": {}, "wss://a\nb": {}, "https://x?y": {}, "wss://x#y": {},
		"https://user@portal.example.com": {}, "wss://user:word@portal.example.com": {}, "https://portal.example.com\\@evil.example": {},
		"javascript:alert(1)": {}, "file:///etc/passwd": {}, "ftp://portal.example.com": {}, "https://" + strings.Repeat("a", 2000): {},
	} {
		if got := [2]bool{CheckAPIURL(address) == nil, CheckAuthURL(address) == nil}; got != want {
			t.Errorf("%q: %v, want %v", address, got, want)
		}
	}
}
