// Package config is the portal's configuration: one YAML file, parsed into
// values, or refused with the line and column of every mistake and what to do
// about it.
//
// The file needs no identifiers. Sites, groups, resources and policies get a
// UUID that is derived from the account's ID, the kind and the name, so that
// it is the same after each reading; renaming one makes another. An explicit
// id keeps it through a rename.
package config

import (
	"net/netip"
	"time"

	"stile/tunnel/portal"
)

// Defaults of what the file may leave out.
const (
	DefaultSocket  = "/run/stile/portal.sock"
	DefaultDataDir = "/var/lib/stile/portal"

	DefaultClientSession  = 7 * 24 * time.Hour
	DefaultBrowserSession = 10 * time.Hour
)

// Bounds of session lengths (spec portal.md 7).
const (
	MinSession = time.Hour
	MaxSession = 90 * 24 * time.Hour
)

// A Config is one valid file. It is not changed after Parse.
type Config struct {
	// Account is what the administrator decided about people and resources.
	// Account.ID is the one given to Parse.
	Account portal.Account

	// ExternalURL is where browsers and peers find the portal, through
	// whatever stands in front of it: scheme, host and optional port and path,
	// without a final slash. All URLs are built from it.
	ExternalURL string
	Listeners   []Listener // at least one

	Socket  string // path of the local socket for commands
	DataDir string // directory of the store

	// ClientSession is how long a client stays signed in; BrowserSession is
	// for the portal's own pages. Both within MinSession and MaxSession.
	ClientSession, BrowserSession time.Duration

	// Warnings are what works but is probably not meant, such as an insecure
	// listener. They are shown at each start.
	Warnings Problems

	emails []mention
}

// A Listener is one address to accept connections at, with TLS if CertFile is
// set, else in plain text.
type Listener struct {
	Address           string // "host:port"; the host may be empty for all addresses
	CertFile, KeyFile string // PEM
	// TrustedProxies may tell the real address of a client in X-Forwarded-For;
	// anybody else's is ignored. Only a plain listener has any.
	TrustedProxies []netip.Prefix
	// BehindProxy: a plain listener that only a proxy reaches, which does TLS.
	BehindProxy bool
	// Insecure: a plain listener that others than this machine may reach.
	// Sign-in pages do not run on it.
	Insecure bool
}

// Plain reports whether l speaks without TLS.
func (l Listener) Plain() bool { return l.CertFile == "" }
