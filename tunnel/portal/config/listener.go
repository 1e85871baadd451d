package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

func (p *parser) listeners(n *node) {
	seen := map[string]int{}
	p.each(n, func(n *node) {
		l, ok := p.listener(n)
		if !ok {
			return
		}
		if line, taken := seen[l.Address]; taken {
			p.fail(n, "the address "+l.Address+" stands in line "+itoa(line)+" already", "remove one of the two")
			return
		}
		seen[l.Address] = n.Line
		p.config.Listeners = append(p.config.Listeners, l)
	})
	if len(n.Content) == 0 && n.Kind != yaml.AliasNode {
		p.fail(n, "there is no listener", "write where to accept connections")
	}
	if p.noSignIn() {
		p.warn(n, "nobody can sign in with a browser: every listener is insecure", "add one with tls, or plain on 127.0.0.1")
	}
}

// noSignIn reports whether sign-in pages run nowhere.
func (p *parser) noSignIn() bool {
	for _, l := range p.config.Listeners {
		if !l.Insecure {
			return false
		}
	}
	return len(p.config.Listeners) > 0
}

func (p *parser) listener(n *node) (l Listener, ok bool) {
	var plain bool
	var tls, proxies *node
	before := len(p.problems) + p.hidden
	p.fields(n,
		field{"address", func(n *node) { l.Address = p.listenAddress(n) }},
		field{"tls", func(n *node) { tls = n }},
		field{"plain", p.boolInto(&plain)},
		field{"behind_proxy", p.boolInto(&l.BehindProxy)},
		field{"trusted_proxies", func(n *node) { proxies = n; p.each(n, p.proxyInto(&l.TrustedProxies)) }},
		field{"insecure", p.boolInto(&l.Insecure)},
	)
	if n.Kind != yaml.MappingNode {
		return l, false
	}
	switch {
	case len(p.problems)+p.hidden > before:
	case l.Address == "":
		p.fail(n, "has no address", "write `address: \":443\"` or `address: 127.0.0.1:8080`")
	case tls != nil && plain:
		p.fail(n, "is both tls and plain", "keep one of them")
	case tls == nil && !plain:
		p.fail(n, "is neither tls nor plain", "add `tls: {certificate: /path.pem, key: /path.pem}`, or `plain: true` behind a proxy that does TLS")
	case tls != nil && (l.BehindProxy || l.Insecure || proxies != nil):
		p.fail(n, "behind_proxy, trusted_proxies and insecure are for plain listeners", "remove them")
	case tls != nil:
		p.certificate(tls, &l)
	default:
		p.plainListener(n, l, proxies)
	}
	return l, len(p.problems)+p.hidden == before
}

func (p *parser) certificate(n *node, l *Listener) {
	p.fields(n,
		field{"certificate", p.pathInto(&l.CertFile)},
		field{"key", p.pathInto(&l.KeyFile)},
	)
	if n.Kind == yaml.MappingNode && (l.CertFile == "" || l.KeyFile == "") {
		p.fail(n, "needs both certificate and key", "write the paths of two PEM files")
	}
}

// plainListener wants a reason for a listener without TLS: only this machine
// reaches it, or only a proxy, or the administrator says that it is meant.
func (p *parser) plainListener(n *node, l Listener, proxies *node) {
	local := isLoopback(hostOf(l.Address))
	switch {
	case l.BehindProxy && l.Insecure:
		p.fail(n, "is both behind_proxy and insecure", "keep behind_proxy if a proxy does TLS")
	case l.BehindProxy && len(l.TrustedProxies) == 0:
		p.fail(n, "behind_proxy does not say which proxy", "add trusted_proxies with its address")
	case !l.BehindProxy && proxies != nil:
		p.fail(proxies, "is for listeners behind a proxy", "add `behind_proxy: true`")
	case !local && !l.BehindProxy && !l.Insecure:
		p.fail(n, "a plain listener that others can reach shows tokens to everybody on the way", "use tls, or `behind_proxy: true` with trusted_proxies, or a loopback address, or `insecure: true` for experiments")
	case l.Insecure:
		p.warn(n, "the insecure listener on "+l.Address+" shows tokens to everybody on the way; sign-in pages do not run on it", "use it for experiments only")
	}
	if _, port, _ := cutPort(l.Address); port == 80 && !l.BehindProxy {
		p.warn(n, "clients and gateways cannot dial port 80", "use another port, such as 8080")
	}
}

// listenAddress reads HOST:PORT, the host may be missing.
func (p *parser) listenAddress(n *node) string {
	s, ok := p.text(n)
	if !ok {
		return ""
	}
	if _, _, valid := cutPort(s); !valid {
		p.fail(n, fmt.Sprintf("%.60q is not HOST:PORT", s), "write it like \":443\", \"192.0.2.1:443\" or \"[2001:db8::1]:443\"")
		return ""
	}
	return s
}

// cutPort splits HOST:PORT; an IPv6 host is in brackets.
func cutPort(s string) (host string, port uint16, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	host = s[:i]
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		host, bracketed = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(host)
		ok = bracketed && err == nil && a.Is6()
	} else {
		ok = !strings.ContainsAny(host, ":[]/ ")
	}
	return host, uint16(n), ok && err == nil && n > 0
}

func hostOf(address string) string {
	host, _, _ := cutPort(address)
	return host
}

// isLoopback reports whether only this machine reaches host.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// proxyInto reads the address or prefix of a proxy.
func (p *parser) proxyInto(dst *[]netip.Prefix) func(*node) {
	return func(n *node) {
		s, ok := p.text(n)
		if !ok {
			return
		}
		prefix, err := parsePrefix(s)
		switch {
		case err != nil:
			p.fail(n, fmt.Sprintf("%.60q is neither an address nor a prefix", s), "write it like 192.0.2.1 or 10.0.0.0/8")
		case prefix.Bits() == 0:
			p.fail(n, "trusts everybody", "name the proxy's address")
		default:
			*dst = append(*dst, prefix)
		}
	}
}

// parsePrefix reads a prefix or a single address, and drops host bits.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	return prefix.Masked(), err
}
