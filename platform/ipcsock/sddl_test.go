package ipcsock

import (
	"strings"
	"testing"
)

func TestRightsOnAPipe(t *testing.T) {
	const service = "O:SYD:P(D;;GA;;;NU)(D;;GA;;;AN)(A;;GA;;;SY)(A;;0x12019b;;;IU)"
	for owner, want := range map[string]string{
		"": service, systemSID: service,
		"S-1-5-21-1-2-3-1001": "O:S-1-5-21-1-2-3-1001D:P(D;;GA;;;NU)(D;;GA;;;AN)(A;;GA;;;SY)(A;;GA;;;S-1-5-21-1-2-3-1001)(A;;0x12019b;;;IU)",
	} {
		if got := describe(owner); got != want {
			t.Errorf("%q: %s, want %s", owner, got, want)
		}
	}
	for _, everybody := range []string{"WD", "AU", "BU", "BG"} {
		if strings.Contains(describe(""), ";"+everybody+")") {
			t.Errorf("%s may use the pipe", everybody)
		}
	}
}

func TestUsersOfWindows(t *testing.T) {
	for _, row := range []struct {
		p                  Peer
		admin, interactive bool
		user               string
	}{
		{Peer{UID: 0}, true, false, "0"},
		{Peer{UID: 1000}, false, false, "1000"},
		{Peer{UID: noID, SID: systemSID}, true, false, systemSID},
		{Peer{UID: noID, SID: "S-1-5-21-1-2-3-1001", Session: 2}, false, true, "S-1-5-21-1-2-3-1001"},
		{Peer{UID: noID, SID: "S-1-5-21-1-2-3-1001", Session: 2, elevated: true}, true, true, "S-1-5-21-1-2-3-1001"},
		{Peer{UID: 0, SID: "S-1-5-21-1-2-3-1001"}, false, false, "S-1-5-21-1-2-3-1001"}, // numbers do not count there
	} {
		if row.p.Admin() != row.admin || row.p.Interactive() != row.interactive || row.p.User() != row.user {
			t.Errorf("%+v", row.p)
		}
	}
}
