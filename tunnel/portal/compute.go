package portal

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// An end is what the keys of a connection are derived from: one device at one
// of its connects.
type end struct {
	id      string   // the device's UUID, 36 lower-case characters
	key     wire.Key // WireGuard public key, announced at this connect
	pskBase wire.Key // the device's secret, stored for ever and never sent
}

// presharedKey derives the WireGuard key that a client and a gateway share. It
// changes with neither restarts nor reconnects, only with a key pair: peers
// replace a tunnel whose key differs (spec portal.md 5.3).
func presharedKey(client, gateway end) wire.Key {
	password := string(client.pskBase[:]) + string(gateway.pskBase[:])
	salt := "WG_PSK|C_ID:" + client.id + "|G_ID:" + gateway.id +
		"|C_PK:" + client.key.String() + "|G_PK:" + gateway.key.String()
	derived, err := pbkdf2.Key(sha256.New, password, []byte(salt), 1, len(wire.Key{}))
	if err != nil {
		panic(err) // only for key lengths that SHA-256 cannot give
	}
	return wire.Key(derived)
}

// iceCredentials derives the credentials of both agents of one connection;
// towards a gateway the client is the initiator (spec portal.md 5.4).
func iceCredentials(initiator, receiver end) (wire.ICECredentials, wire.ICECredentials) {
	seed := initiator.id + ":" + initiator.key.String() + ":" + receiver.id + ":" + receiver.key.String()
	sum := sha256.Sum256([]byte(seed))
	h := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(sum[:])
	return wire.ICECredentials{Username: h[0:4], Password: h[4:26]},
		wire.ICECredentials{Username: h[26:30], Password: h[30:52]}
}

// relayCredentials derives what a relay that holds stampSecret will accept
// from the owner of key until expiresAt, in Unix seconds (spec portal.md 5.5).
func relayCredentials(stampSecret string, key wire.Key, expiresAt int64) (username, password string) {
	salt := sum64(key.String())
	expiry := strconv.FormatInt(expiresAt, 10)
	return expiry + ":" + salt, sum64(expiry + ":" + stampSecret + ":" + salt)
}

func sum64(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// relayID names the relay process that holds stampSecret: another process,
// another ID, because all credentials of the former are void then.
func relayID(stampSecret string) id.Relay {
	sum := sha256.Sum256([]byte(stampSecret))
	return id.Relay(id.New[any]([16]byte(sum[:16])))
}

// ingestClaims is the body of an ingest token. Peers check its shape, field by
// field, and drop an authorization that carries another one; attributes that
// we do not know are left out (spec portal.md 3.1.9).
type ingestClaims struct {
	AccountID       id.Account      `json:"account_id"`
	Authorization   AuthorizationID `json:"policy_authorization_id"`
	Policy          id.Policy       `json:"policy_id"`
	Resource        id.Resource     `json:"resource_id"`
	ResourceName    string          `json:"resource_name"`
	ResourceAddress string          `json:"resource_address,omitempty"`
	Initiator       id.Client       `json:"initiator_device_id"`
	Responder       id.Gateway      `json:"responder_device_id"`
	Actor           id.Actor        `json:"initiator_actor_id"`
	ActorName       string          `json:"initiator_actor_name"`
	ActorEmail      string          `json:"initiator_actor_email,omitempty"`
	ClientVersion   string          `json:"initiator_client_version,omitempty"`
	AuthorizedAt    string          `json:"authorized_at"`
	ExpiresAt       string          `json:"authorization_expires_at"`
	IssuedAt        int64           `json:"iat"`
	Expires         int64           `json:"exp"`
	UploadsEnabled  bool            `json:"uploads_enabled"`
	Role            string          `json:"role"`
}

// ingestTokenLife is how long a token outlives its authorization, so that the
// last records can still be uploaded.
const ingestTokenLife = 30 * 24 * time.Hour

// stamp fills in the times: both ends in Unix seconds.
func (c *ingestClaims) stamp(authorizedAt, expiresAt int64) {
	c.AuthorizedAt = time.Unix(authorizedAt, 0).UTC().Format(time.RFC3339)
	c.ExpiresAt = time.Unix(expiresAt, 0).UTC().Format(time.RFC3339)
	c.IssuedAt = authorizedAt
	c.Expires = expiresAt + int64(ingestTokenLife/time.Second)
}

// sign makes the token for one end: a compact JWT, HMAC-SHA-256 with key.
func (c ingestClaims) sign(role string, key []byte) string {
	c.Role = role
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers can always be encoded
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + b64.EncodeToString(body)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + b64.EncodeToString(mac.Sum(nil))
}
