package wire

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"stile/tunnel/id"
)

// The examples of spec connectivity.md 5.2; the second is also B.12, whose
// payload is 92 bytes.
const (
	assignedJSON = `{"resource":"c0000000-0000-4000-8000-0000000000aa","domain":"example.com","proxy_ips":["100.96.0.1","100.96.0.2","100.96.0.3","100.96.0.4","fd00:2021:1111:8000::","fd00:2021:1111:8000::1","fd00:2021:1111:8000::2","fd00:2021:1111:8000::3"]}`
	statusJSON   = `{"resource":"c0000000-0000-4000-8000-0000000000aa","domain":"example.com","status":"Active"}`
)

func TestControlGolden(t *testing.T) {
	a, err := ParseAssignedIPs([]byte(assignedJSON))
	if err != nil || a.Domain != "example.com" || len(a.ProxyIPs) != 8 || a.ProxyIPs[4] != netip.MustParseAddr("fd00:2021:1111:8000::") {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := string(a.Append(nil)); got != assignedJSON {
		t.Errorf("got  %s\nwant %s", got, assignedJSON)
	}
	d, err := ParseDomainStatus([]byte(statusJSON))
	if want := (DomainStatus{must(id.Resource{}, "c0000000-0000-4000-8000-0000000000aa"), "example.com", true, Unsaid, Unsaid}); err != nil || d != want {
		t.Fatalf("%+v, %v; want %+v", d, err, want)
	}
	if got := string(d.Append(nil)); got != statusJSON || len(got) != 140-48 {
		t.Errorf("got  %s (%d bytes)\nwant %s", got, len(got), statusJSON)
	}
}

func TestControlStrictness(t *testing.T) {
	for _, row := range []struct {
		name, old, new string
		ok             bool
	}{
		{"unknown field", `{"resource"`, `{"x":null,"resource"`, true},
		{"one family", `,"fd00:2021:1111:8000::","fd00:2021:1111:8000::1","fd00:2021:1111:8000::2","fd00:2021:1111:8000::3"`, "", true},
		{"addresses null", `["100.96.0.1","100.96.0.2","100.96.0.3","100.96.0.4","fd00:2021:1111:8000::","fd00:2021:1111:8000::1","fd00:2021:1111:8000::2","fd00:2021:1111:8000::3"]`, "null", false},
		{"zone", `"fd00:2021:1111:8000::3"`, `"fe80::1%eth0"`, false},
		{"empty address", `"100.96.0.1"`, `""`, false},
		{"seventeen addresses", `"100.96.0.1"`, strings.Repeat(`"100.96.0.1",`, 9) + `"100.96.0.1"`, false},
		{"label too long", "example.com", strings.Repeat("a", 64), false},
		{"name too long", "example.com", strings.Repeat("a.", 127) + "a", false},
		{"empty name", "example.com", "", false},
		{"larger than a packet", `{"resource"`, `{"x":"` + strings.Repeat("a", 1232) + `","resource"`, false},
		{"cut off", `"]}`, ``, false},
	} {
		_, err := ParseAssignedIPs([]byte(strings.Replace(assignedJSON, row.old, row.new, 1)))
		if (err == nil) != row.ok {
			t.Errorf("%s: %v, want ok %v", row.name, err, row.ok)
		}
	}
	for status, active := range map[string]bool{"Active": true, "Inactive": false, "active": false, "Exploded": false} {
		d, err := ParseDomainStatus([]byte(strings.Replace(statusJSON, "Active", status, 1)))
		if err != nil || d.Active != active {
			t.Errorf("%s: %+v, %v", status, d, err)
		}
	}
}

// Our own gateways may say for which families a name has addresses.
func TestO2FamiliesOfADomainStatus(t *testing.T) {
	for members, want := range map[string][2]Optional{
		``:                         {Unsaid, Unsaid},
		`,"v4":true,"v6":false`:    {Yes, No},
		`,"v6":true`:               {Unsaid, Yes},
		`,"v4":null,"v6":"no"`:     {Unsaid, Unsaid},
		`,"v4":1,"v6":{"v6":true}`: {Unsaid, Unsaid},
	} {
		text := strings.TrimSuffix(statusJSON, "}") + members + "}"
		d, err := ParseDomainStatus([]byte(text))
		if err != nil || d.V4 != want[0] || d.V6 != want[1] || !d.Active {
			t.Errorf("%s: %+v, %v", text, d, err)
		}
	}
	d := DomainStatus{Domain: "example.com", Active: true, V4: Yes, V6: No}
	if got, want := string(d.Append(nil)), `{"resource":"00000000-0000-0000-0000-000000000000","domain":"example.com","status":"Active","v4":true,"v6":false}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzAssignedIPs(f *testing.F) {
	f.Add([]byte(assignedJSON))
	f.Add([]byte(`{"resource":"c0000000-0000-4000-8000-0000000000aa","domain":"a.","proxy_ips":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAssignedIPs(b)
		if err != nil {
			return
		}
		if again, err := ParseAssignedIPs(a.Append(nil)); err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("%+v → %+v, %v", a, again, err)
		}
	})
}

func FuzzDomainStatus(f *testing.F) {
	f.Add([]byte(statusJSON))
	f.Add([]byte(strings.Replace(statusJSON, "Active", "\\u0041", 1)))
	f.Add([]byte(strings.Replace(statusJSON, "}", `,"v4":true,"v6":false}`, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDomainStatus(b)
		if err != nil {
			return
		}
		if again, err := ParseDomainStatus(d.Append(nil)); err != nil || again != d {
			t.Fatalf("%+v → %+v, %v", d, again, err)
		}
	})
}
