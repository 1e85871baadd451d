package ipc

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"stile/tunnel/id"
)

// A Phase is how far a session has come. From SignedOut a token leads to
// Connecting, unless the service was told not to connect by itself (then
// Session.Token is there, and Connect uses it), the portal's welcome to Raising, and the tunnel interface, routes
// and DNS to Connected. It stays Connected while the portal is away for a time:
// Session.PortalUp tells.
type Phase string

const (
	SignedOut  Phase = "signed-out" // no token, or one that is not used
	Connecting Phase = "connecting" // the portal has not let us in yet
	Raising    Phase = "raising"    // the tunnel interface, routes and DNS are being set
	Connected  Phase = "connected"  // resources can be reached
	Ending     Phase = "ending"     // what was changed is being undone
)

// Why a session is not further, or why it ended: codes of Session.Problem.
const (
	TokenRejected     Code = "token-rejected"     // unknown, revoked or expired: sign in again
	PortalUnreachable Code = "portal-unreachable" // no answer, or not the portal's; tried again by itself
	PortalRefused     Code = "portal-refused"     // it answers, and gives another reason than the token
	PortalUnknown     Code = "portal-unknown"     // the service was not told which portal is its
	PortalChanged     Code = "portal-changed"     // the sign-in is for another portal than the settings name: sign in again
	TunnelFailed      Code = "tunnel-failed"      // the interface, routes or DNS cannot be set
)

// Why a resource cannot be reached: codes of Resource.Problem.
const (
	SiteOffline     Code = "site-offline"     // no gateway of its site is online
	GatewayTooOld   Code = "gateway-version"  // none of them works with this client
	NotConnected    Code = "not-connected"    // there is no session, or no portal, to ask
	AccessForbidden Code = "access-forbidden" // a condition of the policy is not met
	InternetIsOff   Code = "internet-is-off"  // the Internet resource is switched off
)

// A TokenSource is where the session's token comes from.
type TokenSource string

const (
	TokenFromSignIn      TokenSource = "sign-in"     // a user signed in
	TokenFromFile        TokenSource = "file"        // an administrator's
	TokenFromEnvironment TokenSource = "environment" // an administrator's
)

// Managed reports whether the token is an administrator's, so that users
// cannot sign in or out.
func (t TokenSource) Managed() bool { return t == TokenFromFile || t == TokenFromEnvironment }

// A State is all that a program may know of the service: the whole of it, as it
// was at one moment. Times are of the calendar. In JSON, lists are never null,
// and fields marked omitzero are absent when there is nothing to say.
type State struct {
	// Version of the service, such as "0.1.0 (1f2e3d4c5b6a)".
	Version string  `json:"version"`
	Session Session `json:"session"`
	// Resources are what the portal granted, in the order of SortResources.
	// None are known before the first Connected.
	Resources []Resource `json:"resources"`
	// Connections are those to gateways; one appears with the first packet.
	Connections []Connection `json:"connections"`
	Internet    Internet     `json:"internet"`
	Tunnel      Tunnel       `json:"tunnel"`
	DNS         DNS          `json:"dns"`
	Logs        Logs         `json:"logs"`
	Settings    Settings     `json:"settings"`
	// Counters are dropped packets by reason and the like, sorted by name.
	Counters []Counter `json:"counters"`
}

// A Session is who is connected to what, and how far that has come.
type Session struct {
	Phase Phase     `json:"phase"`
	Since time.Time `json:"since,omitzero"` // when Phase was entered
	// Problem is why Phase is not a better one; nil: nothing is wrong. A user
	// who signed out has none.
	Problem *Problem `json:"problem,omitzero"`
	// PortalUp tells that the portal answers. Without it a tunnel goes on with
	// what was granted, but nothing new is.
	PortalUp bool        `json:"portal_up"`
	Token    TokenSource `json:"token,omitzero"` // "": there is none

	// Account (its slug) and Actor (a name for people) are known after a
	// sign-in by browser only.
	Account string `json:"account,omitzero"`
	Actor   string `json:"actor,omitzero"`
	// Holder is the user of this machine who signed in, and who alone may change
	// that besides its administrator; "": the administrator did.
	Holder string `json:"holder,omitzero"`
	// Portal is the address of the portal for programs, "wss://…". "" when the
	// service was not told one.
	Portal string `json:"portal,omitzero"`
	// AuthURL is where users sign in, "https://…"; "": at Portal.
	AuthURL string `json:"auth_url,omitzero"`
}

