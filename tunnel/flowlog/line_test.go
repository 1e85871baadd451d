package flowlog

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"stile/tunnel/core"
	"stile/tunnel/id"
	"stile/tunnel/packet"
)

var (
	epoch = time.Date(2026, 11, 23, 8, 30, 0, 0, time.UTC)
	alice = &core.Grant{
		Resource: id.Resource{15: 5}, ResourceName: "Wiki", Actor: id.Actor{15: 4}, ActorName: "alice@corp.example", Policy: id.Policy{15: 6},
	}
)

func session() core.Flow {
	return core.Flow{
		Kind: core.FlowStarted, At: epoch, Client: id.Client{15: 1}, ClientAddr: netip.MustParseAddr("100.64.1.1"), Grant: alice,
		Proto: packet.TCP, ClientPort: 5000, Outside: 5000, Port: 443, Name: "wiki.corp.example",
		Proxy: netip.MustParseAddr("100.96.0.1"), Real: netip.MustParseAddr("10.0.0.7"), Started: epoch,
		PacketsOut: 1, BytesOut: 60,
	}
}

// Each kind of line as administrators know it. A change here breaks their tools.
func TestLines(t *testing.T) {
	change := func(f func(*core.Flow)) core.Flow { s := session(); f(&s); return s }
	const zeros = "00000000-0000-0000-0000-0000000000"
	for _, row := range []struct {
		name string
		flow core.Flow
		want string
	}{
		{"start", session(), `{"time":"2026-11-23T09:30:00.000Z","kind":"started","client":"` + zeros + `01","client_ip":"100.64.1.1","client_port":5000,"actor":"alice@corp.example","actor_id":"` + zeros + `04","policy_id":"` + zeros + `06","resource":"Wiki","resource_id":"` + zeros + `05","name":"wiki.corp.example","protocol":"tcp","proxy_ip":"100.96.0.1","real_ip":"10.0.0.7","port":443,"packets_out":1,"bytes_out":60,"packets_in":0,"bytes_in":0}`},
		{"end", change(func(f *core.Flow) {
			f.Kind, f.At, f.Reason, f.Outside = core.FlowEnded, epoch.Add(90*time.Second+time.Millisecond*1234), "finished", 7000
		}), `{"time":"2026-11-23T09:31:31.234Z","kind":"ended","reason":"finished","client":"` + zeros + `01","client_ip":"100.64.1.1","client_port":5000,"actor":"alice@corp.example","actor_id":"` + zeros + `04","policy_id":"` + zeros + `06","resource":"Wiki","resource_id":"` + zeros + `05","name":"wiki.corp.example","protocol":"tcp","proxy_ip":"100.96.0.1","real_ip":"10.0.0.7","port":443,"outside_port":7000,"packets_out":1,"bytes_out":60,"packets_in":0,"bytes_in":0,"duration":91.234}`},
		{"ping without translation, restored", change(func(f *core.Flow) {
			f.Proto, f.Port, f.Proxy, f.Name, f.Grant, f.ClientPort, f.Outside = packet.ICMP, 0, f.Real, "", &core.Grant{Resource: id.Resource{15: 5}}, 0, 9
		}), `{"time":"2026-11-23T09:30:00.000Z","kind":"started","client":"` + zeros + `01","client_ip":"100.64.1.1","echo_id":0,"resource_id":"` + zeros + `05","protocol":"icmp","real_ip":"10.0.0.7","outside_echo_id":9,"packets_out":1,"bytes_out":60,"packets_in":0,"bytes_in":0}`},
		{"denied", core.Flow{Kind: core.FlowDenied, At: epoch.Add(time.Minute), Reason: "no session", Inbound: true, Client: id.Client{15: 1}, ClientAddr: netip.MustParseAddr("fd00:2021:1111::1:1"), Proto: packet.UDP, Real: netip.MustParseAddr("2001:db8::1"), Port: 53, Outside: 9, Started: epoch, PacketsIn: 3, BytesIn: 300},
			`{"time":"2026-11-23T09:31:00.000Z","kind":"denied","reason":"no session","direction":"in","client":"` + zeros + `01","client_ip":"fd00:2021:1111::1:1","protocol":"udp","real_ip":"2001:db8::1","port":53,"outside_port":9,"packets_out":0,"bytes_out":0,"packets_in":3,"bytes_in":300,"duration":60}`},
		{"many kinds", core.Flow{Kind: core.FlowDenied, At: epoch, Reason: "filtered", Client: id.Client{15: 1}, PacketsOut: 9},
			`{"time":"2026-11-23T09:30:00.000Z","kind":"denied","reason":"filtered","direction":"out","client":"` + zeros + `01","protocol":"any","packets_out":9,"bytes_out":0,"packets_in":0,"bytes_in":0}`},
		{"another protocol", core.Flow{Kind: core.FlowStarted, At: epoch, Proto: 47}, `{"time":"2026-11-23T09:30:00.000Z","kind":"started","protocol":"47","packets_out":0,"bytes_out":0,"packets_in":0,"bytes_in":0}`},
	} {
		got := string(appendLine(nil, &row.flow, time.Hour))
		if got != row.want+"\n" {
			t.Errorf("%s:\n got %swant %s", row.name, got, row.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s: not JSON", row.name)
		}
	}
	if got, want := string(appendLost(nil, 7, epoch)), `{"time":"2026-11-23T08:30:00.000Z","kind":"lost","lines":7}`+"\n"; got != want || !json.Valid([]byte(got)) {
		t.Errorf("got %swant %s", got, want)
	}
}

// A portal or a client may call things what it likes: each line stays one line
// of JSON with that text in it.
func FuzzText(f *testing.F) {
	for _, text := range []string{"", "plain", `"`, "\\", "a\nb", "\x00", "ü", "\xff", "</script>", "\u2028", strings.Repeat("x", 300), strings.Repeat("ü", 200)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := session()
		g := *alice
		g.ResourceName, g.ActorName, s.Grant, s.Name = text, text, &g, text
		line := appendLine(nil, &s, 0)
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil || strings.Count(string(line), "\n") != 1 {
			t.Fatalf("%q: %v", line, err)
		}
		want := strings.ToValidUTF8(text, "\uFFFD")
		if len(text) > maxText {
			want = strings.ToValidUTF8(strings.ToValidUTF8(text[:maxText], "")+"…", "\uFFFD")
		}
		for _, field := range []string{"resource", "actor", "name"} {
			if name, _ := got[field].(string); len([]rune(name)) != len([]rune(want)) && utf8Runs(text) {
				t.Errorf("%s is %q, want %q", field, name, want)
			}
		}
	})
}

// utf8Runs: of what is no UTF-8, encoders may make one mark or several.
func utf8Runs(text string) bool { return strings.ToValidUTF8(text, "") == text }
