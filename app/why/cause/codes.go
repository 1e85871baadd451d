package cause

// A Code names a cause for programs; it never changes its meaning.
type Code string

// Codes in the order of the chain.
const (
	Reachable        Code = "reachable"
	ReachableOutside Code = "reachable-outside"

	ServiceNotRunning Code = "service-not-running"
	ServiceNotAllowed Code = "service-not-allowed"
	ServiceSilent     Code = "service-silent"
	ServiceUntrusted  Code = "service-untrusted"
	ServiceVersion    Code = "service-version"
	ServiceBroken     Code = "service-broken"

	NoNetwork Code = "no-network"

	SignedOut          Code = "signed-out"
	TokenRejected      Code = "token-rejected"
	PortalUnknown      Code = "portal-unknown"
	PortalName         Code = "portal-name-unresolvable"
	PortalCertificate  Code = "portal-certificate"
	PortalUnreachable  Code = "portal-unreachable"
	PortalRefused      Code = "portal-refused"
	TunnelFailed       Code = "tunnel-failed"
	SessionChanging    Code = "session-changing"
	InterfaceDown      Code = "interface-down"
	DNSQuestionsLost   Code = "dns-questions-lost"
	HostsFile          Code = "hosts-file"
	DNSControlOff      Code = "dns-control-off"
	DNSBypassed        Code = "dns-bypassed"
	DNSStale           Code = "dns-stale"
	DNSUpstream        Code = "dns-upstream"
	NameIncomplete     Code = "name-incomplete"
	NameUnknown        Code = "name-unknown"
	NameWithoutAddress Code = "name-without-address"

	FilterDeniesPort  Code = "filter-denies-port"
	TCPNotAllowed     Code = "tcp-not-allowed"
	InternetOff       Code = "internet-off"
	AddressNotCovered Code = "address-not-covered"
	AddressUnassigned Code = "address-unassigned"
	OutsideRefuses    Code = "outside-refuses"
	OutsideSilent     Code = "outside-silent"
	OutsideNoWay      Code = "outside-no-way"

	RouteMissing   Code = "route-missing"
	RouteElsewhere Code = "route-elsewhere"
	LocalFirewall  Code = "local-firewall"

	PortalAway        Code = "portal-away"
	AccessPending     Code = "access-pending"
	ConditionViolated Code = "condition-violated"
	AccessForbidden   Code = "access-forbidden"
	ResourceGone      Code = "resource-gone"
	SiteOffline       Code = "site-offline"
	GatewayVersion    Code = "gateway-version"
	AccessRefused     Code = "access-refused"
	NoRelay           Code = "no-relay"

	GatewayConnecting  Code = "gateway-connecting"
	GatewayUnreachable Code = "gateway-unreachable"
	GatewayLost        Code = "gateway-lost"

	GatewayCannotResolve Code = "gateway-cannot-resolve"
	GatewayDNSSilent     Code = "gateway-dns-silent"
	GatewayNoAddress     Code = "gateway-no-address"

	ServerRefuses     Code = "server-refuses"
	ServerResets      Code = "server-resets"
	ServerUnreachable Code = "server-unreachable"
	GatewayDenies     Code = "gateway-denies"
	ServerSilent      Code = "server-silent"

	Unclear Code = "unclear"
)

// A Meaning is what a Code says.
type Meaning struct {
	Code Code   `json:"code"`
	Link string `json:"link"` // of the chain, that breaks
	Text string `json:"text"`
}

