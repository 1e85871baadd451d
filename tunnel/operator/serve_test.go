package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"stile/platform/forward"
	"stile/tunnel/flowlog"
)

// serve answers for a gateway until the test ends, at a socket and at a port.
func serve(t *testing.T, e Engine) (socket, metrics string) {
	t.Helper()
	flows, err := flowlog.Open(filepath.Join(t.TempDir(), "flows"), 0, quiet)
	if err != nil {
		t.Fatal(err)
	}
	o := New(Config{
		Engine: e, Log: quiet, FlowLogs: []*flowlog.Log{flows},
		Conntrack: func() (forward.Tracked, error) { return forward.Tracked{Count: 5, Max: 100}, nil },
	})
	socket = filepath.Join(t.TempDir(), "gateway.sock")
	local, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	remote, err := ListenMetrics("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := o.Serve(ctx, local, remote); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); g.Wait() })
	return socket, remote.Addr().String()
}

func TestCommandsAskTheGateway(t *testing.T) {
	socket, _ := serve(t, newGateway(t, 3))
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	at := Socket{Socket: socket}
	for _, row := range []struct {
		name string
		run  func(json bool, w io.Writer) error
		want []string // of the table
		into any      // of the JSON
	}{
		{"status", func(json bool, w io.Writer) error {
			return (&StatusCommand{Socket: Socket{socket, json}}).run(t.Context(), w, false)
		}, []string{"connected to the portal", "100.64.0.7  alice@corp.example  connecting", "5 of 100 connections"}, new(Status)},
		{"sessions", func(json bool, w io.Writer) error {
			return (&SessionsCommand{Socket: Socket{socket, json}, Limit: 2}).run(t.Context(), w)
		}, []string{"2 of 5 sessions, those with the latest packets; --limit shows more.", "100.64.0.7:10000"}, new(Sessions)},
		{"resources", func(json bool, w io.Writer) error {
			return (&ResourcesCommand{Socket: Socket{socket, json}, Limit: 1}).run(t.Context(), w)
		}, []string{"Wiki  dns  *.corp.example  tcp/443, icmp", "for bob@corp.example", "; then 10.0.0.8", "1 of 2 names; --limit shows more."}, new(Resources)},
	} {
		var text bytes.Buffer
		if err := row.run(false, &text); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		for _, want := range row.want {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: no %q in\n%s", row.name, want, &text)
			}
		}
		text.Reset()
		if err := row.run(true, &text); err != nil {
			t.Errorf("%s --json: %v", row.name, err)
		}
		d := json.NewDecoder(&text)
		d.DisallowUnknownFields()
		if err := d.Decode(row.into); err != nil {
			t.Errorf("%s --json: %v", row.name, err)
		}
	}
	var none any
	if err := at.ask(t.Context(), "/v1/sessions", map[string][]string{"state": {"x"}}, &none); err == nil || !strings.Contains(err.Error(), "is no state") {
		t.Errorf("state x: %v", err)
	}
	if err := at.ask(t.Context(), "/v1/sessions", map[string][]string{"limit": {"many"}}, &none); err == nil || !strings.Contains(err.Error(), "not a number") {
		t.Errorf("limit many: %v", err)
	}
	if err := at.ask(t.Context(), "/v1/resources", map[string][]string{"limit": {"0"}}, &none); err == nil || !strings.Contains(err.Error(), "1 to 100000") {
		t.Errorf("limit 0: %v", err)
	}
	if err := at.ask(t.Context(), "/v2/status", nil, &none); err == nil || !strings.Contains(err.Error(), "knows no /v2/status") {
		t.Errorf("another version: %v", err)
	}
}

func TestWatch(t *testing.T) {
	socket, _ := serve(t, newGateway(t, 0))
	for _, row := range []struct {
		json, terminal bool
		between        string
	}{{false, false, "\n\nGateway "}, {false, true, "\x1b[J\x1b[HGateway "}, {true, false, "}\n{\"version\""}} {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		w := &stopAfter{text: row.between, times: 2, stop: stop}
		k := StatusCommand{Socket: Socket{socket, row.json}, Watch: true, Interval: 10 * time.Millisecond}
		if err := k.run(ctx, w, row.terminal); err != nil {
			t.Errorf("%+v: %v", row, err)
		}
		if bytes.Count(w.got, []byte(row.between)) < 2 {
			t.Errorf("%+v: %q", row, w.got)
		}
	}
}

// stopAfter stops a command once it has written a text so many times.
type stopAfter struct {
	got   []byte
	text  string
	times int
	stop  func()
}

func (s *stopAfter) Write(b []byte) (int, error) {
	s.got = append(s.got, b...)
	if bytes.Count(s.got, []byte(s.text)) >= s.times {
		s.stop()
	}
	return len(b), nil
}

