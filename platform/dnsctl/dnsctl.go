// Package dnsctl points the operating system's resolver at our sentinels, and
// tells which resolvers the system had before.
//
// Everything is a wish: calling Set twice is calling it once, and Restore
// undoes whatever a run, crashed ones included, has left behind.
package dnsctl

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
)

// A Mode is a way to take the system's DNS over.
type Mode string

const (
	Auto       Mode = "auto"            // what fits this system
	ResolvConf Mode = "etc-resolv-conf" // take /etc/resolv.conf over
	Disabled   Mode = "disabled"        // leave DNS alone
)

// ParseMode reads a mode as a user writes it.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(strings.ToLower(s)); m {
	case Auto, ResolvConf, Disabled:
		return m, nil
	case "":
		return Auto, nil
	}
	return "", fmt.Errorf("unknown DNS control %q: use %s, %s or %s", s, Auto, ResolvConf, Disabled)
}

// A Control is one way of taking DNS over. Its methods are not safe for
// concurrent use.
type Control interface {
	// Set makes the system ask servers, in this order, and complete short
	// names with search ("" for none). Without servers nothing is changed.
	Set(servers []netip.Addr, search string) error
	// Restore undoes Set. It is harmless without one.
	Restore() error
	// Servers returns the resolvers the system has when we are not there, best
	// first, zones kept. Our own sentinels may be among them if another
	// instance runs; the caller filters.
	Servers() ([]netip.AddrPort, error)
	// Flush empties the system's DNS cache, if it has one.
	Flush() error
}

// New returns the control for a mode. It changes nothing yet, but an error
// says what to do when this system cannot be controlled that way.
func New(mode Mode, log *slog.Logger) (Control, error) { return newControl(mode, log) }

// off leaves DNS alone but knows the system's resolvers.
type off struct{ Control }

func (off) Set([]netip.Addr, string) error { return nil }
func (off) Flush() error                   { return nil }

// Files lists the files that decide how this system resolves names, those that
// keep what was before us among them; they need not exist.
func Files() []string { return files }
