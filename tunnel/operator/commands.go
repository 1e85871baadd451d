package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/term"

	"stile/platform/ipcsock"
)

// Commands are those of `stile-server gateway` that ask a running gateway, for
// package kong. Their Run methods take the context that the main binds.
type Commands struct {
	Status    StatusCommand    `cmd:"" help:"Show what a running gateway does: its clients, what passes and what is dropped."`
	Sessions  SessionsCommand  `cmd:"" help:"Show the sessions of its clients, the latest packet first."`
	Resources ResourcesCommand `cmd:"" help:"Show who may use which resource, and where its names lead."`
}

// Socket is the option that all of them have.
type Socket struct {
	Socket string `env:"STILE_GATEWAY_SOCKET" default:"/run/stile/gateway.sock" placeholder:"PATH" help:"The gateway's local socket."`
	JSON   bool   `name:"json" help:"Print JSON. Its fields are stable."`
}

// maxAnswer bounds what a gateway may say: sessions up to MaxLimit.
const maxAnswer = 1 << 30

// ask gets path from the gateway into result.
func (s *Socket) ask(ctx context.Context, path string, query url.Values, result any) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return ipcsock.Dial(s.Socket) },
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway"+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(r)
	switch {
	case errors.Is(err, ipcsock.ErrNobody):
		return fmt.Errorf("no gateway runs here: nobody answers at %s; start one with \"stile-server gateway\", or name its socket with --socket", s.Socket)
	case errors.Is(err, ipcsock.ErrDenied):
		return fmt.Errorf("not allowed to use %s: run the command as root or as the gateway's own user", s.Socket)
	case err != nil:
		return fmt.Errorf("ask the gateway: %w", errors.Unwrap(err)) // without the address that we made up
	}
	defer response.Body.Close()
	body := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode != http.StatusOK {
		var problem struct{ Error string }
		if body.Decode(&problem) != nil || problem.Error == "" {
			return fmt.Errorf("the gateway answers %s", response.Status)
		}
		return errors.New(problem.Error)
	}
	if err := body.Decode(result); err != nil {
		return fmt.Errorf("the gateway's answer cannot be read: %w", err)
	}
	return nil
}

// StatusCommand shows a Status.
type StatusCommand struct {
	Socket
	Watch    bool          `short:"w" help:"Show it again and again, until interrupted."`
	Interval time.Duration `default:"2s" help:"How often, with --watch."`
}

// Validate tells what is wrong with the options.
func (k *StatusCommand) Validate() error {
	if k.Interval < 100*time.Millisecond {
		return errors.New("--interval: at least 100ms")
	}
	return nil
}

// Run asks and prints, once or until ctx ends.
func (k *StatusCommand) Run(ctx context.Context) error {
	return k.run(ctx, os.Stdout, term.IsTerminal(int(os.Stdout.Fd())))
}

// fromTheTop lets a terminal begin anew, without a moment of emptiness.
const fromTheTop, theRest = "\x1b[H", "\x1b[J"

func (k *StatusCommand) run(ctx context.Context, w io.Writer, isTerminal bool) error {
	for first := true; ; first = false {
		var s Status
		if err := k.ask(ctx, "/v1/status", nil, &s); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		switch {
		case k.JSON && k.Watch: // an object on each line
			if err := json.NewEncoder(w).Encode(s); err != nil {
				return err
			}
		case k.JSON:
			return printJSON(w, s)
		case k.Watch && isTerminal:
			if first {
				io.WriteString(w, fromTheTop+theRest)
			}
			printOver(w, func(w io.Writer) { s.print(w) })
		default:
			if !first {
				fmt.Fprintln(w)
			}
			s.print(w)
		}
		if !k.Watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(k.Interval):
		}
	}
}

// SessionsCommand shows Sessions.
type SessionsCommand struct {
	Socket
	Client string `placeholder:"WHO" help:"Only of this client: its ID or how that begins, its tunnel address, or a part of its user's name."`
	Name   string `placeholder:"NAME" help:"Only to this name or resource: a part of it, or all of it with * and ?."`
	State  string `placeholder:"STATE" help:"Only in this state: unconfirmed, opening, established, half-closed, closed, udp, icmp or other."`
	Limit  int    `default:"100" placeholder:"N" help:"Show at most so many, those with the latest packets; up to 100000."`
}

func (k *SessionsCommand) query() Query { return Query{k.Client, k.Name, k.State, k.Limit} }

// Validate tells what is wrong with the options.
func (k *SessionsCommand) Validate() error { q := k.query(); return q.Check() }

// Run asks and prints.
func (k *SessionsCommand) Run(ctx context.Context) error { return k.run(ctx, os.Stdout) }

func (k *SessionsCommand) run(ctx context.Context, w io.Writer) error {
	var s Sessions
	if err := k.ask(ctx, "/v1/sessions", k.query().values(), &s); err != nil {
		return err
	}
	if k.JSON {
		return printJSON(w, s)
	}
	s.print(w)
	return nil
}

// ResourcesCommand shows Resources.
type ResourcesCommand struct {
	Socket
	Client string `placeholder:"WHO" help:"Only what this client uses: its ID or how that begins, its tunnel address, or a part of its user's name."`
	Name   string `placeholder:"NAME" help:"Only this name or resource: a part of it, or all of it with * and ?."`
	Limit  int    `default:"100" placeholder:"N" help:"Show at most so many names; up to 100000."`
}

func (k *ResourcesCommand) query() Query {
	return Query{Client: k.Client, Name: k.Name, Limit: k.Limit}
}

// Validate tells what is wrong with the options.
func (k *ResourcesCommand) Validate() error { q := k.query(); return q.Check() }

// Run asks and prints.
func (k *ResourcesCommand) Run(ctx context.Context) error { return k.run(ctx, os.Stdout) }

func (k *ResourcesCommand) run(ctx context.Context, w io.Writer) error {
	var r Resources
	if err := k.ask(ctx, "/v1/resources", k.query().values(), &r); err != nil {
		return err
	}
	if k.JSON {
		return printJSON(w, r)
	}
	r.print(w)
	return nil
}

func (q Query) values() url.Values {
	v := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	for name, text := range map[string]string{"client": q.Client, "name": q.Name, "state": q.State} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return v
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
