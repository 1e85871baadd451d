package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Who asks a gateway need not know what it takes to run one, and running one
// needs no word for it.
func TestGatewayCommands(t *testing.T) {
	for _, row := range []struct{ line, want, err string }{
		{"gateway --api-url wss://portal.example", "gateway run", ""},
		{"gateway run --api-url wss://portal.example --metrics 127.0.0.1:9464 --flow-log stdout --flow-log /var/log/flows", "gateway run", ""},
		{"gateway --api-url wss://portal.example --metrics 10.0.0.1:9464", "", "--metrics-anywhere"},
		{"gateway --api-url wss://portal.example --metrics 10.0.0.1:9464 --metrics-anywhere", "gateway run", ""},
		{"gateway --api-url wss://portal.example --flow-log-size 0", "", "--flow-log-size"},
		{"gateway status --watch --interval 1s --socket /tmp/s", "gateway status", ""},
		{"gateway status --interval 1ms", "", "--interval"},
		{"gateway sessions --client alice --name wiki --state established --limit 5 --json", "gateway sessions", ""},
		{"gateway sessions --state open", "", "there are: unconfirmed, opening, established"},
		{"gateway resources --limit 100001", "", "1 to 100000"},
	} {
		var c commands
		parser, err := kong.New(&c, kong.Vars{"version": "test"}, kong.Exit(func(int) { t.Fatal("the parser ended the program") }))
		if err != nil {
			t.Fatal(err)
		}
		chosen, err := parser.Parse(strings.Fields(row.line))
		switch {
		case row.err != "":
			if err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("%s: %v", row.line, err)
			}
		case err != nil || chosen.Command() != row.want:
			t.Errorf("%s: %v, %v", row.line, chosen.Command(), err)
		}
	}
}