func TestNobodyIsThere(t *testing.T) {
	k := StatusCommand{Socket: Socket{Socket: filepath.Join(t.TempDir(), "none")}}
	if err := k.run(t.Context(), io.Discard, false); err == nil || !strings.Contains(err.Error(), "no gateway runs here") || !strings.Contains(err.Error(), "--socket") {
		t.Errorf("%v", err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&StatusCommand{Socket: Socket{Socket: text}}).run(t.Context(), io.Discard, false); err == nil {
		t.Error("a file is no gateway")
	}
}

// Whoever is not known to the kernel as root or the gateway's user is refused.
// A connection without such a name stands for all others here.
func TestGuard(t *testing.T) {
	o := New(Config{Engine: newGateway(t, 0), Log: quiet})
	here, there := net.Pipe()
	defer there.Close()
	defer here.Close()
	r, _ := http.NewRequestWithContext(context.WithValue(t.Context(), connKey{}, here), "GET", "/v1/status", nil)
	w := &answerOf{header: http.Header{}}
	o.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let in") })).ServeHTTP(w, r)
	if w.status != http.StatusForbidden || !strings.Contains(w.String(), "run the command as root") {
		t.Errorf("%d %s", w.status, w)
	}
}

type answerOf struct {
	bytes.Buffer
	header http.Header
	status int
}

func (a *answerOf) Header() http.Header    { return a.header }
func (a *answerOf) WriteHeader(status int) { a.status = status }

func TestCheckMetrics(t *testing.T) {
	for _, row := range []struct {
		address  string
		anywhere bool
		ok       bool
	}{
		{"127.0.0.1:9464", false, true}, {"[::1]:9464", false, true}, {"127.5.5.5:0", false, true},
		{"0.0.0.0:9464", false, false}, {"[::]:9464", false, false}, {"10.0.0.1:9464", false, false}, {"[::ffff:10.0.0.1]:9464", false, false},
		{"0.0.0.0:9464", true, true}, {"10.0.0.1:9464", true, true},
		{":9464", true, false}, {"localhost:9464", false, false}, {"9464", true, false}, {"", false, false},
	} {
		if err := CheckMetrics(row.address, row.anywhere); (err == nil) != row.ok {
			t.Errorf("%q, anywhere %v: %v", row.address, row.anywhere, err)
		}
	}
}

// The metrics are what Prometheus reads, each with type and help, and they are
// all there from the beginning, so that a rule over them does not wait for the
// first trouble.
func TestMetrics(t *testing.T) {
	socket, address := serve(t, newGateway(t, 3))
	families := scrape(t, http.DefaultClient, "http://"+address+"/metrics")
	want := map[string]dto.MetricType{
		"build_info": dto.MetricType_GAUGE, "portal_up": dto.MetricType_GAUGE, "clients": dto.MetricType_GAUGE, "authorizations": dto.MetricType_GAUGE,
		"sessions": dto.MetricType_GAUGE, "sessions_fullest_client": dto.MetricType_GAUGE, "relays": dto.MetricType_GAUGE, "relay_allocations": dto.MetricType_GAUGE,
		"dropped_packets_total": dto.MetricType_COUNTER, "unreadable_packets_total": dto.MetricType_COUNTER, "events_total": dto.MetricType_COUNTER,
		"packets_total": dto.MetricType_COUNTER, "bytes_total": dto.MetricType_COUNTER,
		"resolutions_running": dto.MetricType_GAUGE, "resolutions_waiting": dto.MetricType_GAUGE, "resolutions_total": dto.MetricType_COUNTER, "resolution_seconds": dto.MetricType_HISTOGRAM,
		"first_answer_seconds": dto.MetricType_HISTOGRAM,
		"conntrack_entries":    dto.MetricType_GAUGE, "conntrack_entries_limit": dto.MetricType_GAUGE,
		"flow_log_lines_total": dto.MetricType_COUNTER, "flow_log_lost_lines_total": dto.MetricType_COUNTER, "flow_log_waiting_lines": dto.MetricType_GAUGE,
	}
	for name, f := range families {
		ours, is := strings.CutPrefix(name, "stile_gateway_")
		if !is {
			continue
		}
		if f.GetType() != want[ours] || f.GetHelp() == "" || want[ours] == 0 && ours != "" && f.GetType() != dto.MetricType_COUNTER {
			t.Errorf("%s: %v %q", name, f.GetType(), f.GetHelp())
		}
		delete(want, ours)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	for text, n := range map[string]float64{
		"sessions": 5, "portal_up": 1, "clients{connecting}": 2, "clients{away}": 0, "authorizations": 3, "packets_total{out}": 1, "bytes_total{in}": 4000,
		"sessions_fullest_client": 4, "dropped_packets_total{filtered}": 0, "unreadable_packets_total{forged}": 7, "relays{no}": 1, "conntrack_entries": 5, "resolutions_total{failed}": 0,
	} {
		if got := sample(families, text); got != n {
			t.Errorf("%s is %v, want %v", text, got, n)
		}
	}
	for _, name := range []string{"resolution_seconds", "first_answer_seconds"} {
		if h := families["stile_gateway_"+name].GetMetric()[0].GetHistogram(); len(h.GetBucket()) < 11 || h.GetSampleCount() != 0 {
			t.Errorf("%s: %v", name, h)
		}
	}
	for _, others := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if families[others] == nil {
			t.Errorf("no %s", others)
		}
	}
	local := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	if again := scrape(t, &local, "http://gateway/metrics"); len(again) < len(families) {
		t.Errorf("%d families at the socket, %d at the port", len(again), len(families))
	}
	local.CloseIdleConnections()
	if r, err := http.Get("http://" + address + "/v1/status"); err != nil || r.StatusCode != http.StatusNotFound {
		t.Errorf("the port tells more than metrics: %v, %v", r, err)
	} else {
		r.Body.Close()
	}
}

func scrape(t *testing.T, c *http.Client, url string) map[string]*dto.MetricFamily {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%s, %v", r.Status, r.Header)
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sample finds the value of NAME or NAME{LABEL}.
func sample(families map[string]*dto.MetricFamily, text string) float64 {
	name, label, _ := strings.Cut(strings.TrimSuffix(text, "}"), "{")
	for _, m := range families["stile_gateway_"+name].GetMetric() {
		if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label }) {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1
}
