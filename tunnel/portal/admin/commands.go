package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"stile/tunnel/portal/config"
)

// Commands are those of `stile-server portal` that end by themselves, for
// package kong. Their Run methods take the context that the main binds.
type Commands struct {
	Init        Init        `cmd:"" help:"Write a first configuration and make the first user."`
	CheckConfig CheckConfig `cmd:"" help:"Check the configuration, as the portal would when it reads it."`
	Token       struct {
		Create TokenCreate `cmd:"" help:"Make a token for a gateway, a relay or a client. It is printed once and not stored."`
		Revoke TokenRevoke `cmd:"" help:"Delete a token and disconnect whoever came with it."`
		List   TokenList   `cmd:"" help:"List the tokens there are."`
	} `cmd:"" help:"Tokens let gateways, relays and clients in."`
	User struct {
		Add    UserAdd    `cmd:"" help:"Add a user. The password is asked for, or read from standard input."`
		Passwd UserPasswd `cmd:"" help:"Give a user another password. It is asked for, or read from standard input."`
	} `cmd:"" help:"Users sign in with e-mail address and password."`
	Status StatusShow `cmd:"" help:"Show what there is and who is online."`
}

// CheckConfig checks the file.
type CheckConfig struct{ File }

func (k *CheckConfig) Run(ctx context.Context) error { return k.run(ctx, console()) }

func (k *CheckConfig) run(ctx context.Context, t *terminal) error {
	text, err := k.read()
	if err != nil {
		return err
	}
	c, err := config.Parse(text, config.Options{Zones: time.LoadLocation})
	if err != nil {
		return errors.New(located(k.Config, err))
	}
	warnings := append(c.Warnings, certificateWarnings(c)...)
	// Whether members of groups exist is known to the portal's own user only.
	var emails []string
	if err := k.do(ctx, "emails", nil, &emails); err == nil {
		known := map[string]bool{}
		for _, e := range emails {
			known[strings.ToLower(e)] = true
		}
		warnings = append(warnings, c.UnknownEmails(func(e string) bool { return known[e] })...)
	}
	for _, w := range warnings {
		fmt.Fprintf(t.err, "warning: %s\n", located(k.Config, config.Problems{w}))
	}
	a := &c.Account
	fmt.Fprintf(t.out, "%s is valid: %d sites, %d groups, %d resources, %d policies\n", k.Config, len(a.Sites), len(a.Groups), len(a.Resources), len(a.Policies))
	return nil
}

// certificateWarnings tries the files that the portal will need. It only
// warns: they may belong to another machine, or come later.
func certificateWarnings(c *config.Config) (list config.Problems) {
	for _, l := range c.Listeners {
		if l.Plain() {
			continue
		}
		if _, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile); err != nil {
			list = append(list, config.Problem{Path: "listeners", Text: "certificate of " + l.Address + ": " + err.Error(), Help: "the portal will not start without it"})
		}
	}
	return list
}

