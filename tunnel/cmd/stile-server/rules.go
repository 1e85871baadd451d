package main

import (
	"fmt"
	"net/netip"
	"strings"

	"stile/tunnel/gateway"
	"stile/tunnel/policy"
)

// gatewayRules are the gateway's options about what clients may reach, and how.
type gatewayRules struct {
	Resolvers    string `name:"resolvers" env:"STILE_RESOLVERS" placeholder:"ADDRESSES" help:"Resolvers that know the names of resources, in this order, such as 10.0.0.53,[fd00::53]:5353 (default: those of the system). The portal's name is looked up as the system does."`
	HostPorts    string `name:"host-ports" env:"STILE_HOST_PORTS" placeholder:"PORTS" help:"Ports of this host that clients may use at its tunnel address, such as tcp/22,udp/161,tcp/8000-8010 (default: none but the gateway's own DNS). Whoever may use any resource of the site may use them."`
	LinkLocal    string `name:"allow-link-local" env:"STILE_ALLOW_LINK_LOCAL" placeholder:"ADDRESSES" help:"Link-local addresses or prefixes that names may point at, such as 169.254.10.0/24 (default: none, because clouds hand out credentials there)."`
	Spread       bool   `name:"spread" env:"STILE_SPREAD" help:"Let clients begin at different addresses of a name that has several, each always at the same. Without this all begin at the lowest."`
	TellFamilies bool   `name:"tell-families" env:"STILE_TELL_FAMILIES" help:"Tell clients whether a name has IPv4 and IPv6 addresses, so that they do not try what cannot work. Only clients of this program listen."`
}

// apply puts the options into c, or tells what is wrong with them.
func (r gatewayRules) apply(c *gateway.Config) (err error) {
	if c.HostPorts, err = policy.ParsePorts(r.HostPorts); err != nil {
		return fmt.Errorf("--host-ports: %w", err)
	}
	if c.LinkLocal, err = policy.ParseLinkLocal(r.LinkLocal); err != nil {
		return fmt.Errorf("--allow-link-local: %w", err)
	}
	c.Spread, c.TellFamilies = r.Spread, r.TellFamilies
	_, err = r.resolvers(nil)
	return err
}

const maxResolvers = 8

// resolvers returns what tells whom to ask for the names of resources: those of
// the option, or those of the system.
func (r gatewayRules) resolvers(system func() ([]netip.AddrPort, error)) (func() ([]netip.AddrPort, error), error) {
	if r.Resolvers == "" {
		return system, nil
	}
	var list []netip.AddrPort
	for item := range strings.SplitSeq(r.Resolvers, ",") {
		item = strings.TrimSpace(item)
		a, err := netip.ParseAddrPort(item)
		if bare, e := netip.ParseAddr(item); e == nil {
			a, err = netip.AddrPortFrom(bare, 53), nil
		}
		if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			return nil, fmt.Errorf("--resolvers: %q is no address; write it like 10.0.0.53 or [fd00::53]:5353", item)
		}
		list = append(list, a)
	}
	if len(list) > maxResolvers {
		return nil, fmt.Errorf("--resolvers: at most %d", maxResolvers)
	}
	return func() ([]netip.AddrPort, error) { return list, nil }, nil
}
