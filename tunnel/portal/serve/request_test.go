package serve

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"stile/tunnel/portal/store"
)

// One row for each refusal of spec portal.md 1.6 that this portal makes.
func TestRefusedUpgrades(t *testing.T) {
	r := start(t)
	client, gateway, relay := r.token(store.ClientToken), r.token(store.GatewayToken), r.token(store.RelayToken)
	tok, foreign, err := r.store.NewToken(store.Token{Kind: store.GatewayToken, Site: [16]byte{9}}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, expired, err := r.store.NewToken(store.Token{Kind: store.ClientToken, Actor: r.alice.ID, ExpiresAt: time.Now().Unix() - 1}, "")
	if err != nil {
		t.Fatal(err)
	}
	with := func(h hail, name, value string) hail {
		if h.params.Set(name, value); value == "" {
			h.params.Del(name)
		}
		return h
	}
	agent := func(h hail, agent string) hail { h.agent = agent; return h }

	for _, c := range []struct {
		name   string
		hail   hail
		status int
		code   string
	}{
		{"no token", asClient(""), 401, "missing_token"},
		{"invented token", asClient("." + strings.Repeat("A", 64)), 401, "invalid_token"},
		{"garbage", asClient("%%%"), 401, "invalid_token"},
		{"token of a gateway", asClient(gateway), 401, "invalid_token"},
		{"token of a client", asGateway(client), 401, "invalid_token"},
		{"token of a client", asRelay(client), 401, "invalid_token"},
		{"expired", asClient(expired), 401, "invalid_token"},
		{"no external_id", with(asClient(client), "external_id", ""), 400, "invalid_connect_params"},
		{"long external_id", with(asClient(client), "external_id", strings.Repeat("x", 256)), 400, "invalid_connect_params"},
		{"no name", with(asGateway(gateway), "name", ""), 400, "invalid_connect_params"},
		{"long name", with(asGateway(gateway), "name", strings.Repeat("x", 256)), 400, "invalid_connect_params"},
		{"no text", with(asClient(client), "name", "\xff"), 400, "invalid_connect_params"},
		{"no key", with(asClient(client), "public_key", ""), 400, "invalid_connect_params"},
		{"short key", with(asClient(client), "public_key", "AAAA"), 400, "invalid_connect_params"},
		{"zero key", with(asClient(client), "public_key", strings.Repeat("A", 43)+"="), 400, "invalid_connect_params"},
		{"no user agent", agent(asClient(client), "Go-http-client/1.1"), 400, "invalid_connect_params"},
		{"relay without address", with(with(asRelay(relay), "ipv4", ""), "ipv6", ""), 400, "invalid_connect_params"},
		{"relay with a name", with(asRelay(relay), "ipv4", "relay.example"), 400, "invalid_connect_params"},
		{"relay mixed up", with(asRelay(relay), "ipv4", "2001:db8::1"), 400, "invalid_connect_params"},
		{"relay port", with(asRelay(relay), "port", "65536"), 400, "invalid_connect_params"},
		{"site is gone", asGateway(foreign), 503, "unhandled_connect_error"},
	} {
		r.connects.forget("127.0.0.1 " + c.hail.token) // the rate limit is another test
		conn, res, err := c.hail.dial(r.urls[0])
		if err == nil {
			conn.CloseNow()
			t.Errorf("%s: let in", c.name)
			continue
		}
		if res == nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		body, _ := io.ReadAll(res.Body)
		var got struct {
			Type, Title, Detail, Code string
			Status                    int
		}
		if err := json.Unmarshal(body, &got); err != nil || res.StatusCode != c.status || got.Status != c.status || got.Code != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, res.StatusCode, body, c.status, c.code)
		}
		if res.Header.Get("Content-Type") != "application/problem+json" || res.ContentLength != int64(len(body)) || got.Detail == "" {
			t.Errorf("%s: headers %v with %d bytes", c.name, res.Header, len(body))
		}
		if c.status == 503 != (res.Header.Get("Retry-After") != "") {
			t.Errorf("%s: Retry-After %q", c.name, res.Header.Get("Retry-After"))
		}
	}
	if err := r.store.RevokeToken(tok.ID); err != nil {
		t.Fatal(err)
	}
	if _, res, _ := asGateway(foreign).dial(r.urls[0]); res == nil || res.StatusCode != 401 {
		t.Errorf("revoked token: %v", res)
	}
}

