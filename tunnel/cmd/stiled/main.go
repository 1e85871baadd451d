// Stiled is the tunnel service of Stile. Users sign in with the program stile;
// with a token from its environment or a file it is the headless client.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"stile/build/stamp"
	"stile/platform/cmdline"
	"stile/platform/dirs"
	"stile/platform/dnsctl"
	"stile/platform/ipcsock"
	"stile/platform/keystore"
	"stile/platform/logs"
	"stile/platform/machine"
	"stile/platform/managed"
	"stile/platform/service"
	"stile/tunnel/daemon"
	"stile/tunnel/ipc"
	"stile/tunnel/ipc/link"
	"stile/tunnel/phoenix/dial"
	"stile/tunnel/wire"
)

type options struct {
	APIURL    string           `name:"api-url" env:"STILE_API_URL,FIREZONE_API_URL" help:"The portal: wss://HOST[:PORT] (default: what policy or users chose). ws:// is taken from the environment only." placeholder:"URL"`
	TokenPath string           `env:"STILE_TOKEN_PATH,FIREZONE_TOKEN_PATH" default:"${token}" help:"File that holds the token (root only, mode 0600). STILE_TOKEN wins over it."`
	AuthURL   string           `name:"auth-url" env:"STILE_AUTH_URL" help:"Where users sign in (default: what policy or users chose, or at the portal)." placeholder:"URL"`
	Socket    string           `env:"STILE_SOCKET" default:"${socket}" help:"Local socket for the programs of users." placeholder:"PATH"`
	Programs  []string         `env:"STILE_PROGRAMS" help:"Programs that users may control this service with, as paths, or any for all of them (default: the installed stile)." placeholder:"PATH"`
	CAFile    string           `name:"ca-file" env:"STILE_CA_FILE,FIREZONE_CA_FILE" help:"Certificates to trust besides the system's."`
	Name      string           `env:"STILE_NAME,FIREZONE_NAME" help:"Name of this device in the portal (default: its host name)."`
	ID        string           `name:"id" env:"STILE_ID,FIREZONE_ID" help:"Identifier of this device (default: made from the machine's)."`
	State     string           `name:"state-dir" env:"STILE_STATE_DIR" default:"${state}" help:"Folder for what must survive a restart."`
	DNS       string           `name:"dns-control" env:"STILE_DNS_CONTROL,FIREZONE_DNS_CONTROL" default:"auto" help:"How the system is told to ask us for names: auto, etc-resolv-conf or disabled."`
	Internet  bool             `name:"activate-internet-resource" env:"STILE_ACTIVATE_INTERNET_RESOURCE,FIREZONE_ACTIVATE_INTERNET_RESOURCE" help:"Send all traffic through the Internet resource, if there is one."`
	Partition string           `name:"max-partition-time" env:"STILE_MAX_PARTITION_TIME,MAX_PARTITION_TIME" help:"Give up after so long without the portal, such as 24h or 30d (default: never)."`
	LogLevel  string           `env:"STILE_LOG_LEVEL,RUST_LOG" help:"What to log: debug, info, warn, error, or for one part only, such as info,tunnel/phoenix=debug (default: what policy or users chose, or info)."`
	LogDir    string           `env:"STILE_LOG_DIR,LOG_DIR" default:"${logs}" help:"Folder for log files; none for none."`
	LogFormat string           `env:"STILE_LOG_FORMAT" enum:"text,json" default:"text" help:"How to log to the terminal: text or json."`
	Check     bool             `help:"Check the configuration of a headless client, its token included, and exit."`
	Exit      bool             `help:"Exit once the tunnel stands."`
	Version   kong.VersionFlag `help:"Print the version."`
}

func main() {
	var o options
	cmdline.Parse(&o, about()...)
	cmdline.Exit("stiled", run(o))
}

// about is what the command line knows besides the options.
func about() []kong.Option {
	return []kong.Option{kong.Name("stiled"), kong.Vars{"version": stamp.String(), "token": filepath.Join(dirs.Config, "token"), "state": dirs.State, "logs": dirs.Logs, "socket": link.Socket},
		kong.Description("Reach private resources by name. Runs as root: it makes a network interface, and answers DNS while it runs. What is set here, or in the policy of the administrators (" + managed.Place + "), users cannot change.")}
}

// Validate tells what is wrong with the options.
func (o *options) Validate() error {
	if _, err := dnsctl.ParseMode(o.DNS); err != nil {
		return fmt.Errorf("--dns-control: %w", err)
	}
	if _, err := service.ParseDuration(o.Partition); err != nil {
		return fmt.Errorf("--max-partition-time: %w", err)
	}
	if _, err := logs.ParseFilter(o.LogLevel); err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	if o.AuthURL != "" {
		if err := ipc.CheckAuthURL(o.AuthURL); err != nil {
			return fmt.Errorf("--auth-url: %w", err)
		}
	}
	if o.APIURL == "" {
		return nil // policy or users may know
	}
	return dial.CheckURL(o.APIURL, o.plainAllowed())
}

