package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"stile/tunnel/id"
)

// CheckIngestToken reports why a V2 peer would refuse token, and with it the
// authorization that carries it (3.1.9). It looks at the structure only: a
// compact JWT with every claim a peer wants, for role "initiator" (client) or
// "responder" (gateway). Nobody but the portal checks the signature.
func CheckIngestToken(token, role string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("is not a JWT of three parts")
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return fmt.Errorf("part %d is not base64url", i+1)
		}
	}
	if len(decoded[2]) == 0 {
		return errors.New("has no signature")
	}
	var alg string
	if err := readMessage(decoded[0], func(o *object) { o.need(&alg, "alg") }); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if alg != "HS256" {
		return errors.New("header: algorithm is not HS256")
	}
	if err := readMessage(decoded[1], func(o *object) { checkClaims(o, role) }); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	return nil
}

func checkClaims(o *object, role string) {
	var text, got string
	var number uint64
	var flag bool
	for _, name := range []string{
		"account_id", "policy_authorization_id", "policy_id", "resource_id", "resource_name",
		"initiator_device_id", "responder_device_id", "initiator_actor_id", "initiator_actor_name",
		"authorized_at", "authorization_expires_at",
	} {
		o.need(&text, name)
	}
	for _, name := range []string{
		"resource_address", "initiator_actor_email", "initiator_auth_provider_id", "initiator_client_version",
		"initiator_device_os_name", "initiator_device_os_version", "initiator_device_serial",
		"initiator_device_uuid", "initiator_device_identifier_for_vendor",
		"initiator_device_firebase_installation_id",
	} {
		o.nullable(&text, name)
	}
	o.need(&number, "iat")
	o.need(&number, "exp")
	o.need(&flag, "uploads_enabled")
	o.need(&got, "role")
	if o.err == nil && got != role {
		o.err = fmt.Errorf("role is %.20q, not %q", got, role)
	}
}

// Ingest is what an ingest token says of who was let in, and by what. It is for
// people and logs: nothing may be decided by it.
type Ingest struct {
	Policy     id.Policy
	Actor      id.Actor
	ActorName  string
	ActorEmail string // "": a service account, or not told
}

// maxIngestText bounds a name in bytes.
const maxIngestText = 256

// ReadIngestToken reads a token that CheckIngestToken has passed. What is no ID
// is zero, as is all of it for another token or none.
func ReadIngestToken(token string) (in Ingest) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Ingest{}
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Ingest{}
	}
	var policy, actor string
	err = readMessage(claims, func(o *object) {
		o.need(&policy, "policy_id")
		o.need(&actor, "initiator_actor_id")
		o.need(&in.ActorName, "initiator_actor_name")
		o.nullable(&in.ActorEmail, "initiator_actor_email")
	})
	if err != nil {
		return Ingest{}
	}
	// The portal may use other names for them; then they stay unknown.
	_ = in.Policy.UnmarshalText([]byte(policy))
	_ = in.Actor.UnmarshalText([]byte(actor))
	in.ActorName, in.ActorEmail = cut(in.ActorName), cut(in.ActorEmail)
	return in
}

// cut shortens a name that would fill a log.
func cut(s string) string {
	if len(s) <= maxIngestText {
		return s
	}
	return strings.ToValidUTF8(s[:maxIngestText], "")
}
