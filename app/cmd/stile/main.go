// Stile is the user's program: it signs in and out, and shows what the tunnel
// service does.
package main

import (
	"context"
	"os"

	"stile/app/cli"
	"stile/platform/service"
)

func main() {
	ctx, free := service.UntilStopped(context.Background())
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	free()
	os.Exit(code)
}