// TokenCreate makes a token.
type TokenCreate struct {
	File
	Gateway string `xor:"kind" required:"" placeholder:"SITE" help:"For gateways of this site."`
	Relay   bool   `xor:"kind" required:"" help:"For a relay."`
	Client  string `xor:"kind" required:"" placeholder:"EMAIL" help:"For clients without a browser that act as this user."`
	Service string `xor:"kind" required:"" placeholder:"NAME" help:"For a machine that acts for nobody: a service account, made if there is none of this name."`
	Expires string `placeholder:"WHEN" help:"When it ends: a length of time such as 90d or 12h, or a date such as 2027-01-31T18:00:00Z (default: never)."`
	Name    string `help:"A note for people, shown in lists."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

func (k *TokenCreate) Run(ctx context.Context) error { return k.run(ctx, console()) }

func (k *TokenCreate) run(ctx context.Context, t *terminal) error {
	life, err := parseExpiry(k.Expires, time.Now())
	if err != nil {
		return err
	}
	var made TokenCreated
	err = k.do(ctx, "token create", TokenRequest{Site: k.Gateway, Relay: k.Relay, Client: k.Client, Service: k.Service, Name: k.Name, Expires: life}, &made)
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(t.out, made)
	}
	// The token alone goes to standard output, so that it can go into a file.
	fmt.Fprintln(t.out, made.Token)
	holder := map[string]string{"gateway": "gateways of " + made.For, "relay": "a relay", "client": "clients of " + made.For}[made.Kind]
	ends := "never expires"
	if made.ExpiresAt != 0 {
		ends = "expires " + time.Unix(made.ExpiresAt, 0).Format(time.DateTime)
	}
	fmt.Fprintf(t.err, "This token is for %s and %s. It is not shown again.\nTo end it: stile-server portal token revoke %s\n", holder, ends, made.ID)
	if made.Hint != "" {
		fmt.Fprintln(t.err, made.Hint)
	}
	return nil
}

// parseExpiry reads a length of time or a date; "" is never and gives zero.
func parseExpiry(s string, now time.Time) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	var d time.Duration
	if date, err := time.Parse(time.RFC3339, s); err == nil {
		d = date.Sub(now)
	} else if d, err = config.ParseDuration(s); err != nil {
		return 0, fmt.Errorf("--expires %q is neither a length of time like 90d or 12h nor a date like 2027-01-31T18:00:00Z", s)
	}
	if d <= 0 {
		return 0, fmt.Errorf("--expires %s is in the past", s)
	}
	return d, nil
}

// TokenRevoke deletes a token.
type TokenRevoke struct {
	File
	ID string `arg:"" help:"The token's ID, as token create and token list show it."`
}

func (k *TokenRevoke) Run(ctx context.Context) error { return k.run(ctx, console()) }

func (k *TokenRevoke) run(ctx context.Context, t *terminal) error {
	if err := k.do(ctx, "token revoke", k.ID, nil); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "token %s is revoked\n", k.ID)
	return nil
}

// TokenList lists tokens.
type TokenList struct {
	File
	JSON bool `name:"json" help:"Print JSON."`
}

func (k *TokenList) Run(ctx context.Context) error { return k.run(ctx, console()) }

func (k *TokenList) run(ctx context.Context, t *terminal) error {
	var list []TokenView
	if err := k.do(ctx, "token list", nil, &list); err != nil {
		return err
	}
	if k.JSON {
		return printJSON(t.out, list)
	}
	printTokens(t.out, list, time.Now())
	return nil
}

// UserAdd makes a user.
type UserAdd struct {
	File
	Email string `arg:"" help:"The address to sign in with."`
	Name  string `help:"The name that others see (default: the address)."`
}

func (k *UserAdd) Run(ctx context.Context) error { return k.run(ctx, console()) }

func (k *UserAdd) run(ctx context.Context, t *terminal) error {
	password, err := t.newPassword(k.Email)
	if err != nil {
		return err
	}
	var hint string
	if err := k.do(ctx, "user add", UserRequest{k.Email, k.Name, password}, &hint); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "user %s is added\n", k.Email)
	if hint != "" {
		fmt.Fprintln(t.err, hint)
	}
	return nil
}

// UserPasswd replaces a password.
type UserPasswd struct {
	File
	Email string `arg:"" help:"The address the user signs in with."`
}

func (k *UserPasswd) Run(ctx context.Context) error { return k.run(ctx, console()) }

func (k *UserPasswd) run(ctx context.Context, t *terminal) error {
	password, err := t.newPassword(k.Email)
	if err != nil {
		return err
	}
	if err := k.do(ctx, "user passwd", UserRequest{Email: k.Email, Password: password}, nil); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "user %s has a new password\n", k.Email)
	return nil
}

// StatusShow shows the status. A stopped portal is no failure of the command.
type StatusShow struct {
	File
	JSON bool `name:"json" help:"Print JSON."`
}

func (k *StatusShow) Run(ctx context.Context) error { return k.run(ctx, console()) }

func (k *StatusShow) run(ctx context.Context, t *terminal) error {
	var s Status
	if err := k.do(ctx, "status", nil, &s); err != nil {
		return err
	}
	if k.JSON {
		return printJSON(t.out, s)
	}
	s.print(t.out, time.Now())
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