// A Resource is something private that may be reached.
type Resource struct {
	ID   id.Resource `json:"id"`
	Type string      `json:"type"` // "dns", "cidr", "internet" or a kind of device pool
	Name string      `json:"name"`
	// Address is a name pattern or a prefix; "" for the Internet resource.
	Address     string        `json:"address,omitzero"`
	Description string        `json:"description,omitzero"` // text or URL, by the administrator
	Sites       []string      `json:"sites"`                // names
	State       ResourceState `json:"state"`
	// Problem is why the resource cannot be reached; nil: nothing is known
	// against it.
	Problem *Problem `json:"problem,omitzero"`
}

// A ResourceState is what is known of the gateways of a resource's sites.
type ResourceState string

const (
	Unknown ResourceState = "unknown" // no traffic to it yet
	Online  ResourceState = "online"  // connected to one of them
	Offline ResourceState = "offline" // the portal said that there is none
)

// Path names of a Connection.
const (
	Direct  = "direct"  // from address to address
	Relayed = "relayed" // through a relay of ours or of the gateway's
)

// A Connection is a WireGuard tunnel to one gateway.
type Connection struct {
	Gateway id.Gateway     `json:"gateway"`
	Site    string         `json:"site,omitzero"`  // name
	State   string         `json:"state"`          // "connecting", "connected" or "idle"
	Path    string         `json:"path,omitzero"`  // Direct or Relayed; "" while none is found
	Local   netip.AddrPort `json:"local,omitzero"` // of the path
	Remote  netip.AddrPort `json:"remote,omitzero"`
	// RTTMicros is the round trip of the path, in microseconds, as checks of it
	// take; 0: none was answered yet.
	RTTMicros int64 `json:"rtt_us,omitzero"`
	// LastHandshake is when WireGuard last agreed upon keys: every two minutes
	// while there is traffic.
	LastHandshake time.Time `json:"last_handshake,omitzero"`
	Sent          uint64    `json:"sent"`     // bytes of packets
	Received      uint64    `json:"received"` // bytes of packets
}

// Internet is the switch of the Internet resource.
type Internet struct {
	Available bool `json:"available"` // the portal offers the resource
	On        bool `json:"on"`        // the user's wish
}

// A Tunnel is the tunnel interface.
type Tunnel struct {
	Interface string         `json:"interface,omitzero"` // "" while there is none
	IPv4      netip.Addr     `json:"ipv4,omitzero"`
	IPv6      netip.Addr     `json:"ipv6,omitzero"`
	Routes    []netip.Prefix `json:"routes"` // into the tunnel, the default routes among them
}

// DNS is how names are resolved.
type DNS struct {
	Mode         string           `json:"mode"`                   // how the system is told to ask us, as the option --dns-control
	Sentinels    []netip.Addr     `json:"sentinels"`              // the resolver addresses that the system asks
	Upstream     []netip.AddrPort `json:"upstream"`               // whom names that are not private are forwarded to
	SearchDomain string           `json:"search_domain,omitzero"` // "" for none
}

// Logs is where the service logs, and what.
type Logs struct {
	Dir    string `json:"dir,omitzero"`    // of its files; "": it writes none
	Filter string `json:"filter,omitzero"` // such as "info"
}

// A Counter is a named number that only grows.
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// SortResources puts the Internet resource first and the others in byte order
// of their names, then IDs (spec desktop-client.md 4.2).
func SortResources(list []Resource) {
	slices.SortFunc(list, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name), a.ID.Compare(b.ID))
	})
}

func rank(r Resource) int {
	if r.Type == "internet" {
		return 0
	}
	return 1
}

// MarshalJSON writes missing lists as empty ones.
func (s State) MarshalJSON() ([]byte, error) {
	type plain State
	p := plain(s)
	p.Resources = slices.Clone(p.Resources)
	for i := range p.Resources {
		p.Resources[i].Sites = list(p.Resources[i].Sites)
	}
	p.Resources, p.Connections, p.Counters = list(p.Resources), list(p.Connections), list(p.Counters)
	p.Settings.Managed = list(p.Settings.Managed)
	p.Tunnel.Routes, p.DNS.Sentinels, p.DNS.Upstream = list(p.Tunnel.Routes), list(p.DNS.Sentinels), list(p.DNS.Upstream)
	return marshal(p), nil
}

func list[E any](l []E) []E {
	if l == nil {
		return []E{}
	}
	return l
}
