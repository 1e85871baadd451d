package wire

import (
	"errors"
	"net/netip"
	"strings"
)

// The types below read and write addresses as the channel spells them. What
// package netip tolerates beyond that is refused: the empty text, IPv6 zones.
type (
	anyAddr netip.Addr
	v4      netip.Addr
	v6      netip.Addr
	socket  netip.AddrPort
	host4   netip.Addr // with its full mask: "100.64.0.5/32"
	host6   netip.Addr
)

var errAddr = errors.New("not a usable address")

func parseAddr(text []byte) (netip.Addr, error) {
	a, err := netip.ParseAddr(string(text))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errAddr
	}
	return a, nil
}

func (a *anyAddr) UnmarshalText(text []byte) error {
	parsed, err := parseAddr(text)
	*a = anyAddr(parsed)
	return err
}

func (a *v4) UnmarshalText(text []byte) error {
	parsed, err := parseAddr(text)
	if err == nil && !parsed.Is4() {
		return errors.New("not an IPv4 address")
	}
	*a = v4(parsed)
	return err
}

func (a *v6) UnmarshalText(text []byte) error {
	parsed, err := parseAddr(text)
	if err == nil && !parsed.Is6() {
		return errors.New("not an IPv6 address")
	}
	*a = v6(parsed)
	return err
}

func (a *host4) UnmarshalText(text []byte) error {
	bare, full := strings.CutSuffix(string(text), "/32")
	if !full {
		return errors.New("not an IPv4 address with /32")
	}
	return (*v4)(a).UnmarshalText([]byte(bare))
}

func (a *host6) UnmarshalText(text []byte) error {
	bare, full := strings.CutSuffix(string(text), "/128")
	if !full {
		return errors.New("not an IPv6 address with /128")
	}
	return (*v6)(a).UnmarshalText([]byte(bare))
}

func (s *socket) UnmarshalText(text []byte) error {
	parsed, err := netip.ParseAddrPort(string(text))
	if err != nil || parsed.Addr().Zone() != "" {
		return errors.New("not an address with a port")
	}
	*s = socket(parsed)
	return nil
}

// addr appends an address that must be there: encoding a message without it
// is a mistake of the sender.
func (w *writer) addr(name string, a netip.Addr) {
	if !a.IsValid() && w.err == nil {
		w.err = errors.New(name + " has no address")
	}
	w.field(name, a)
}

// checkPrefix accepts what a "cidr" address may be: a mask and no host bits.
func checkPrefix(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() {
		return errors.New("not a prefix without host bits")
	}
	return nil
}

// checkDoH accepts an https URL with a host and without a query.
func checkDoH(url string) error {
	rest, https := strings.CutPrefix(url, "https://")
	host, _, _ := strings.Cut(rest, "/")
	if !https || host == "" || len(url) > 2048 || strings.ContainsAny(url, "?# ") {
		return errors.New("not an https URL without a query")
	}
	return nil
}

// checkDomain accepts a domain name in presentation form: labels of 1 to 63
// bytes, 253 in all, a final dot allowed.
func checkDomain(name string) error {
	trimmed := strings.TrimSuffix(name, ".")
	if len(trimmed) > 253 {
		return errors.New("a domain name has at most 253 characters")
	}
	for label := range strings.SplitSeq(trimmed, ".") {
		if label == "" || len(label) > 63 {
			return errors.New("not a domain name")
		}
	}
	return nil
}

// checkSearchDomain is checkDomain for what is written into a file of settings,
// where a space or a line break would make more of it.
func checkSearchDomain(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ';' || r == '#' }) {
		return errors.New("not a domain name")
	}
	return checkDomain(name)
}
