package wire

import (
	"net/netip"

	"stile/tunnel/id"
)

// An Interface is what a client's tunnel and DNS look like (3.1.1).
type Interface struct {
	IPv4 netip.Addr // bare address inside 100.64.0.0/11
	IPv6 netip.Addr // bare address inside fd00:2021:1111::/107

	// UpstreamDo53 are plain DNS servers, port 53. Absent: none.
	UpstreamDo53 []netip.Addr
	// UpstreamDoH are https URLs with a host and without a query. Absent: none.
	UpstreamDoH []string
	// UpstreamDNS are the servers of UpstreamDo53 for releases before 1.5.5.
	// Absent: none. On conflict UpstreamDo53 counts.
	UpstreamDNS []netip.AddrPort
	// SearchDomain is appended to single-label names. "" (absent or null on
	// the wire): none.
	SearchDomain string
}

// A Relay is one address of a TURN server and our credentials there (3.1.2,
// 5.5). A dual-stack relay is two adjacent Relays with the same ID. Entries of
// type "stun" are skipped on decoding.
type Relay struct {
	ID       id.Relay
	Addr     netip.AddrPort
	Username string // "<ExpiresAt>:<salt>"
	Password string // base64 without padding
	// ExpiresAt is when the relay stops accepting the credentials, in Unix
	// seconds.
	ExpiresAt int64
}

// A Protocol is what a filter speaks about. The values are those of the IP
// header.
type Protocol uint8

const (
	ICMP Protocol = 1 // ICMP and ICMPv6
	TCP  Protocol = 6
	UDP  Protocol = 17
)

// String is the name on the wire: "icmp", "tcp" or "udp".
func (p Protocol) String() string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return "unknown"
}

// A Filter permits one protocol on the ports First to Last, both inclusive
// (3.1.3). Bounds absent on the wire are 0 and 65535; ICMP has no bounds and
// both are zero. A list of filters is an allow-list; the empty list allows
// everything.
type Filter struct {
	Protocol    Protocol
	First, Last uint16
}

// A ResourceType is the "type" of a resource (3.1.4).
type ResourceType string

const (
	DNS               ResourceType = "dns"
	CIDR              ResourceType = "cidr" // also single addresses, as /32 or /128
	Internet          ResourceType = "internet"
	StaticDevicePool  ResourceType = "static_device_pool"
	DynamicDevicePool ResourceType = "dynamic_device_pool"
)

// An IPStack limits the record types a client answers for a DNS resource.
type IPStack string

const (
	Dual     IPStack = "dual" // the same as "", which is absent on the wire
	IPv4Only IPStack = "ipv4_only"
	IPv6Only IPStack = "ipv6_only"
)

// A Site is a set of gateways; on the wire "gateway_groups" or "sites".
type Site struct {
	ID   id.Site
	Name string
}

// A Resource is what a client may reach, as the portal tells it (3.1.4).
type Resource struct {
	ID   id.Resource
	Type ResourceType
	// Name is for people. An Internet resource without one is called
	// "Internet Resource".
	Name string
	// Address is a pattern (9.2) for DNS and DynamicDevicePool, a prefix
	// without host bits for CIDR, and "" for the others.
	Address string
	// Description is for people and may hold a link. "": absent or null.
	Description string
	// Sites has one element from the stock portal; it is empty for pools.
	Sites []Site
	// IPStack counts for DNS only.
	IPStack IPStack
	// Filters absent: everything is allowed.
	Filters []Filter
	// Devices are the members of a StaticDevicePool. Absent: none.
	Devices []PoolDevice
}

// A PoolDevice is a member of a device pool. The addresses travel with their
// full masks, /32 and /128.
type PoolDevice struct {
	Client     id.Client
	IPv4, IPv6 netip.Addr
}

// A GatewayResource is a resource as a gateway sees it (3.1.5): DNS, CIDR or
// Internet. An Internet resource has nothing but its ID.
type GatewayResource struct {
	ID      id.Resource
	Type    ResourceType
	Name    string
	Address string // as Resource.Address
	Filters []Filter
}

// ICECredentials are one side's user name fragment (at least 4 characters) and
// password (at least 22) for connectivity checks (3.1.6, 5.4).
type ICECredentials struct{ Username, Password string }

// An Authorization is one permission that a peer's init confirms (3.1.7).
type Authorization struct {
	Client    id.Client
	Resource  id.Resource
	ExpiresAt int64 // Unix seconds
}

// FlowLogs says where a peer uploads records of flows (3.1.8).
type FlowLogs struct {
	APIURL             string // only its host counts; unread while uploads are off
	UploadIntervalSecs uint32 // seconds; 0: uploads are off
	UploadBatchSize    uint32 // records; 0: 1000; at most 10000
}