// Meanings lists all codes, in the order of the chain.
var Meanings = []Meaning{
	{Reachable, AnswerLink, "It answers, through the tunnel."},
	{ReachableOutside, AnswerLink, "It answers. No resource that is known has it, so that it is reached past the tunnel."},

	{ServiceNotRunning, ServiceLink, "The tunnel service does not run."},
	{ServiceNotAllowed, ServiceLink, "This user may not speak to the tunnel service."},
	{ServiceSilent, ServiceLink, "The tunnel service takes connections and does not respond."},
	{ServiceUntrusted, ServiceLink, "A program of another user answers in the tunnel service's place."},
	{ServiceVersion, ServiceLink, "Program and tunnel service are of versions that do not fit."},
	{ServiceBroken, ServiceLink, "The tunnel service is stopping, is too busy or broke off."},

	{NoNetwork, NetworkLink, "This machine has no way out: it is in no network, or in one without a router."},

	{SignedOut, SessionLink, "Nobody is signed in."},
	{TokenRejected, SessionLink, "The portal ended the sign-in: it expired or was revoked."},
	{PortalUnknown, SessionLink, "The service was not told which portal is its."},
	{PortalName, SessionLink, "The portal's name cannot be resolved, so that there is no session."},
	{PortalCertificate, SessionLink, "The portal's certificate is not trusted, so that there is no session."},
	{PortalUnreachable, SessionLink, "The portal does not answer, so that there is no session."},
	{PortalRefused, SessionLink, "The portal answers and refuses this device."},
	{TunnelFailed, SessionLink, "The tunnel interface, its routes or DNS cannot be set up on this machine."},
	{SessionChanging, SessionLink, "The session is about to begin or to end: too early to say more."},
	{InterfaceDown, SessionLink, "The tunnel interface was switched off on this machine."},

	{DNSQuestionsLost, NameLink, "Questions to our resolver do not reach the tunnel: something on this machine drops them."},
	{HostsFile, NameLink, "The hosts file of this machine sends the name elsewhere."},
	{DNSControlOff, NameLink, "The service was told to leave DNS alone, and nothing else asks it."},
	{DNSBypassed, NameLink, "This machine asks other resolvers than ours: somebody changed its DNS."},
	{DNSStale, NameLink, "This machine asks us for names, yet programs are told an address from elsewhere, such as a cache."},
	{DNSUpstream, NameLink, "The name is not a private one, and the resolvers of this network do not answer."},
	{NameIncomplete, NameLink, "The name has no dot and is known to nobody."},
	{NameUnknown, NameLink, "No resource has the name, and public DNS does not know it."},
	{NameWithoutAddress, NameLink, "The name exists, is not private, and has no address."},

	{FilterDeniesPort, ResourceLink, "A resource has the host, and lets nothing pass to this port."},
	{TCPNotAllowed, ResourceLink, "The resource lets no TCP pass here: only UDP or ICMP, which cannot be tried like that."},
	{InternetOff, ResourceLink, "No resource but the Internet one has the host, and that is switched off."},
	{AddressNotCovered, ResourceLink, "No resource has the private address."},
	{AddressUnassigned, ResourceLink, "The address is one of those that stand for names, but it stands for none."},
	{OutsideRefuses, ResourceLink, "No resource has the host; reached past the tunnel, it refuses."},
	{OutsideSilent, ResourceLink, "No resource has the host; past the tunnel, nobody answers."},
	{OutsideNoWay, ResourceLink, "No resource has the host; past the tunnel, there is no way to it."},

	{RouteMissing, RouteLink, "The routes into the tunnel are gone from this machine."},
	{RouteElsewhere, RouteLink, "Another program's routes, such as another VPN's, lead past the tunnel."},
	{LocalFirewall, RouteLink, "Packets do not reach the tunnel: a firewall on this machine drops them."},

	{PortalAway, AccessLink, "Access must be asked for, and the portal is away."},
	{AccessPending, AccessLink, "The portal was asked for access and has not answered yet: too early to say more."},
	{ConditionViolated, AccessLink, "A condition of the policy is not met, such as the time of day or the place."},
	{AccessForbidden, AccessLink, "The portal refuses access: no policy permits it."},
	{ResourceGone, AccessLink, "The portal does not know the resource any more, or not for this user."},
	{SiteOffline, AccessLink, "No gateway of the resource's site is online."},
	{GatewayVersion, AccessLink, "The gateways of the site are of versions that do not work with this client."},
	{AccessRefused, AccessLink, "The portal refuses access for another reason."},
	{NoRelay, AccessLink, "Access was granted, but there is no relay to begin a connection by."},

	{GatewayConnecting, GatewayLink, "The connection to the gateway has just been begun: too early to say more."},
	{GatewayUnreachable, GatewayLink, "No path to the gateway is found: it, or a firewall that blocks UDP, does not let packets through."},
	{GatewayLost, GatewayLink, "The gateway was connected and is not heard any more."},

	{GatewayCannotResolve, ResolveLink, "The gateway cannot resolve the name."},
	{GatewayDNSSilent, ResolveLink, "The gateway still waits for the DNS server of its site."},
	{GatewayNoAddress, ResolveLink, "The gateway knows no address of the name, or none of this family."},

	{ServerRefuses, AnswerLink, "The host is reached, and nothing listens at the port."},
	{ServerResets, AnswerLink, "The host is reached, and cuts the connection off."},
	{ServerUnreachable, AnswerLink, "The gateway, or a router behind it, finds no way to the host; gateways that do not tell more say the same if the name has no address."},
	{GatewayDenies, AnswerLink, "The gateway, or a firewall on it or behind it, denies the connection."},
	{ServerSilent, AnswerLink, "The gateway works; the host behind it does not answer: it is down, or a firewall is before it."},

	{Unclear, AnswerLink, "It does not work, and what was found does not tell why."},
}

// MeaningOf is what a code says.
func MeaningOf(c Code) (m Meaning, known bool) {
	for _, m := range Meanings {
		if m.Code == c {
			return m, true
		}
	}
	return Meaning{}, false
}
