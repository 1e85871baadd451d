package why

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"time"

	"stile/app/why/cause"
	"stile/platform/dirs"
	"stile/platform/dnsctl"
)

// askSystem resolves the target's name as programs do.
func (p *probe) askSystem(ctx context.Context) (l cause.Lookup) {
	ctx, cancel := context.WithDeadline(ctx, p.began.Add(contactTime))
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.Target.Host)
	for _, a := range addrs {
		l.Addrs = append(l.Addrs, a.Unmap().WithZone(""))
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case err == nil && len(addrs) > 0:
		l.Outcome = cause.Found
	case ctx.Err() != nil, isDNS && dns.IsTimeout:
		l.Outcome = cause.NoAnswer
	case err == nil, isDNS && dns.IsNotFound:
		l.Outcome = cause.NoName
	default:
		l.Outcome = cause.Failed
	}
	return l
}

// askPrograms resolves the name as the C library does, which most programs use:
// it may know more sources than DNS, and caches. Where that cannot be found
// out, the Outcome is NotAsked.
func (p *probe) askPrograms(ctx context.Context) (l cause.Lookup) {
	getent, err := exec.LookPath("getent")
	if err != nil {
		return l
	}
	ctx, cancel := context.WithDeadline(ctx, p.began.Add(contactTime))
	defer cancel()
	c := exec.CommandContext(ctx, getent, "ahosts", p.Target.Host)
	c.WaitDelay = 100 * time.Millisecond
	text, err := c.Output()
	if err != nil { // it does not tell why
		return l
	}
	return cause.ParseAhosts(string(text))
}

// askOurs asks the service's resolver itself, at the first of its addresses
// that answers, for addresses of the families that are wanted.
func (p *probe) askOurs(ctx context.Context, sentinels []netip.Addr, name string, v4, v6 bool) (l cause.Lookup) {
	ctx, cancel := context.WithTimeout(ctx, oursTime)
	defer cancel()
	var mu sync.Mutex // guards l
	var g sync.WaitGroup
	for _, family := range []struct{ wanted, six bool }{{v4, false}, {v6, true}} {
		if !family.wanted {
			continue
		}
		g.Go(func() {
			one := p.exchange(ctx, sentinels, name, family.six)
			mu.Lock()
			defer mu.Unlock()
			l = cause.Join(l, one)
		})
	}
	g.Wait()
	return l
}

// exchange sends one question to all sentinels at once, again if it may have
// been lost, and takes the first reply.
func (p *probe) exchange(ctx context.Context, sentinels []netip.Addr, name string, v6 bool) cause.Lookup {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replies := make(chan cause.Lookup, len(sentinels))
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	for _, s := range sentinels {
		g.Go(func() {
			l := ask(ctx, netip.AddrPortFrom(s, p.dnsPort), name, v6)
			replies <- l
		})
	}
	best := cause.Lookup{Outcome: cause.NoAnswer}
	for range sentinels {
		l := <-replies
		best = cause.Join(best, l)
		if l.Outcome != cause.NoAnswer && l.Outcome != cause.Failed {
			return l
		}
	}
	return best
}

// resend is when a question is repeated.
const resend = 300 * time.Millisecond

func ask(ctx context.Context, server netip.AddrPort, name string, v6 bool) cause.Lookup {
	none := cause.Lookup{Outcome: cause.NoAnswer}
	id := uint16(rand.Uint32())
	question, err := cause.Question(id, name, v6)
	if err != nil {
		return cause.Lookup{Outcome: cause.NoName}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "udp", server.String())
	if err != nil {
		return none
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		if _, err := conn.Write(question); err != nil {
			return none
		}
		conn.SetReadDeadline(time.Now().Add(resend))
		for {
			n, err := conn.Read(buf)
			if err != nil {
				if e, is := errors.AsType[net.Error](err); !is || !e.Timeout() {
					return none
				}
				break
			}
			if l, ok := cause.ParseReply(id, buf[:n]); ok {
				return l
			}
		}
	}
	return none
}

// resolvers are whom programs ask; none: not known.
func resolvers() []netip.Addr {
	list, err := dnsctl.Asked()
	if err != nil {
		return nil
	}
	return list
}

// maxHosts bounds what is read of a hosts file; those that block
// advertisements are large.
const maxHosts = 16 << 20

func hostsFile(name string) []netip.Addr {
	f, err := os.Open(dirs.Hosts)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxHosts))
	if err != nil {
		return nil
	}
	return cause.HostsOf(string(text), name)
}
