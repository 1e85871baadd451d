package cli

import (
	"testing"

	"stile/build/man"
)

func TestManPage(t *testing.T) {
	man.Check(t, new(program).parser(new(commands)), "../cmd/stile/stile.1")
}