// Peers read of a refusal what came with its headers (spec portal.md 1.6).
func TestRefusalIsOneWrite(t *testing.T) {
	r := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.urls[0], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /client/v2/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil || !strings.HasSuffix(string(b[:n]), `"code":"missing_token"}`) || strings.Contains(string(b[:n]), "chunked") {
		t.Errorf("first read is %q %v", b[:n], err)
	}
}

// Spec portal.md 1.3: no sub-protocol, and a Host without the port is no
// matter.
func TestUpgradeAsStockPeersDoIt(t *testing.T) {
	r := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.urls[0], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := asClient(r.token(store.ClientToken))
	fmt.Fprintf(conn, "GET %s?%s HTTP/1.1\r\nHost: portal.example.net\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nUser-Agent: %s\r\nX-Authorization: Bearer %s\r\n\r\n",
		h.path, h.params.Encode(), h.agent, h.token)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Protocol") != "" || res.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("answer is %v %v", res, err)
	}
}

func TestConnectRateLimit(t *testing.T) {
	r := start(t)
	token := r.token(store.ClientToken)
	var last *http.Response
	for range connectBurst + 1 {
		conn, res, err := asClient(token).dial(r.urls[0])
		if last = res; err == nil {
			conn.CloseNow()
		}
	}
	if last.StatusCode != 503 || last.Header.Get("Retry-After") != "1" {
		t.Errorf("after %d connects in a moment: %v", connectBurst+1, last)
	}
	r.dial(asGateway(r.token(store.GatewayToken))) // others are not concerned
}

func TestRemoteIP(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string
	}{
		{"198.51.100.1:5", nil, "198.51.100.1"},
		{"198.51.100.1:5", []string{"203.0.113.9"}, "198.51.100.1"}, // not a proxy of ours
		{"10.0.0.1:5", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:5", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"}, // the first is a claim
		{"10.0.0.1:5", []string{"1.1.1.1", "203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1:5", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"[::1]:5", []string{"[2001:db8::9]:4711"}, "2001:db8::9"},
		{"[::1]:5", []string{"2001:db8::9"}, "2001:db8::9"},
		{"[::ffff:10.0.0.1]:5", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:5", []string{"unknown"}, "10.0.0.1"},
		{"10.0.0.1:5", []string{"203.0.113.9, junk, 10.0.0.3"}, "10.0.0.3"},
		{"10.0.0.1:5", []string{""}, "10.0.0.1"},
		{"10.0.0.1:5", nil, "10.0.0.1"},
		{"10.0.0.1:5", []string{"10.0.0.9"}, "10.0.0.9"}, // nobody else to believe
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.forwarded
		if got := remoteIP(r, proxies); got.String() != c.want {
			t.Errorf("from %s with %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
}

func FuzzRemoteIP(f *testing.F) {
	f.Add("10.0.0.1:5", "1.1.1.1, [2001:db8::9]:4711")
	f.Add("[::1%eth0]:5", ",,")
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		everybody := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		_, err := netip.ParseAddrPort(peer)
		if got := remoteIP(r, everybody); got.IsValid() != (err == nil) || got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%q %q gave %v", peer, forwarded, got)
		}
	})
}

func TestToken(t *testing.T) {
	for _, c := range []struct{ header, query, want string }{
		{"Bearer abc", "", "abc"},
		{"Bearer abc", "xyz", "abc"}, // the header goes first
		{"", "xyz", "xyz"},
		{"bearer abc", "xyz", "xyz"}, // not the prefix: counts as absent
		{"abc", "", ""},
		{"", "", ""},
	} {
		r := httptest.NewRequest("GET", "/?"+url.Values{"token": {c.query}}.Encode(), nil)
		r.Header.Set("X-Authorization", c.header)
		if got := tokenOf(r); got.Reveal() != c.want {
			t.Errorf("header %q, parameter %q: %q, want %q", c.header, c.query, got.Reveal(), c.want)
		}
	}
}