// plainAllowed reports whether the URL is root's own, of the environment.
func (o *options) plainAllowed() bool {
	return o.APIURL == os.Getenv("STILE_API_URL") || o.APIURL == os.Getenv("FIREZONE_API_URL")
}

func run(o options) (err error) {
	log := service.Logger("debug", o.LogFormat)
	config, err := o.config(log)
	if err == nil && o.Check && config.Token == "" {
		err = fmt.Errorf("%w: a headless client needs one in %s (mode 0600) or STILE_TOKEN; otherwise users sign in with: stile sign-in", keystore.ErrNoToken, o.TokenPath)
	}
	if err != nil || o.Check {
		return err
	}
	files := o.openLogs(log)
	defer files.Close()
	log = files.Logger()
	if err := files.KeepCrashes(); err != nil {
		log.Warn("a crash will not be in the log", "err", err)
	}
	config.Log, config.Portal.Log, config.Logs = log, log, files
	defer func() {
		if err != nil {
			log.Error("stiled ends", "err", err) // the files must have it, too
		}
	}()
	ctx, stop := service.UntilStopped(context.Background())
	defer stop()
	config.Listening = func() { service.Ready(log) }
	config.Ready = func() {
		service.Ready(log)
		if o.Exit {
			stop()
		}
	}
	return daemon.Run(ctx, config)
}

// openLogs opens the log files. A folder that cannot be written to is no reason
// not to serve: then the terminal, or the system's log, has it all.
func (o options) openLogs(terminal *slog.Logger) *logs.Log {
	c := logs.Config{Dir: o.LogDir, Base: "tunnel-service", GID: ipcsock.GroupID(link.Group), Filter: o.LogLevel, Version: stamp.String(), Also: terminal.Handler()}
	if o.LogDir == "none" {
		c.Dir = ""
	}
	l, err := logs.Open(c)
	if err != nil {
		terminal.Warn("there will be no log files", "err", err, "next", "name another folder with --log-dir, or none")
		c.Dir = ""
		l, _ = logs.Open(c) // without files nothing can fail: the filter was checked
	}
	return l
}

// programs are those that users control the service with. Whoever builds it
// themselves says --programs any, or where theirs is.
func (o options) programs() []string {
	if len(o.Programs) == 0 {
		return ipcsock.Installed("stile")
	}
	if slices.Equal(o.Programs, []string{"any"}) {
		return nil
	}
	return o.Programs
}

func (o options) config(log *slog.Logger) (c daemon.Config, err error) {
	token, err := keystore.FromEnvironment("STILE_TOKEN", "FIREZONE_TOKEN")
	c.TokenSource = ipc.TokenFromEnvironment
	if errors.Is(err, keystore.ErrNoToken) {
		token, err = keystore.FromFile(o.TokenPath)
		c.TokenSource = ipc.TokenFromFile
	}
	if errors.Is(err, keystore.ErrNoToken) { // then users sign in
		c.TokenSource, err = "", nil
	}
	if err != nil {
		return c, err
	}
	if c.DNS, err = dnsctl.ParseMode(o.DNS); err != nil {
		return c, err
	}
	if err := dirs.Protect(o.State); err != nil {
		return c, err
	}
	if o.ID == "" {
		if o.ID, err = machine.DeviceID(o.State, log); err != nil {
			return c, err
		}
	}
	if o.Name == "" {
		o.Name = machine.Hostname()
	}
	c.Portal.MaxPartition, err = service.ParseDuration(o.Partition)
	if err != nil {
		return c, fmt.Errorf("--max-partition-time: %w", err)
	}
	us := machine.Describe()
	c.MemoryDir = dirs.Memory
	c.StateDir, c.Socket, c.Internet, c.AuthURL, c.LogFilter, c.Log, c.Version = o.State, o.Socket, o.Internet, o.AuthURL, o.LogLevel, log, stamp.String()
	c.Policy, c.Programs = managed.Read, o.programs()
	c.Token = wire.Secret(token)
	c.Portal.URL, c.Portal.AllowPlain, c.Portal.CAFile = o.APIURL, o.plainAllowed(), o.CAFile
	c.Portal.Kind, c.Portal.Name, c.Portal.Log = dial.Client, o.Name, log
	c.Portal.ExternalID = wire.ExternalID(strings.TrimSpace(o.ID))
	c.Portal.UserAgent = wire.UserAgent(wire.HeadlessClient, stamp.Version, us.Name, us.Version, us.Arch, us.Kernel)
	if err := c.CheckPortal(); err != nil {
		return c, err
	}
	if c.Portal.URL == "" {
		return c, nil
	}
	_, err = dial.New(c.Portal) // says what is wrong with the CA file, before anything is changed
	return c, err
}
