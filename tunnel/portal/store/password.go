package store

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"sync"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Argon2id: 32 MiB, three passes, one lane (RFC 9106 §4 asks for what the
// machine can bear; a portal runs on small ones).
const (
	passes  = 3
	memory  = 32 << 10 // KiB
	lanes   = 1
	saltLen = 16
	hashLen = 32

	hashers = 2 // at once: 64 MiB

	minPassword = 8    // characters
	maxPassword = 1024 // bytes
)

func checkPassword(password string) error {
	if utf8.RuneCountInString(password) < minPassword {
		return fmt.Errorf("the password needs at least %d characters", minPassword)
	}
	if len(password) > maxPassword {
		return fmt.Errorf("the password has more than %d bytes", maxPassword)
	}
	return nil
}

// hashPassword returns the usual text form:
// $argon2id$v=19$m=32768,t=3,p=1$<salt>$<hash>, base64 without padding.
func hashPassword(password string) string {
	salt := randomBytes(saltLen)
	sum := argon2.IDKey([]byte(password), salt, passes, memory, lanes, hashLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, lanes, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// verifyPassword refuses every hash it does not understand.
func verifyPassword(hash, password string) bool {
	var version int
	var m, t uint32
	var p uint8
	var salt64, sum64 string
	var rest string
	if _, err := fmt.Sscanf(hash, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &m, &t, &p, &rest); err != nil || version != argon2.Version {
		return false
	}
	for i := range rest {
		if rest[i] == '$' {
			salt64, sum64 = rest[:i], rest[i+1:]
			break
		}
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(salt64)
	want, err2 := base64.RawStdEncoding.DecodeString(sum64)
	if err1 != nil || err2 != nil || len(want) == 0 || t == 0 || p == 0 || m > 1<<20 || len(password) > maxPassword {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, t, m, p, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}

// nobody is the hash that stands in for users who do not exist.
var nobody = sync.OnceValue(func() string { return hashPassword(string(randomBytes(16))) })
