package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"stile/tunnel/wire"
)

// ParsePorts reads ports as an administrator writes them, such as
// "tcp/22, udp/161, tcp/8000-8010". The empty text is none. The error says which
// of them is wrong, and how it should be.
func ParsePorts(text string) (Filters, error) {
	var list Filters
	for item := range items(text) {
		f, err := parsePort(item)
		if err != nil {
			return nil, fmt.Errorf("%q: %w; write it like tcp/22 or udp/8000-8010", item, err)
		}
		list = append(list, f)
	}
	return list, nil
}

func parsePort(item string) (f wire.Filter, err error) {
	proto, ports, ok := strings.Cut(item, "/")
	if !ok {
		return f, errors.New("the protocol or the port is missing")
	}
	switch strings.ToLower(proto) {
	case "tcp":
		f.Protocol = wire.TCP
	case "udp":
		f.Protocol = wire.UDP
	default:
		return f, fmt.Errorf("%q is neither tcp nor udp", proto)
	}
	first, last, ok := strings.Cut(ports, "-")
	if !ok {
		last = first
	}
	if f.First, err = parseNumber(first); err != nil {
		return f, err
	}
	if f.Last, err = parseNumber(last); err != nil {
		return f, err
	}
	if f.Last < f.First {
		return f, errors.New("the range ends before it begins")
	}
	return f, nil
}

func parseNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port from 1 to 65535", s)
	}
	return uint16(n), nil
}

// ParseLinkLocal reads link-local addresses and prefixes, separated by commas,
// such as "169.254.10.0/24". The empty text is none.
func ParseLinkLocal(text string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for item := range items(text) {
		p, err := netip.ParsePrefix(item)
		if a, e := netip.ParseAddr(item); e == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a prefix like 169.254.10.0/24", item)
		}
		if !insideLinkLocal(p) {
			return nil, fmt.Errorf("%q is not link-local, which is 169.254.0.0/16 or fe80::/10", item)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

func insideLinkLocal(p netip.Prefix) bool {
	for _, l := range linkLocal {
		if l.Contains(p.Addr()) && p.Bits() >= l.Bits() {
			return true
		}
	}
	return false
}

// items yields what stands between commas, without blanks around it.
func items(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if strings.TrimSpace(text) == "" {
			return
		}
		for item := range strings.SplitSeq(text, ",") {
			if !yield(strings.TrimSpace(item)) {
				return
			}
		}
	}
}
