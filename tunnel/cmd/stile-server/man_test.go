package main

import (
	"testing"

	"github.com/alecthomas/kong"

	"stile/build/man"
)

func TestManPage(t *testing.T) { man.Check(t, kong.Must(new(commands), about()...), "stile-server.8") }
