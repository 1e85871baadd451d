package main

import (
	"stile/tunnel/portal/admin"
	"stile/tunnel/portal/serve"
)

// portalCommands are "stile-server portal …": one runs the portal, the others
// speak to a running one, or to its store.
type portalCommands struct {
	Serve serve.Command `cmd:"" name:"run" help:"Run the portal until it is stopped."`
	admin.Commands
}
