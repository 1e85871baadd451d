package portal

import (
	"cmp"
	"strconv"
	"strings"
)

// A Kind is what a peer is.
type Kind string

// The kinds of peers; the text is the topic and the first segment of the path.
const (
	ClientKind  Kind = "client"
	GatewayKind Kind = "gateway"
	RelayKind   Kind = "relay"
)

// A Version is a release of one component. The zero Version stands for a text
// that is no version.
type Version struct{ Major, Minor, Patch int }

// Compare orders versions as [cmp.Compare] does.
func (v Version) Compare(u Version) int {
	return cmp.Or(cmp.Compare(v.Major, u.Major), cmp.Compare(v.Minor, u.Minor), cmp.Compare(v.Patch, u.Patch))
}

func (v Version) String() string {
	return strconv.Itoa(v.Major) + "." + strconv.Itoa(v.Minor) + "." + strconv.Itoa(v.Patch)
}

func (v Version) less(u Version) bool { return v.Compare(u) < 0 }

// ParseVersion reads MAJOR.MINOR.PATCH; what follows a "-" or "+" is ignored.
// Anything else gives the zero Version.
func ParseVersion(s string) Version {
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		s = s[:i]
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return Version{}
	}
	var n [3]int
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return Version{}
		}
		n[i] = int(v)
	}
	return Version{n[0], n[1], n[2]}
}

// A Component is the program behind a connection.
type Component string

// The components that a User-Agent can name.
const (
	GUI            Component = "gui"
	Headless       Component = "headless"
	Apple          Component = "apple"
	Android        Component = "android"
	GatewayProgram Component = "gateway"
	RelayProgram   Component = "relay"
)

// An Agent is a parsed User-Agent (spec portal.md 1.4).
type Agent struct {
	Component Component
	Version   Version // zero: no version, or none that can be read
	OSName    string  // may contain spaces; may be empty
	OSVersion string
}

// components lists the words that name a program. connlib stands for clients
// and gateways of the older generation; who it is follows from the system.
var components = []struct {
	prefix string
	is     Component
}{
	{"gui-client/", GUI}, {"headless-client/", Headless}, {"apple-client/", Apple}, {"android-client/", Android},
	{"gateway/", GatewayProgram}, {"relay/", RelayProgram}, {"connlib/", ""},
}

// ParseUserAgent reads a User-Agent. ok is false if no word of it names a
// component: a client is refused then, a gateway or relay is not.
func ParseUserAgent(s string) (a Agent, ok bool) {
	if name, rest, found := strings.Cut(s, "/"); found {
		a.OSName = strings.TrimSpace(name)
		a.OSVersion, _, _ = strings.Cut(rest, " ")
	}
	for word := range strings.SplitSeq(s, " ") {
		for _, c := range components {
			version, found := strings.CutPrefix(word, c.prefix)
			if !found {
				continue
			}
			a.Component, a.Version = c.is, ParseVersion(version)
			if a.Component == "" {
				a.Component = byOS(s)
			}
			return a, true
		}
	}
	return a, false
}

func byOS(userAgent string) Component {
	switch {
	case strings.HasPrefix(userAgent, "Mac OS"), strings.HasPrefix(userAgent, "macOS"), strings.HasPrefix(userAgent, "iOS"):
		return Apple
	case strings.HasPrefix(userAgent, "Android"):
		return Android
	}
	return GUI
}

// since is the first release of each client component with a property; a
// component that is not listed never has it.
type since map[Component]Version

func (s since) has(a Agent) bool {
	first, ok := s[a.Component]
	return ok && !a.Version.less(first)
}

// movesSites are the clients that take a resource with another site as an
// update. Others need it deleted first (spec portal.md 1.7).
var movesSites = since{Apple: {1, 5, 9}, Android: {1, 5, 5}, GUI: {1, 5, 9}, Headless: {1, 5, 5}}

// compatible reports whether a client may be sent to a gateway: one minor
// release back, one ahead of its own (spec portal.md 1.7). A version that
// cannot be read fits none.
func compatible(client, gateway Version) bool {
	if client == (Version{}) || gateway == (Version{}) {
		return false
	}
	lowest := Version{client.Major, max(client.Minor-1, 0), 0}
	beyond := Version{client.Major, client.Minor + 2, 0}
	return !gateway.less(lowest) && gateway.less(beyond)
}

// Releases that first knew a kind of resource, on both ends.
var (
	firstInternet = Version{1, 3, 0}
	firstWildcard = Version{1, 2, 0}
)

// supports reports whether a client or gateway of version v can handle r.
func supports(v Version, r *Resource) bool {
	switch {
	case v == (Version{}):
		return true // nothing is known against it; the choice of a gateway is stricter
	case r.Type == Internet:
		return !v.less(firstInternet)
	case r.Type == DNS && strings.ContainsAny(r.Address, "*?"):
		return !v.less(firstWildcard)
	}
	return true
}
