package ipcsock

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Beside returns where a program listens that keeps its files in dir: pipes are
// in no folder, so that the name stands for it.
func Beside(dir, name string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(dir)))
	return pipes + `Stile\` + hex.EncodeToString(sum[:16]) + `\` + name
}

// Self returns what names our user on this machine, as Peer.User does.
func Self() (string, error) { return ourSID() }
