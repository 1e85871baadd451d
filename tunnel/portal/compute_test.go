package portal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// counting is the key first, first+step, first+2·step…
func counting(first, step int) (k wire.Key) {
	for i := range k {
		k[i] = byte(first + i*step)
	}
	return k
}

func filled(b byte) (k wire.Key) {
	copy(k[:], bytes.Repeat([]byte{b}, len(k)))
	return k
}

// The pairs of spec portal.md 5.3 and connectivity.md B.1.
var (
	client1  = end{"11111111-1111-4111-8111-111111111111", counting(0, 1), filled(0xaa)}
	gateway1 = end{"22222222-2222-4222-8222-222222222222", counting(0x20, 1), filled(0xbb)}
	client2  = end{"c0000000-0000-4000-8000-000000000001", counting(0, 1), filled(0x11)}
	gateway2 = end{"90000000-0000-4000-8000-000000000002", counting(0x1f, -1), filled(0x22)}
)

func TestPresharedKeyVectors(t *testing.T) {
	for _, c := range []struct {
		client, gateway end
		want            string
	}{
		{client1, gateway1, "q8Vg5uTVUXn/Twe2E0aVaXAOjAh9dKuPDDTFvBSVjjE="},
		{client2, gateway2, "KV29HSEztw2o38ImgHbiIakP4QG7XqJEyJXoVrx0vxY="},
	} {
		if got := presharedKey(c.client, c.gateway).String(); got != c.want {
			t.Errorf("presharedKey(%s, %s) = %s, want %s", c.client.id, c.gateway.id, got, c.want)
		}
	}
}

func TestICECredentialVectors(t *testing.T) {
	for _, c := range []struct {
		client, gateway end
		want            [4]string
	}{
		{client1, gateway1, [4]string{"w7up", "ksqwm66pilnb7skdwwfw3r", "kwe6", "mzkrj52x5h5ebrfdsh5iyq"}},
		{client2, gateway2, [4]string{"xq7e", "sdanb7qc5zetgiu2v2vpht", "on6s", "eijingzy3evcc3irpsifzq"}},
	} {
		client, gateway := iceCredentials(c.client, c.gateway)
		got := [4]string{client.Username, client.Password, gateway.Username, gateway.Password}
		if got != c.want {
			t.Errorf("iceCredentials(%s, %s) = %q, want %q", c.client.id, c.gateway.id, got, c.want)
		}
	}
}

func TestRelayVectors(t *testing.T) {
	const salt = "kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY"
	for _, c := range []struct {
		secret     string
		expires    int64
		user, pass string
		relay      string
	}{
		{strings.Repeat("ab", 32), 1800000000, "1800000000:" + salt, "vCYapEYJEOlx3OAa4k1eUknm2kNK8IamYMH2HP3amFg", "271a413b-d339-4570-9fdc-eaec41f14f11"},
		{"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1893456000, "1893456000:" + salt, "/VP7bP2whqaMF4tnP1uq32bt0kgD/AmO5aw2beOS2n8", "2a8abfa8-cb99-4629-8437-854193ca6bca"},
	} {
		user, pass := relayCredentials(c.secret, counting(0, 1), c.expires)
		if user != c.user || pass != c.pass {
			t.Errorf("relayCredentials(%d) = %s %s, want %s %s", c.expires, user, pass, c.user, c.pass)
		}
		if got := relayID(c.secret).String(); got != c.relay {
			t.Errorf("relayID = %s, want %s", got, c.relay)
		}
	}
}

// The shape that peers check (spec portal.md 3.1.9), by the check our own
// peers make, and that nothing unknown is sent as null or "".
func TestIngestToken(t *testing.T) {
	claims := ingestClaims{
		AccountID: id.Account{1}, Authorization: AuthorizationID{2}, Policy: id.Policy{3}, Resource: id.Resource{4},
		ResourceName: "Wiki", Initiator: id.Client{5}, Responder: id.Gateway{6}, Actor: id.Actor{7}, ActorName: "Alice",
	}
	claims.stamp(1790000000, 1790035200)
	token := claims.sign("initiator", []byte("key"))
	if err := wire.CheckIngestToken(token, "initiator"); err != nil {
		t.Error(err)
	}
	parts := strings.Split(token, ".")
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"role": "initiator", "iat": 1790000000.0, "exp": 1790035200.0 + 30*86400, "uploads_enabled": false,
		"authorized_at": "2026-09-21T14:13:20Z", "authorization_expires_at": "2026-09-22T00:00:00Z", "resource_name": "Wiki",
		"responder_device_id": "06000000-0000-0000-0000-000000000000",
	} {
		if got[name] != want {
			t.Errorf("claim %s = %v, want %v", name, got[name], want)
		}
	}
	for name, value := range got {
		if value == nil || value == "" {
			t.Errorf("claim %s is empty", name)
		}
	}
	if claims.sign("responder", []byte("key")) == token {
		t.Error("both roles have the same token")
	}
}
