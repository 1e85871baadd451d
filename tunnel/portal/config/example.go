package config

import (
	_ "embed"
	"strings"
)

//go:embed example.yaml
var example string

// A Start is what a first configuration is made from. Its strings stand in
// YAML as they are, so they must hold no quotes and line breaks.
type Start struct {
	Slug, ExternalURL string
	Email             string // of the first user
	Address           string // "host:port" to listen at
	CertFile, KeyFile string // "": plain, for a proxy on the same machine
	Socket, DataDir   string // "": the defaults
}

// Example returns a commented file to start from.
func Example(s Start) []byte {
	listener := "  - address: \"" + s.Address + "\"\n"
	if s.CertFile != "" {
		listener += "    tls:\n      certificate: \"" + s.CertFile + "\"\n      key: \"" + s.KeyFile + "\""
	} else {
		listener += "    plain: true"
	}
	setting := func(name, value, fallback string) string {
		if value == "" || value == fallback {
			return "# " + name + ": " + fallback
		}
		return name + ": \"" + value + "\""
	}
	return []byte(strings.NewReplacer(
		"{{slug}}", s.Slug, "{{external_url}}", "\""+s.ExternalURL+"\"", "{{listeners}}", listener, "{{email}}", "\""+s.Email+"\"",
		"{{socket}}", setting("socket", s.Socket, DefaultSocket), "{{data_dir}}", setting("data_dir", s.DataDir, DefaultDataDir),
	).Replace(example))
}
