package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// CheckPattern says why a portal should refuse s as the address of a DNS
// resource, in words for whoever wrote it; nil if it should not (spec
// client-dns.md 12.2).
func CheckPattern(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return fmt.Errorf("%q is an IP address, not a domain name", s)
	}
	p, err := ParsePattern(s)
	if err != nil {
		return err
	}
	labels := strings.Split(p.text, ".")
	tld := labels[len(labels)-1]
	switch {
	case strings.Trim(p.text, "*?.") == "":
		return fmt.Errorf("%q has nothing but wildcards", s)
	case strings.ContainsAny(tld, "*?"):
		return fmt.Errorf("%q has a wildcard in its last label", s)
	case tld == "localhost":
		return errors.New("localhost is not a private resource")
	case strings.Contains(p.text, "_"):
		return fmt.Errorf("%q has a character other than letters, digits, hyphen, * and ?", s)
	case commonTLDs[tld] && len(labels) > 1 && allWildcards(labels[:len(labels)-1]):
		return fmt.Errorf("%q covers all names under .%s", s, tld)
	}
	return nil
}

func allWildcards(labels []string) bool {
	for _, l := range labels {
		if strings.Trim(l, "*?") != "" {
			return false
		}
	}
	return true
}

// commonTLDs are public top-level domains under which nobody owns every name.
// Private ones (corp, internal, lan …) are not here on purpose.
var commonTLDs = map[string]bool{
	"com": true, "net": true, "org": true, "edu": true, "gov": true, "mil": true, "int": true, "biz": true, "info": true,
	"io": true, "co": true, "app": true, "dev": true, "cloud": true, "ai": true, "me": true, "xyz": true, "online": true,
	"uk": true, "de": true, "fr": true, "nl": true, "eu": true, "us": true, "ca": true, "au": true, "ch": true, "at": true,
	"es": true, "it": true, "se": true, "no": true, "fi": true, "dk": true, "pl": true, "be": true, "in": true, "jp": true,
	"cn": true, "br": true, "mx": true, "ru": true, "nz": true, "ie": true, "tech": true, "site": true, "store": true,
}
