// Stile-server is what a self-hoster runs: the portal, the gateway and the
// relay, one of them for each process.
package main

import (
	"context"

	"github.com/alecthomas/kong"

	"stile/build/stamp"
	"stile/platform/cmdline"
	"stile/platform/service"
	relay "stile/tunnel/relay/serve"
)

type commands struct {
	Portal  portalCommands  `cmd:"" help:"Decide who may reach what: accounts, sign-in pages, configuration."`
	Gateway gatewayCommands `cmd:"" help:"Give access to the resources of a site. Runs as root on a host near them."`
	Relay   relay.Command   `cmd:"" help:"Carry ciphertext between peers that find no direct path (STUN and TURN)."`

	LogLevel  string           `env:"STILE_LOG_LEVEL" enum:"debug,info,warn,error" default:"info" help:"What to log: debug, info, warn or error."`
	LogFormat string           `env:"STILE_LOG_FORMAT" enum:"text,json" default:"text" help:"How: text or json."`
	Version   kong.VersionFlag `help:"Print the version."`
}

func main() {
	var c commands
	chosen := cmdline.Parse(&c, about()...)
	ctx, _ := service.UntilStopped(context.Background())
	chosen.BindTo(ctx, (*context.Context)(nil))
	chosen.Bind(service.Logger(c.LogLevel, c.LogFormat))
	cmdline.Exit("stile-server", chosen.Run())
}

// about is what the command line knows besides the commands.
func about() []kong.Option {
	return []kong.Option{kong.Name("stile-server"), kong.Vars{"version": stamp.String()},
		kong.Description("Private resources by name, self-hosted. Start with: stile-server portal init")}
}
