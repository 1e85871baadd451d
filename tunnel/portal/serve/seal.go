package serve

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// A sealer makes texts that only this process can read, or has made. Its keys
// are forgotten with it: a restart spoils forms that are being filled in.
type sealer struct {
	aead cipher.AEAD
	mac  [32]byte
}

func newSealer() *sealer {
	var key [chacha20poly1305.KeySize]byte
	rand.Read(key[:])
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // only for keys of another length
	}
	s := &sealer{aead: aead}
	rand.Read(s.mac[:])
	return s
}

// tag proves that this process has seen the texts together.
func (s *sealer) tag(texts ...string) string {
	h := hmac.New(sha256.New, s.mac[:])
	for _, text := range texts {
		sum := sha256.Sum256([]byte(text))
		h.Write(sum[:])
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func (s *sealer) hasTag(tag string, texts ...string) bool {
	return hmac.Equal([]byte(tag), []byte(s.tag(texts...)))
}

// A sealed text is one JSON value and the time it is good until.
type envelope struct {
	Until int64 // Unix seconds
	Value json.RawMessage
}

// seal hides v from everybody, the browser that carries it included.
func (s *sealer) seal(v any, until time.Time) (string, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(envelope{until.Unix(), value})
	if err != nil {
		return "", err
	}
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, nil)), nil
}

var errSealed = errors.New("not sealed by this process, or too old")

// open reads into v what seal made; errSealed for everything else.
func (s *sealer) open(text string, v any, now time.Time) error {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < s.aead.NonceSize() {
		return errSealed
	}
	plain, err := s.aead.Open(nil, b[:s.aead.NonceSize()], b[s.aead.NonceSize():], nil)
	if err != nil {
		return errSealed
	}
	var e envelope
	if err := json.Unmarshal(plain, &e); err != nil || e.Until <= now.Unix() {
		return errSealed
	}
	return json.Unmarshal(e.Value, v)
}
