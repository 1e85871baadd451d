package serve

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"stile/tunnel/id"
	"stile/tunnel/portal"
	"stile/tunnel/wire"
)

func TestAnInitIsShortenedToWhatClientsTake(t *testing.T) {
	logs := &safeBuffer{}
	s := &session{kind: portal.ClientKind, version: wire.V2, log: slog.New(slog.NewTextHandler(logs, nil))}
	init := wire.ClientInit{
		Interface: wire.Interface{IPv4: netip.MustParseAddr("100.64.0.2"), IPv6: netip.MustParseAddr("fd00:2021:1111::2")},
		FlowLogs:  &wire.FlowLogs{APIURL: "https://portal.example.net"},
	}
	for i := range 100_000 {
		init.Resources = append(init.Resources, wire.Resource{
			ID: id.Resource{byte(i >> 16), byte(i >> 8), byte(i)}, Type: wire.DNS, Name: strings.Repeat("n", i%200), Address: fmt.Sprintf("h%d.example.net", i),
			Sites: []wire.Site{{Name: "Office"}},
		})
	}
	for _, row := range []struct{ resources, least int }{{100, 100}, {20_000, 20_000}, {100_000, 20_000}} {
		m := init
		m.Resources = m.Resources[:row.resources]
		f, err := s.encode(outgoing{message: m})
		if err != nil {
			t.Fatal(err)
		}
		frame := wire.AppendFrame(nil, f)
		if len(frame) > wire.MaxFrame || row.resources == 100_000 && len(frame) < wire.MaxFrame*9/10 {
			t.Errorf("%d resources: %d bytes", row.resources, len(frame))
		}
		got, err := wire.DecodeForClient(wire.V2, f.Event, f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		told := got.(wire.ClientInit).Resources
		if len(told) < row.least || told[len(told)-1].ID != m.Resources[len(told)-1].ID {
			t.Errorf("%d resources: %d are told", row.resources, len(told))
		}
		if said := strings.Contains(logs.String(), "let policies grant fewer"); said != (len(told) < row.resources) {
			t.Errorf("%d resources: the log says %q", row.resources, logs)
		}
	}
}
