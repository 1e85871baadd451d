package portal

import "testing"

// Everyone is all users; a service account is in the groups that name it.
func TestGroupsOfServiceAccounts(t *testing.T) {
	robot, alice := Actor{Name: "Backup", Service: true}, Actor{Name: "Backup", Email: "alice@example.com"}
	for _, row := range []struct {
		what  string
		group Group
		actor Actor
		want  bool
	}{
		{"a user in Everyone", Group{Everyone: true}, alice, true},
		{"a service account in Everyone", Group{Everyone: true}, robot, false},
		{"a service account by its name", Group{Services: []string{"other", "BACKUP"}}, robot, true},
		{"another service account", Group{Services: []string{"other"}}, robot, false},
		{"a user of that name", Group{Services: []string{"Backup"}}, alice, false},
	} {
		if got := (&group{Group: row.group}).has(row.actor); got != row.want {
			t.Errorf("%s: %v, want %v", row.what, got, row.want)
		}
	}
}
