package operator

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"stile/build/stamp"
	"stile/tunnel/gateway"
)

// metrics are what Prometheus sees of a gateway. They are read when it asks.
type metrics struct{ o *Operator }

var (
	buildInfo   = desc("build_info", "What runs; the value is 1.", "version", "commit", "goversion")
	portalUp    = desc("portal_up", "Whether the portal can be reached.")
	clientCount = desc("clients", "Clients that are, or were until recently, authorized for something.", "state")
	grantCount  = desc("authorizations", "Resources that clients may use, each pair counted.")
	sessions    = desc("sessions", "Sessions in the tables, some of which may just have ended.")
	fullest     = desc("sessions_fullest_client", "Sessions of the client that has most; there is a limit for each.")
	relayUp     = desc("relays", "Relays that the portal gave us, by whether we have an address there.", "allocated")
	allocations = desc("relay_allocations", "Our addresses on relays.")
	drops       = desc("dropped_packets_total", "Packets that did not pass, by reason.", "reason")
	unreadable  = desc("unreadable_packets_total", "Packets that never reached a decision, or were lost after it.", "reason")
	events      = desc("events_total", "What else happened.", "event")
	packets     = desc("packets_total", "Packets of applications that passed; out is from clients.", "direction")
	bytesTotal  = desc("bytes_total", "Bytes of these packets.", "direction")
	running     = desc("resolutions_running", "Names that are being looked up.")
	waiting     = desc("resolutions_waiting", "Names that wait for that.")
	outcomes    = desc("resolutions_total", "Names that were looked up.", "outcome")
	took        = desc("resolution_seconds", "How long it took to look names up.")
	answered    = desc("first_answer_seconds", "How long resources took to answer the first packet of a session.")
	tracked     = desc("conntrack_entries", "Connections that the host's kernel tracks, ours and others'.")
	trackable   = desc("conntrack_entries_limit", "Connections that it can track.")
	logLines    = desc("flow_log_lines_total", "Lines that were written to the flow log.", "log")
	logLost     = desc("flow_log_lost_lines_total", "Lines that could not be kept.", "log")
	logWaiting  = desc("flow_log_waiting_lines", "Lines that wait to be written.", "log")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("stile_gateway_"+name, help, labels, nil)
}

// registry has all that is told to Prometheus.
func (o *Operator) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metrics{o})
	return r
}

// Describe says what Collect will tell.
func (m metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, portalUp, clientCount, grantCount, sessions, fullest, relayUp, allocations, drops, unreadable, events, packets,
		bytesTotal, running, waiting, outcomes, took, answered, tracked, trackable, logLines, logLost, logWaiting,
	} {
		c <- d
	}
}

// Collect looks at the gateway.
func (m metrics) Collect(c chan<- prometheus.Metric) {
	s := m.o.Status()
	t := teller{c}
	t.gauge(buildInfo, 1, stamp.Version, stamp.Commit, runtime.Version())
	t.gauge(portalUp, truth(s.PortalUp))
	t.clients(s.Clients)
	t.gauge(sessions, float64(s.Sessions))
	t.relays(s.Relays)
	t.counters(drops, s.Drops)
	t.counters(unreadable, s.Unreadable)
	t.counters(events, s.Events)
	t.counters(packets, map[string]uint64{"out": s.Carried.PacketsOut, "in": s.Carried.PacketsIn})
	t.counters(bytesTotal, map[string]uint64{"out": s.Carried.BytesOut, "in": s.Carried.BytesIn})
	t.resolutions(&s.Resolutions)
	t.histogram(answered, &s.Answers)
	if s.Tracked.Max > 0 {
		t.gauge(tracked, float64(s.Tracked.Count))
		t.gauge(trackable, float64(s.Tracked.Max))
	}
	for _, l := range s.FlowLogs {
		t.counters(logLines, map[string]uint64{l.To: l.Lines})
		t.counters(logLost, map[string]uint64{l.To: l.Lost})
		t.gauge(logWaiting, float64(l.Waiting), l.To)
	}
}

// A teller makes samples.
type teller struct{ to chan<- prometheus.Metric }

func (t teller) gauge(d *prometheus.Desc, v float64, labels ...string) {
	t.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (t teller) counters(d *prometheus.Desc, values map[string]uint64) {
	for label, n := range values {
		t.to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
}

// clientStates are all there are, so that none is missing while it is 0.
var clientStates = []string{"direct", "relayed", "idle", "connecting", "away"}

func (t teller) clients(list []gateway.Client) {
	states := map[string]int{}
	grants, most := 0, 0
	for _, k := range list {
		states[k.State]++
		grants += len(k.Authorizations)
		most = max(most, k.Sessions)
	}
	for _, s := range clientStates {
		t.gauge(clientCount, float64(states[s]), s)
	}
	t.gauge(grantCount, float64(grants))
	t.gauge(fullest, float64(most))
}

func (t teller) relays(list []gateway.Relay) {
	with, all := 0, 0
	for _, r := range list {
		if len(r.Allocated) > 0 {
			with++
		}
		all += len(r.Allocated)
	}
	t.gauge(relayUp, float64(with), "yes")
	t.gauge(relayUp, float64(len(list)-with), "no")
	t.gauge(allocations, float64(all))
}

func (t teller) resolutions(r *gateway.Resolutions) {
	t.gauge(running, float64(r.Running))
	t.gauge(waiting, float64(r.Waiting))
	t.counters(outcomes, map[string]uint64{"addresses": r.Addresses, "no_addresses": r.Empty, "failed": r.Failed})
	t.histogram(took, &r.Took)
}

func (t teller) histogram(d *prometheus.Desc, h *gateway.Histogram) {
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, bound := range h.Bounds {
		sum += h.Counts[i]
		buckets[bound.Seconds()] = sum
	}
	sum += h.Counts[len(h.Bounds)]
	t.to <- prometheus.MustNewConstHistogram(d, sum, h.Sum.Seconds(), buckets)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
