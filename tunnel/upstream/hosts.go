package upstream

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strings"
)

// hosts returns what the hosts file says about name. A file that cannot be
// read says nothing. Comments, unparsable lines and zones are skipped.
func (r *Resolver) hosts(name string) []netip.Addr {
	if r.Hosts == "" {
		return nil
	}
	f, err := os.Open(r.Hosts)
	if err != nil {
		return nil
	}
	defer f.Close()
	return addrsOf(f, name)
}

func addrsOf(hosts io.Reader, name string) (addrs []netip.Addr) {
	for lines := bufio.NewScanner(hosts); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil || a.Zone() != "" {
			continue
		}
		for _, alias := range fields[1:] {
			if strings.EqualFold(strings.TrimSuffix(alias, "."), name) {
				addrs = append(addrs, a)
				break
			}
		}
	}
	return addrs
}
