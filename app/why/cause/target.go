package cause

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// A Target is a host that somebody wants to reach.
type Target struct {
	// Host is a name in lower case without trailing dot, or an address.
	Host string
	Addr netip.Addr // valid: Host is one
	Port uint16     // of TCP; 0: none in particular
}

// ErrTarget means that a text names no host. Ask for another one.
var ErrTarget = errors.New("write HOST, HOST:PORT or a URL, like wiki.corp.example:443")

// ports are those of URLs that name none.
var ports = map[string]uint16{
	"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "ssh": 22, "sftp": 22, "rdp": 3389, "vnc": 5900, "smb": 445,
	"ldap": 389, "ldaps": 636, "postgres": 5432, "postgresql": 5432, "mysql": 3306, "redis": 6379, "mongodb": 27017, "amqp": 5672,
	"imap": 143, "imaps": 993, "smtp": 25, "git": 9418,
}

const maxTarget = 4096

// ParseTarget reads HOST, HOST:PORT, [ADDRESS]:PORT, an IPv6 address or a URL.
func ParseTarget(text string) (Target, error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxTarget {
		return Target{}, ErrTarget
	}
	if scheme, _, is := strings.Cut(text, "://"); is {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			return Target{}, fmt.Errorf("%.60q is no URL: %w", text, ErrTarget)
		}
		return target(u.Hostname(), u.Port(), ports[strings.ToLower(scheme)])
	}
	bare := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		bare = text[1 : len(text)-1]
	}
	if a, err := netip.ParseAddr(bare); err == nil {
		return Target{Host: a.Unmap().WithZone("").String(), Addr: a.Unmap().WithZone("")}, nil
	}
	host, port, _ := strings.Cut(text, ":")
	if strings.HasPrefix(text, "[") {
		inside, rest, closed := strings.Cut(text[1:], "]")
		if !closed || !strings.HasPrefix(rest, ":") {
			return Target{}, fmt.Errorf("%.60q: %w", text, ErrTarget)
		}
		host, port = inside, rest[1:]
	}
	if port == "" && strings.Contains(text, ":") {
		return Target{}, fmt.Errorf("%.60q names no port: %w", text, ErrTarget)
	}
	return target(host, port, 0)
}

func target(host, port string, usual uint16) (Target, error) {
	t := Target{Port: usual}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Target{}, fmt.Errorf("%.20q is no port between 1 and 65535: %w", port, ErrTarget)
		}
		t.Port = uint16(n)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		t.Addr = a.Unmap().WithZone("")
		t.Host = t.Addr.String()
		return t, nil
	}
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(host, "."))
	if err != nil { // names with "_" and the like, which are no names of the web
		name = strings.ToLower(strings.TrimSuffix(host, "."))
	}
	if !isName(name) {
		return Target{}, fmt.Errorf("%.60q is no name of a host: %w", host, ErrTarget)
	}
	t.Host = name
	return t, nil
}

// isName reports whether DNS, and the service, can be asked for a name.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if c <= ' ' || c > '~' || strings.IndexByte(`\/:@[]"<>#?%`, c) >= 0 {
				return false
			}
		}
	}
	return true
}

// String is the target as ParseTarget reads it.
func (t Target) String() string {
	switch {
	case t.Port == 0:
		return t.Host
	case t.Addr.IsValid():
		return netip.AddrPortFrom(t.Addr, t.Port).String()
	}
	return t.Host + ":" + strconv.Itoa(int(t.Port))
}
