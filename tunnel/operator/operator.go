// Package operator shows a running gateway to those who run it: the commands
// `stile-server gateway status`, `sessions` and `resources`, the local socket
// by which they ask, and metrics for Prometheus.
//
// The socket speaks HTTP, so that other tools can use it as well; only root and
// the gateway's own user may (the kernel says who asks):
//
//	curl --unix-socket /run/stile/gateway.sock http://gateway/v1/status
//
//	GET /v1/status     Status
//	GET /v1/sessions   Sessions; ?client= ?name= ?state= ?limit=
//	GET /v1/resources  Resources; ?client= ?name= ?limit=
//	GET /metrics       Prometheus text format, or OpenMetrics
//
// The fields of the JSON are stable: new ones may come, those there are keep
// their names and meanings. Times are RFC 3339 in UTC. A field that is missing
// is not known or means nothing there.
package operator

import (
	"log/slog"
	"time"

	"stile/build/stamp"
	"stile/platform/clock"
	"stile/platform/forward"
	"stile/tunnel/core"
	"stile/tunnel/engine"
	"stile/tunnel/flowlog"
	"stile/tunnel/gateway"
)

// DefaultSocket is where a gateway listens for commands.
const DefaultSocket = "/run/stile/gateway.sock"

// An Engine runs the gateway's role.
type Engine interface {
	Inspect(f func(role core.Role, now time.Time))
	Traffic() engine.Traffic
	Counters() []core.Counter
}

// Config is what an Operator looks at. Conntrack may be nil.
type Config struct {
	Engine    Engine
	Conntrack func() (forward.Tracked, error) // of the host
	FlowLogs  []*flowlog.Log
	Log       *slog.Logger
}

// An Operator answers questions about a gateway that runs in this process. All
// methods may be called at any time.
type Operator struct {
	c         Config
	startedAt time.Time
}

// New returns an operator of a gateway that starts now.
func New(c Config) *Operator {
	return &Operator{c: c, startedAt: time.Now().UTC().Truncate(time.Second)}
}

// A Status is the gateway as a whole, and all its clients.
type Status struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Time      time.Time `json:"time"` // of the answer
	gateway.Summary
	Carried    Carried           `json:"carried"`
	Unreadable map[string]uint64 `json:"unreadable"` // packets that never reached a decision, by reason
	Tracked    forward.Tracked   `json:"connection_tracking,omitzero"`
	FlowLogs   []FlowLog         `json:"flow_logs"`
	Clients    []gateway.Client  `json:"clients"` // sorted by tunnel address
}

// Carried counts packets of applications.
type Carried struct {
	PacketsOut uint64 `json:"packets_out"` // from clients
	BytesOut   uint64 `json:"bytes_out"`
	PacketsIn  uint64 `json:"packets_in"`
	BytesIn    uint64 `json:"bytes_in"`
}

// A FlowLog is one place where flows are logged.
type FlowLog struct {
	To      string `json:"to"`
	Lines   uint64 `json:"lines"`
	Lost    uint64 `json:"lost"`
	Waiting int    `json:"waiting"`
}

// inspect looks at the gateway for a moment, during which packets wait.
func (o *Operator) inspect(f func(c *gateway.Core, m gateway.Moment)) {
	o.c.Engine.Inspect(func(r core.Role, now time.Time) {
		f(r.(*gateway.Core), gateway.Moment{Now: now, Wall: now.Add(offset())})
	})
}

// offset is what the calendar is ahead of the gateway's clock, which does not
// follow it.
func offset() time.Duration { return time.Now().Round(0).Sub(clock.Now()) }

func version() string { return stamp.String() }
