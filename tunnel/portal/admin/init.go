package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stile/platform/machine"
	"stile/tunnel/portal/config"
	"stile/tunnel/portal/store"
)

// Init writes a first configuration and makes the first user.
type Init struct {
	File
	Email      string `required:"" placeholder:"EMAIL" help:"E-mail address of the first user."`
	Slug       string `default:"main" help:"Short name of the account, which stands in sign-in addresses."`
	URL        string `name:"url" placeholder:"https://HOST[:PORT]" help:"Where browsers and clients will find the portal (default: https://NAME-OF-THIS-MACHINE)."`
	Listen     string `placeholder:"HOST:PORT" help:"Where to accept connections (default: every address on the port of the URL, or 127.0.0.1:8080 without a certificate)."`
	SelfSigned bool   `xor:"tls" help:"Make a certificate and an authority of its own, to trust on each machine."`
	Cert       string `xor:"tls" placeholder:"FILE" help:"Certificate chain in PEM, if there is one already."`
	Key        string `placeholder:"FILE" help:"Key of --cert."`
	DataDir    string `default:"/var/lib/stile/portal" help:"Folder of users, tokens and devices."`
	Socket     string `default:"/run/stile/portal.sock" help:"Socket for these commands."`
}

func (k *Init) Run(ctx context.Context) error {
	err := k.run(ctx, console())
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; run it as root, or name other places with --config, --data-dir and --socket", err)
	}
	return err
}

func (k *Init) run(_ context.Context, t *terminal) error {
	if _, err := os.Lstat(k.Config); err == nil {
		return fmt.Errorf("%s is there already; edit it, move it away, or name another file with --config", k.Config)
	}
	host, err := k.complete()
	if err != nil {
		return err
	}
	// Everything is checked before anything is made.
	text := config.Example(k.start())
	if _, err := config.Parse(text, config.Options{Zones: time.LoadLocation}); err != nil {
		return fmt.Errorf("these options make no valid configuration:\n%w", err)
	}
	password, err := t.newPassword(k.Email)
	if err != nil {
		return err
	}
	if err := makeWritable(filepath.Dir(k.Config)); err != nil {
		return err
	}
	if k.SelfSigned {
		made, err := selfSign(filepath.Dir(k.Config), host, time.Now())
		if err != nil {
			return fmt.Errorf("make a certificate: %w", err)
		}
		k.Cert, k.Key = made.CertFile, made.KeyFile
	}
	if err := k.firstUser(t, password); err != nil {
		return err
	}
	if err := writeNew(k.Config, 0o644, text); err != nil {
		return err
	}
	k.nextSteps(t)
	return nil
}

// makeWritable makes a folder and tries to write there, so that no user is made
// whose configuration cannot be.
func makeWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// complete fills in what was left out and returns the host of the URL.
func (k *Init) complete() (host string, err error) {
	for _, path := range []*string{&k.Config, &k.DataDir, &k.Socket, &k.Cert, &k.Key} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return "", err
			}
		}
	}
	if k.URL == "" {
		k.URL = "https://" + machine.Hostname()
	}
	u, err := url.Parse(k.URL)
	if err != nil || u.Hostname() == "" {
		return "", fmt.Errorf("--url %q is not a URL like https://portal.example.com", k.URL)
	}
	if (k.Cert == "") != (k.Key == "") {
		return "", errors.New("--cert and --key go together")
	}
	if k.SelfSigned {
		dir := filepath.Dir(k.Config)
		k.Cert, k.Key = filepath.Join(dir, "portal.pem"), filepath.Join(dir, "portal.key")
	}
	if k.Listen == "" {
		k.Listen = "127.0.0.1:8080"
		if k.Cert != "" {
			port := u.Port()
			if port == "" {
				port = "443"
			}
			k.Listen = ":" + port
		}
	}
	return u.Hostname(), nil
}

func (k *Init) start() config.Start {
	return config.Start{
		Slug: k.Slug, ExternalURL: k.URL, Email: k.Email, Address: k.Listen,
		CertFile: k.Cert, KeyFile: k.Key, Socket: k.Socket, DataDir: k.DataDir,
	}
}

// firstUser makes the store, if it is not there from an earlier attempt.
func (k *Init) firstUser(t *terminal, password string) error {
	s, err := store.Open(k.DataDir)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.AddUser(k.Email, "", password)
	if errors.Is(err, store.ErrExists) {
		fmt.Fprintf(t.err, "The user %s is there already and keeps the password.\n", k.Email)
		return nil
	}
	return err
}

func (k *Init) nextSteps(t *terminal) {
	option := ""
	if k.Config != "/etc/stile/portal.yaml" {
		option = " --config " + k.Config
	}
	step := 0
	next := func(format string, args ...any) {
		step++
		fmt.Fprintf(t.out, "  %d. "+strings.ReplaceAll(format, "\n", "\n     ")+"\n", append([]any{step}, args...)...)
	}
	fmt.Fprintf(t.out, "Wrote %s; the first user is %s.\n\nNext:\n", k.Config, k.Email)
	trust := ""
	if k.SelfSigned {
		authority := filepath.Join(filepath.Dir(k.Config), "ca.pem")
		trust = " --ca-file ca.pem"
		next("Copy %s to every machine that shall trust this portal, and there\nsudo cp ca.pem /usr/local/share/ca-certificates/stile.crt && sudo update-ca-certificates\n(gateways, relays and clients of Stile can use --ca-file ca.pem instead; browsers need it)", authority)
	}
	next("Say in %s what there is and who may reach it, then\nstile-server portal check-config%s", k.Config, option)
	next("Start the portal:\nstile-server portal run%s", option)
	if host, port, err := net.SplitHostPort(k.Listen); err == nil && k.Cert == "" {
		next("Put a proxy that does TLS for %s in front of %s", k.URL, net.JoinHostPort(host, port))
	}
	api := "ws" + strings.TrimPrefix(k.URL, "http") // wss for https
	next("Make a token for a relay; start that on a machine that both sides can reach (UDP port 3478), with the token in a file:\n(umask 077; stile-server portal token create --relay%s > relay-token)\nstile-server relay --api-url %s%s --token-file relay-token --public-ip4-addr ADDRESS", option, api, trust)
	next("Make a token for gateways; start one near the resources, with the token in a file of root there:\n(umask 077; stile-server portal token create --gateway Office%s > gateway-token)\nsudo env STILE_API_URL=%s stile-server gateway%s --token-file gateway-token", option, api, trust)
	next("Sign in as %s at %s/%s", k.Email, k.URL, k.Slug)
}
