package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// The component and release that we claim in a User-Agent: the generation of
// stock peers whose protocol this package speaks (0.2).
const (
	HeadlessClient = "headless-client/1.5.11"
	GUIClient      = "gui-client/1.5.16"
	Gateway        = "gateway/1.6.0"
	RelayComponent = "relay/0.1.0"
)

// UserAgent builds the User-Agent header: the grammar of 1.4, then our own
// version as a further word, which the portal's parser does not look at.
// component is one of the constants above; arch is Go's name or uname's; kernel
// may be empty. Non-ASCII characters are removed. Portals read it back with
// tunnel/portal.
func UserAgent(component, stileVersion, osName, osVersion, arch, kernel string) string {
	inside := []string{machine(arch)}
	if kernel != "" {
		inside = append(inside, kernel)
	}
	return printable(osName + "/" + osVersion + " " + component + " (" + strings.Join(inside, "; ") + ") stile/" + stileVersion)
}

// machine translates Go's names of processors to those of uname, which stock
// peers send.
func machine(arch string) string {
	switch arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return arch
}

// printable removes what a header may not carry.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

// MaxExternalID is the length limit of an external ID in characters (1.2).
const MaxExternalID = 255

// ExternalID turns a configured device ID into the external_id parameter:
// the SHA-256, in lower-case hexadecimal, of the text of a UUID; anything else
// as it is (1.2).
func ExternalID(deviceID string) string {
	if !isUUID(deviceID) {
		return deviceID
	}
	sum := sha256.Sum256([]byte(deviceID))
	return hex.EncodeToString(sum[:])
}

// isUUID accepts the four spellings of a UUID: with hyphens, bare, in braces,
// and as a URN.
func isUUID(s string) bool {
	if inner, braced := strings.CutPrefix(s, "{"); braced {
		if s, braced = strings.CutSuffix(inner, "}"); !braced || len(s) != 36 {
			return false
		}
	} else if urn, is := strings.CutPrefix(s, "urn:uuid:"); is {
		if s = urn; len(s) != 36 {
			return false
		}
	}
	if len(s) == 36 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return false
		}
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 32
}
