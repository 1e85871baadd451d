package relay

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/pion/stun/v3"

	"stile/tunnel/id"
)

// Realm is the only realm of Firezone relays.
const Realm = "firezone"

// maxUsername is the longest USERNAME of RFC 8489 §14.3, in bytes.
const maxUsername = 508

// Credentials returns what a relay with this stamp secret accepts until expiry
// (Unix seconds): the username is "<expiry>:<salt>", the password a digest of
// both and the secret (connectivity.md 4.1). salt contains no colon.
func Credentials(stampSecret string, expiry int64, salt string) (username, password string) {
	e := strconv.FormatInt(expiry, 10)
	return e + ":" + salt, password256(stampSecret, e, salt)
}

func password256(stampSecret, expiry, salt string) string {
	sum := sha256.Sum256([]byte(expiry + ":" + stampSecret + ":" + salt))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// errUsername means that no key can be derived for a username: nothing may be
// answered.
var errUsername = errors.New("username is not a number, a colon and a text")

// credentials derives the key of a username, and when it expires in Unix
// seconds.
func (s *Server) credentials(username string) (key stun.MessageIntegrity, expiry uint64, err error) {
	number, salt, found := strings.Cut(username, ":")
	if !found || strings.Contains(salt, ":") {
		return nil, 0, errUsername
	}
	expiry, err = strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, 0, errUsername
	}
	return stun.NewLongTermIntegrity(username, Realm, password256(s.secret, number, salt)), expiry, nil
}

// relayID is the first half of the secret's digest, made a UUID of version 4.
func relayID(stampSecret string) id.Relay {
	sum := sha256.Sum256([]byte(stampSecret))
	return id.Relay(id.New[struct{}]([16]byte(sum[:])))
}
