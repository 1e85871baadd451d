//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"stile/build/lab/host"
	"stile/build/lab/link"
	"stile/build/lab/nat"
)

// The vault stands behind the wiki, which is its router, and behind a link
// that takes IPv4 packets of narrowMTU bytes only.
const (
	vaultName = "vault.corp.example"
	narrowMTU = 1100
)

var (
	vaultPlace  = at("10.77.0.10/24", "fd00:10:77::10/64")
	vaultRouter = at("10.77.0.1/24", "fd00:10:77::1/64")
	vaultByName = resource{Name: "Vault", Address: vaultName}
	vaultByCIDR = resource{Name: "Vaults", Address: "10.77.0.0/16"}
)

// tools are the programs that users see errors with, and who has them.
var tools = []struct{ name, pack string }{
	{"ping", "iputils-ping"}, {"tracepath", "iputils-tracepath"}, {"traceroute", "traceroute"}, {"nc", "netcat-openbsd"},
}

// runICMP: errors find their way back through two translators, and speak of
// the addresses that the user's programs know.
func runICMP(s *stage) error {
	if err := s.order.ourGateway("to translate every ICMP error (N35 to N37)"); err != nil {
		return err
	}
	if err := s.step("traceroute, tracepath, ping and nc are installed", haveTools); err != nil {
		return err
	}
	v := &visit{stage: s}
	if err := v.begin(nat.PortRestricted, vaultByName, site4, vaultByCIDR); err != nil {
		return err
	}
	var four, six netip.Addr
	steps := []step{
		{"the vault stands behind the wiki, on a narrow link", func() error {
			if err := v.buildVault(); err != nil {
				return err
			}
			for kind, to := range map[string]*netip.Addr{"A": &four, "AAAA": &six} {
				addrs, err := v.proxies(vaultName, kind)
				if err != nil {
					return err
				}
				*to = addrs[0]
			}
			return nil
		}},
	}
	for _, f := range []struct {
		flag string
		addr *netip.Addr
	}{{"-4", &four}, {"-6", &six}} {
		steps = append(steps,
			step{"ping " + f.flag + " is answered", func() error {
				_, err := v.tool(true, `1 received`, "ping", f.flag, "-n", "-c", "1", "-W", "5", f.addr.String())
				return err
			}},
			step{"traceroute " + f.flag + " sees the gateway, the router and the vault, all as the address that stands for it", func() error {
				return v.route(*f.addr, f.flag)
			}},
			step{"nc " + f.flag + " to a closed UDP port ends at once", func() error { return v.closedPort(*f.addr) }},
		)
	}
	steps = append(steps,
		step{fmt.Sprintf("tracepath -4 finds the narrow link: %d bytes", narrowMTU), func() error {
			out, err := v.tool(true, fmt.Sprintf(`pmtu %d\b`, narrowMTU), "tracepath", "-4", "-n", "-m", "6", four.String())
			if err != nil {
				return err
			}
			return wants(out, `(?m)^\s*3:\s+`+regexp.QuoteMeta(four.String())+`.*reached`)
		}},
		step{"tracepath -6 reaches the vault with the tunnel's 1280 bytes", func() error {
			out, err := v.tool(true, `pmtu 1280\b`, "tracepath", "-6", "-n", "-m", "6", six.String())
			if err != nil {
				return err
			}
			return wants(out, `(?m)^\s*3:\s+`+regexp.QuoteMeta(six.String())+`.*reached`)
		}},
		step{"ping -s with packets that are too large is told how large they may be", func() error {
			if err := v.forgetMTU(); err != nil {
				return err
			}
			_, err := v.tool(false, `From `+regexp.QuoteMeta(four.String())+` .*(mtu = `+fmt.Sprint(narrowMTU)+`)`,
				"ping", "-4", "-n", "-M", "do", "-c", "1", "-W", "3", "-s", fmt.Sprint(narrowMTU-28+1), four.String())
			if err != nil {
				return err
			}
			_, err = v.tool(true, `1 received`, "ping", "-4", "-n", "-M", "do", "-c", "1", "-W", "3", "-s", fmt.Sprint(narrowMTU-28), four.String())
			return err
		}},
		step{"a large page passes the narrow link", func() error {
			for _, a := range []netip.Addr{four, six} {
				if _, err := get(s.ctx, v.net.laptop, fmt.Sprintf("http://%s/bytes/%d", netip.AddrPortFrom(a, 80), megabyte), "", "--timeout", "10s"); err != nil {
					return err
				}
			}
			return nil
		}},
		step{"an address of the site where nobody is: ping is told by the gateway", func() error {
			nobody := "10.9.0.200"
			_, err := v.tool(false, `From \S+ .*Destination Host Unreachable`, "ping", "-4", "-n", "-c", "1", "-W", "8", nobody)
			return err
		}},
		step{"errors quote what the program sent, to its socket", func() error { return v.quotes(four, six) }},
		step{"all programs end when they are told to", v.end},
	)
	return s.all(steps...)
}

