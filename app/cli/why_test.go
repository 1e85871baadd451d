package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"stile/app/why"
	"stile/app/why/cause"
	"stile/tunnel/ipc"
)

func TestWhy(t *testing.T) {
	f := serve(t, ipc.SignedOut)
	f.run(t, "why", "127.0.0.1:1").want(t, failed, "Nobody is signed in on this machine.\nSign in with: stile sign-in\n", "")
	f.run(t, "why", "--json", "127.0.0.1:1").want(t, failed, `"code": "signed-out"`, "")
	f.run(t, "why", "--list").want(t, done, "dns-bypassed", "")
	f.run(t, "why", "--list", "--json").want(t, done, `"code": "dns-bypassed"`, "")
	for _, args := range [][]string{{"why"}, {"why", "a/b"}, {"why", "wiki:0"}, {"why", "--list", "wiki"}} {
		f.run(t, args...).want(t, misuse, "", "stile --help")
	}
	none := filepath.Join(t.TempDir(), "none")
	run{}.run(t, none, "why", "127.0.0.1:1").want(t, failed, "sudo systemctl start stiled", "")
}

func TestWhyText(t *testing.T) {
	r := &why.Report{
		Target: "wiki", Code: cause.SiteOffline, Cause: "No gateway of “Munich” is online.\x1b[2J", Next: "Tell your administrator.", Millis: 7,
		Steps: []cause.Step{{Name: "service", Result: cause.OK, Detail: "version 1 answers"}, {Name: "name", Result: cause.Open, Detail: "late"},
			{Name: "access", Result: cause.Failing, Detail: "No gateway of “Munich” is online.\x1b[2J"}},
	}
	const want = `No gateway of "Munich" is online.?[2J
Tell your administrator.

  + service   version 1 answers
  ? name      late
  x access    <- here

Code: site-offline, found in 7 ms.
`
	if got := strings.ReplaceAll(whyText(r, true), "\ufffd", "?"); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := whyText(r, false); !strings.Contains(got, "✗ access    ← here") || !strings.Contains(got, "“Munich”") {
		t.Error(got)
	}
}
