package cause

import (
	"net/netip"
	"slices"
	"strings"
)

// HostsOf returns what the text of a hosts file says about a name, which is in
// lower case. Lines that cannot be read say nothing.
func HostsOf(text, name string) (addrs []netip.Addr) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		if slices.ContainsFunc(fields[1:], func(alias string) bool { return strings.EqualFold(strings.TrimSuffix(alias, "."), name) }) {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}
