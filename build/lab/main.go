//go:build linux

// Command lab builds a small internet out of network namespaces on one Linux
// machine, with real processes, real TUN devices and real kernels in it: for
// the demonstration, for end-to-end scenarios and for benchmarks.
package main

import (
	"github.com/alecthomas/kong"

	"stile/build/stamp"
	"stile/platform/cmdline"
)

type cli struct {
	BinDir  string           `type:"path" placeholder:"DIR" help:"Where stiled and stile-server are. Default: beside this program, or build/out."`
	LogDir  string           `type:"path" placeholder:"DIR" help:"Where each run makes a folder for its logs. Default: build/out/lab."`
	Version kong.VersionFlag `help:"Print the version."`

	Demo  demoCmd  `cmd:"" help:"Bring up a small internet and reach a private resource in it by name."`
	List  listCmd  `cmd:"" help:"List scenarios and benchmarks."`
	Run   runCmd   `cmd:"" help:"Run scenarios, each in an internet of its own."`
	Shell shellCmd `cmd:"" help:"Enter a host of the lab that runs, from another terminal, as the same user."`
	Bench benchCmd `cmd:"" help:"Run a benchmark."`

	Inside    insideCmd    `cmd:"" hidden:"" help:"The second life of this program, in namespaces of its own."`
	Fetch     fetchCmd     `cmd:"" hidden:"" help:"A web client, to be run inside a host."`
	Browse    browseCmd    `cmd:"" hidden:"" help:"A browser that signs in, to be run inside a host."`
	Lookup    lookupCmd    `cmd:"" hidden:"" help:"A DNS client, to be run inside a host."`
	Wireguard wireguardCmd `cmd:"" hidden:"" help:"One end of a wireguard-go tunnel, to be run inside a host."`
}

func main() {
	var c cli
	k := cmdline.Parse(&c, kong.Name("lab"),
		kong.Description("A small internet in network namespaces. Root is not needed where the system lets users make namespaces."),
		kong.Vars{"version": stamp.String()})
	cmdline.Exit("lab", k.Run(&c))
}
