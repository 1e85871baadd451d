//go:build linux

// Package link joins hosts of the lab: veth pairs and bridges where nothing
// stands between two hosts, and a [Line] where delay, loss or reordering does.
// Neighbours are known from the start, so that no first packet waits for ARP or
// neighbour discovery.
package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"stile/build/lab/host"
)

// An End is one end of a link: a network device of a host.
type End struct {
	Host  *host.Host
	Name  string
	MAC   net.HardwareAddr
	Addrs []netip.Prefix // addresses with the length of their network

	device netlink.Link
}

var lastMAC atomic.Uint32

// newMAC returns a locally administered address that no other device of the lab has.
func newMAC() net.HardwareAddr {
	n := lastMAC.Add(1)
	return net.HardwareAddr{0x02, 0x57, 0x11, byte(n >> 16), byte(n >> 8), byte(n)}
}

// Veth joins two hosts by a link without delay. Both ends are up.
func Veth(a *host.Host, aName string, b *host.Host, bName string) (*End, *End, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = aName, newMAC()
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerNamespace = bName, newMAC(), netlink.NsFd(b.Network())
	if err := a.Links.LinkAdd(pair); err != nil {
		return nil, nil, fmt.Errorf("veth %s/%s to %s/%s: %w", a.Name, aName, b.Name, bName, err)
	}
	left, err := Adopt(a, aName)
	if err != nil {
		return nil, nil, err
	}
	right, err := Adopt(b, bName)
	return left, right, err
}

// Bridge joins ends that belong to one host into one local network and returns
// the host's own end of it.
func Bridge(h *host.Host, name string, ports ...*End) (*End, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, newMAC()
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := h.Links.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("bridge %s/%s: %w", h.Name, name, err)
	}
	end, err := Adopt(h, name)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		if err := h.Links.LinkSetMaster(p.device, end.device); err != nil {
			return nil, fmt.Errorf("put %s/%s into bridge %s: %w", h.Name, p.Name, name, err)
		}
	}
	return end, nil
}

// Adopt brings up a device that exists already, made by a program of the host
// for example, and returns its end.
func Adopt(h *host.Host, name string) (*End, error) {
	device, err := h.Links.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find %s/%s: %w", h.Name, name, err)
	}
	if err := h.Links.LinkSetUp(device); err != nil {
		return nil, fmt.Errorf("bring up %s/%s: %w", h.Name, name, err)
	}
	return &End{Host: h, Name: name, MAC: device.Attrs().HardwareAddr, device: device}, nil
}

// Add gives the end addresses, each with the length of its network.
func (e *End) Add(addrs ...netip.Prefix) error {
	for _, p := range addrs {
		a := &netlink.Addr{IPNet: ipnet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := e.Host.Links.AddrAdd(e.device, a); err != nil {
			return fmt.Errorf("add %v to %s/%s: %w", p, e.Host.Name, e.Name, err)
		}
		e.Addrs = append(e.Addrs, p)
	}
	return nil
}

// Remove takes an address away, and the routes that need it with it.
func (e *End) Remove(a netip.Addr) error {
	for i, p := range e.Addrs {
		if p.Addr() == a {
			if err := e.Host.Links.AddrDel(e.device, &netlink.Addr{IPNet: ipnet(p)}); err != nil {
				return fmt.Errorf("take %v from %s/%s: %w", p, e.Host.Name, e.Name, err)
			}
			e.Addrs = slices.Delete(e.Addrs, i, i+1)
			return nil
		}
	}
	return fmt.Errorf("%s/%s has no address %v", e.Host.Name, e.Name, a)
}

// Addr returns the end's first address of the family of like.
func (e *End) Addr(like netip.Addr) netip.Addr {
	for _, p := range e.Addrs {
		if p.Addr().Is4() == like.Is4() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// Route sends what is for a network out of this end, to a neighbour unless via is
// the zero address. source, if it is valid, is the address that the host's own
// packets leave with.
func (e *End) Route(to netip.Prefix, via, source netip.Addr) error {
	r := &netlink.Route{LinkIndex: e.device.Attrs().Index, Dst: ipnet(to)}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	if source.IsValid() {
		r.Src = source.AsSlice()
	}
	if err := e.Host.Links.RouteAdd(r); err != nil {
		return fmt.Errorf("route of %s to %v via %v: %w", e.Host.Name, to, via, err)
	}
	return nil
}

// Narrow makes the network before this end take packets of at most mtu bytes,
// though the device could carry more: whoever forwards a larger one there tells
// its sender.
func (e *End) Narrow(network netip.Prefix, mtu int) error {
	r := &netlink.Route{LinkIndex: e.device.Attrs().Index, Dst: ipnet(network), Scope: netlink.SCOPE_LINK, MTU: mtu, MTULock: true}
	if err := e.Host.Links.RouteReplace(r); err != nil {
		return fmt.Errorf("narrow %s/%s: %w", e.Host.Name, e.Name, err)
	}
	return nil
}

// Acquaint tells the ends of one local network each other's addresses, for good.
func Acquaint(ends ...*End) error {
	for _, e := range ends {
		for _, other := range ends {
			if e == other {
				continue
			}
			for _, p := range other.Addrs {
				n := &netlink.Neigh{LinkIndex: e.device.Attrs().Index, State: netlink.NUD_PERMANENT, IP: p.Addr().AsSlice(), HardwareAddr: other.MAC}
				if err := e.Host.Links.NeighSet(n); err != nil {
					return fmt.Errorf("neighbour %v of %s: %w", p.Addr(), e.Host.Name, err)
				}
			}
		}
	}
	return nil
}

// Forward makes a host pass on packets that are not its own.
func Forward(h *host.Host) error {
	return errors.Join(h.Sysctl("net.ipv4.ip_forward", "1"), h.Sysctl("net.ipv6.conf.all.forwarding", "1"))
}

// advice tells what to do about a refused /dev/net/tun.
func advice(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENODEV):
		return " (the kernel's tun module is missing: modprobe tun, as root)"
	case errors.Is(err, os.ErrPermission) && !host.Privileged():
		return " (systems with udev let every user open it; do chmod 666 /dev/net/tun as root, or run the lab as root)"
	}
	return ""
}

// tap makes a TAP device that keeps large segments whole (IFF_VNET_HDR), so
// that a line moves them in one piece as a veth pair would.
func tap(h *host.Host, name string) (end *End, fd int, err error) {
	err = h.InNetwork(func() error {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return fmt.Errorf("open /dev/net/tun: %w%s", err, advice(err))
		}
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return fmt.Errorf("make the device: %w", err)
		}
		const tcp, udp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
		if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|udp) == nil {
			return nil
		}
		return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp) // Linux before 6.2 does not split UDP
	})
	if err != nil {
		return nil, 0, fmt.Errorf("TAP device %s/%s: %w", h.Name, name, err)
	}
	device, err := h.Links.LinkByName(name)
	if err != nil {
		return nil, 0, err
	}
	if err := h.Links.LinkSetHardwareAddr(device, newMAC()); err != nil {
		return nil, 0, err
	}
	end, err = Adopt(h, name)
	return end, fd, err
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Received returns how many bytes came in by this end so far.
func (e *End) Received() (uint64, error) {
	device, err := e.Host.Links.LinkByName(e.Name)
	if err != nil {
		return 0, fmt.Errorf("find %s/%s: %w", e.Host.Name, e.Name, err)
	}
	return device.Attrs().Statistics.RxBytes, nil
}
