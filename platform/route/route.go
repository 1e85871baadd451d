// Package route gives the tunnel interface its addresses and leads prefixes
// into it.
//
// On Linux nothing in the main table changes: three tables of our own are
// asked, by rules that every packet without our socket mark meets, in this
// order: resources and tunnel ranges (100), copies of the on-link routes (200),
// so that the local network stays reachable under the Internet resource, and
// the default routes (300). Spec client-dns.md 23.3.
package route

import (
	"net/netip"
)

// Mark is the socket mark of packets that bypass the tunnel.
const Mark = 0xfd002021

// MTU is the size of the largest packet in the tunnel, for both families
// (spec connectivity.md 2.4).
const MTU = 1280

// A Config is how the interface and its routes shall be.
type Config struct {
	Addrs   []netip.Addr   // the interface's own addresses, /32 and /128
	Routes  []netip.Prefix // led into the interface, without the default routes
	Default bool           // lead everything else into it too, but for the local network
}

// Set makes it so: link up, addresses, routes and rules are exactly these
// afterwards. A family that the system does not have is left out; an error
// means that neither works, or that we lack the right to do it.
func Set(iface string, c Config) error { return set(iface, c) }

// Refresh copies the local network's routes again, after it has changed.
func Refresh() error { return refresh() }

// Restore removes all rules and routes of ours, whoever left them.
func Restore() error { return restore() }

// To returns the name of the interface that an application's packet to a would
// leave by. Anybody may ask.
func To(a netip.Addr) (iface string, err error) { return to(a) }

// Show lists interfaces with their addresses, rules and routes, one a line, for
// people. Anybody may ask.
func Show() (string, error) { return show() }
