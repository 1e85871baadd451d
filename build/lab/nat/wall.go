//go:build linux

package nat

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// Mute makes a host drop what its own programs send to some addresses, as a
// firewall does that nobody remembers. No address: it sends everything again.
func Mute(h *host.Host, to ...netip.Addr) error {
	return walled(h, "lab-mute", table(h, "lab-mute", len(to) > 0, func(b builder) {
		chain := b.chain("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
		for _, a := range to {
			b.rule(chain, destination(a), verdict(expr.VerdictDrop))
		}
	}))
}

// Deny makes a host refuse to pass on packets to some addresses, and say so:
// "administratively prohibited". No address: it passes on everything again.
func Deny(h *host.Host, to ...netip.Addr) error {
	return walled(h, "lab-deny", table(h, "lab-deny", len(to) > 0, func(b builder) {
		chain := b.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
		for _, a := range to {
			b.rule(chain, destination(a), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}})
		}
	}))
}

// BlockUDP makes a router drop all UDP but DNS, as strict networks do, or lets
// it pass again.
func BlockUDP(router *host.Host, block bool) error {
	const dns = 53
	return walled(router, "lab-no-udp", table(router, "lab-no-udp", block, func(b builder) {
		chain := b.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
		port := func(offset uint32) []expr.Any {
			return []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, dns}},
			}
		}
		b.rule(chain, is(expr.MetaKeyL4PROTO, unix.IPPROTO_UDP), port(0), port(2), verdict(expr.VerdictDrop))
	}))
}

func walled(h *host.Host, name string, err error) error {
	if err != nil {
		return fmt.Errorf("make a firewall %s on %s with nftables: %w", name, h.Name, err)
	}
	return nil
}
