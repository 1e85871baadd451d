//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"stile/build/lab/host"
)

// A fetched is one HTTP request as a user's program experiences it, from the
// moment it begins to look up the name. Times count from there; zero: not reached.
type fetched struct {
	Status               int
	Body                 string        // its beginning
	Lookup, Connect, TTF time.Duration // name looked up, connected, first byte
	Total                time.Duration
	Remote               string // the address connected to
	Error                string
}

// fetchCmd is "lab fetch": a web client to be run inside a host, where it uses
// that host's resolver and trusts whom that host trusts.
type fetchCmd struct {
	URL     string        `arg:""`
	Times   int           `default:"1" help:"Requests, each on a connection of its own."`
	Timeout time.Duration `default:"5s" help:"For each request."`
	Network string        `default:"tcp" enum:"tcp,tcp4,tcp6" help:"Which address family."`
}

func (f *fetchCmd) Run() error {
	encoder := json.NewEncoder(os.Stdout)
	for range f.Times {
		if err := encoder.Encode(f.once()); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetchCmd) once() (r fetched) {
	ctx, cancel := context.WithTimeout(context.Background(), f.Timeout)
	defer cancel()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives, transport.Proxy = true, nil
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		return dial(ctx, f.Network, address)
	}
	began := time.Now()
	since := func(d *time.Duration) { *d = time.Since(began) }
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSDone:              func(httptrace.DNSDoneInfo) { since(&r.Lookup) },
		GotConn:              func(i httptrace.GotConnInfo) { since(&r.Connect); r.Remote = i.Conn.RemoteAddr().String() },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { since(&r.Connect) },
		GotFirstResponseByte: func() { since(&r.TTF) },
	})
	defer since(&r.Total)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer response.Body.Close()
	r.Status = response.StatusCode
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
	}
	if r.Body = string(body); err != nil {
		r.Error = err.Error()
	}
	return r
}

// fetch runs the web client on a host and returns what it experienced.
func fetch(ctx context.Context, h *host.Host, url string, flags ...string) ([]fetched, error) {
	out, err := h.Output(h.Self(ctx, append([]string{"fetch", url}, flags...)...))
	if err != nil {
		return nil, fmt.Errorf("run a web client on %s: %w", h.Name, err)
	}
	var all []fetched
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var r fetched
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("web client on %s: %w", h.Name, err)
		}
		all = append(all, r)
	}
}

// get fetches one page and fails unless it comes and holds a text.
func get(ctx context.Context, h *host.Host, url, text string, flags ...string) (fetched, error) {
	all, err := fetch(ctx, h, url, flags...)
	if err != nil {
		return fetched{}, err
	}
	r := all[0]
	switch {
	case r.Error != "":
		return r, errors.New(r.Error)
	case r.Status != http.StatusOK:
		return r, fmt.Errorf("%s answers with status %d", url, r.Status)
	case !strings.Contains(r.Body, text):
		return r, fmt.Errorf("%s shows %q, not %q", url, r.Body, text)
	}
	return r, nil
}

// lookupCmd is "lab lookup": single DNS questions to the first resolver of the
// host it runs in.
type lookupCmd struct {
	Name  string `arg:""`
	Type  string `default:"A"`
	Times int    `default:"1"`
}

// A looked is one answer and how long it took.
type looked struct {
	Rcode   string
	Records []string
	Took    time.Duration
	Error   string
}

func (l *lookupCmd) Run() error {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if len(config.Servers) == 0 {
		return errors.New("/etc/resolv.conf names no server")
	}
	server := "[" + config.Servers[0] + "]:" + config.Port
	encoder := json.NewEncoder(os.Stdout)
	for range l.Times {
		q := new(dns.Msg).SetQuestion(dns.Fqdn(l.Name), dns.StringToType[l.Type])
		r, took, err := new(dns.Client).Exchange(q, server)
		answer := looked{Took: took}
		if err != nil {
			answer.Error = err.Error()
		} else {
			answer.Rcode = dns.RcodeToString[r.Rcode]
			for _, rr := range r.Answer {
				answer.Records = append(answer.Records, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
	return nil
}

// lookup asks the first resolver of a host, for A records unless the flags say
// otherwise.
func lookup(ctx context.Context, h *host.Host, name string, times int, flags ...string) ([]looked, error) {
	out, err := h.Output(h.Self(ctx, append([]string{"lookup", name, "--times", strconv.Itoa(times)}, flags...)...))
	if err != nil {
		return nil, fmt.Errorf("run a DNS client on %s: %w", h.Name, err)
	}
	var all []looked
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var r looked
		if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("DNS client on %s: %w", h.Name, err)
		}
		all = append(all, r)
	}
}