// haveTools fails loudly: nothing is proven without them.
func haveTools() error {
	var missing []string
	for _, t := range tools {
		if _, err := findProgram(t.name); err != nil {
			missing = append(missing, t.pack)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: apt-get install %s", strings.Join(missing, " "))
	}
	return nil
}

// buildVault adds the host behind the wiki.
func (v *visit) buildVault() error {
	resolver := []string{siteDNSPlace.v4.Addr().String()}
	hosts, err := v.furnish(v.net.authority, resolver, "vault")
	if err != nil {
		return err
	}
	vault := hosts[0]
	if err := link.Forward(v.net.wiki); err != nil {
		return err
	}
	end, router, err := link.Veth(vault, "eth0", v.net.wiki, "vault")
	if err != nil {
		return err
	}
	if err := local(router, vaultRouter, member{end, vaultPlace}); err != nil {
		return err
	}
	if err := router.Narrow(vaultPlace.v4.Masked(), narrowMTU); err != nil {
		return err
	}
	if err := reach(v.net.gatewayEnd, wikiPlace, vaultPlace); err != nil {
		return err
	}
	v.net.private.Set(vaultName, fixed(vaultPlace))
	if err := v.serveHTTP(vault, ":80"); err != nil {
		return err
	}
	return v.serveEcho(vault, ":7")
}

// tool runs a program on the laptop and wants a pattern in what it prints.
func (v *visit) tool(succeeds bool, pattern, name string, args ...string) (string, error) {
	out, err := run(v.ctx, v.net.laptop, name, "", args...)
	if err != nil && succeeds {
		return out, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return out, wants(out, pattern)
}

func wants(out, pattern string) error {
	if !regexp.MustCompile(pattern).MatchString(out) {
		return fmt.Errorf("no line like %q in\n%s", pattern, out)
	}
	return nil
}

// run runs a program of the machine on a host, with text to read, and returns
// what it prints.
func run(ctx context.Context, h *host.Host, name, text string, args ...string) (string, error) {
	path, err := findProgram(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c := h.Command(ctx, path, args...)
	var complaint bytes.Buffer
	c.Stderr = &complaint
	c.Stdin = strings.NewReader(text)
	out, err := h.Output(c)
	return string(out) + complaint.String(), err
}

// route wants three hops, each called by the address that was asked for.
func (v *visit) route(to netip.Addr, flag string) error {
	for _, method := range [][]string{{"-U", "UDP"}, {"-I", "ICMP"}, {"-T", "TCP"}} {
		began := time.Now()
		out, err := v.tool(true, ``, "traceroute", flag, "-n", "-q", "1", "-w", "3", "-m", "5", method[0], to.String())
		if err != nil {
			return err
		}
		v.metric("traceroute"+flag+"_"+method[1]+"_ms", ms(time.Since(began)))
		hops := regexp.MustCompile(`(?m)^\s*(\d+)\s+(\S+)`).FindAllStringSubmatch(out, -1)
		bad := len(hops) != 3
		for _, h := range hops {
			bad = bad || h[2] != to.String()
		}
		if bad {
			return fmt.Errorf("want three hops, each at %v; traceroute by %s prints\n%s", to, method[1], out)
		}
	}
	return nil
}

// closedPort wants nc to learn that nobody listens, long before it gives up.
func (v *visit) closedPort(to netip.Addr) error {
	began := time.Now()
	out, err := run(v.ctx, v.net.laptop, "nc", "knock\n", "-u", "-v", "-w", "9", to.String(), "9")
	took := time.Since(began)
	v.metric(fmt.Sprintf("nc%d_ms", map[bool]int{true: 4, false: 6}[to.Is4()]), ms(took))
	if _, ended := err.(*exec.ExitError); !ended || took > 5*time.Second {
		return fmt.Errorf("nc ends after %s with %v; want it refused at once: %s", milliseconds(took), err, out)
	}
	return nil
}

// forgetMTU has the laptop find out anew how large packets may be.
func (v *visit) forgetMTU() error {
	return v.net.laptop.Sysctl("net.ipv4.route.flush", "1")
}

// quotes sends datagrams that fail, and looks at what the kernel hands to the
// program that sent them: which error, from whom, and about what.
func (v *visit) quotes(four, six netip.Addr) error {
	if err := v.refuseLarge(); err != nil {
		return err
	}
	text := []byte("a datagram that is long enough to tell where it was cut off in the quote")
	for _, p := range []struct {
		what       string
		to         netip.AddrPort
		hops       int
		size       int
		kind, code byte
		mtu        uint32
	}{
		{"time exceeded at the gateway", netip.AddrPortFrom(four, 7), 1, len(text), 11, 0, 0},
		{"time exceeded at the router", netip.AddrPortFrom(four, 7), 2, len(text), 11, 0, 0},
		{"port unreachable", netip.AddrPortFrom(four, 9), 64, len(text), 3, 3, 0},
		{"packet too big", netip.AddrPortFrom(four, 7), 64, 1200, 3, 4, narrowMTU},
		{"time exceeded at the gateway", netip.AddrPortFrom(six, 7), 1, len(text), 3, 0, 0},
		{"time exceeded at the router", netip.AddrPortFrom(six, 7), 2, len(text), 3, 0, 0},
		{"port unreachable", netip.AddrPortFrom(six, 9), 64, len(text), 1, 4, 0},
		{"packet too big", netip.AddrPortFrom(six, fussyPort), 64, 1200, 2, 0, 1280},
	} {
		payload := append(bytes.Clone(text), make([]byte, p.size-len(text))...)
		e, err := provoke(v.net.laptop, p.to, payload, p.hops)
		switch {
		case err != nil:
		case e.kind != p.kind || e.code != p.code || e.info != p.mtu:
			err = fmt.Errorf("got type %d, code %d, MTU %d; want %d, %d, %d", e.kind, e.code, e.info, p.kind, p.code, p.mtu)
		case e.from != p.to.Addr():
			err = fmt.Errorf("it comes from %v; want the address that was asked, %v", e.from, p.to.Addr())
		case e.about != p.to:
			err = fmt.Errorf("it is about a datagram to %v; want %v", e.about, p.to)
		case len(e.quote) < len(text) || !bytes.HasPrefix(payload, e.quote):
			err = fmt.Errorf("it quotes %q", e.quote)
		}
		if err != nil {
			return fmt.Errorf("%s, datagram to %v: %w", p.what, p.to, err)
		}
	}
	return nil
}
