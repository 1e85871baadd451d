package desktop

import (
	"os"
	"testing"

	"golang.org/x/sys/windows/registry"
)

func value(t *testing.T, key, name string) string {
	t.Helper()
	k, err := registry.OpenKey(registry.CURRENT_USER, key, registry.QUERY_VALUE)
	if err != nil {
		return "none"
	}
	defer k.Close()
	text, _, err := k.GetStringValue(name)
	if err != nil {
		return "none"
	}
	return text
}

func TestTheDesktopOpensOurAddressesWithUs(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	defer Unregister()
	for range 2 {
		if err := Register(self); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range Schemes {
		for _, row := range [][3]string{
			{"", "", "URL:Stile"}, {"", "URL Protocol", ""}, {`\DefaultIcon`, "", `"` + self + `",0`},
			{`\shell\open\command`, "", `"` + self + `" open-deep-link "%1"`},
		} {
			if got := value(t, classes+s+row[0], row[1]); got != row[2] {
				t.Errorf("%s%s %s is %q, want %q", s, row[0], row[1], got, row[2])
			}
		}
	}
	if err := set(classes+Schemes[1], "", "URL:another"); err != nil { // who registered last
		t.Fatal(err)
	}
	for range 2 {
		if err := Unregister(); err != nil {
			t.Fatal(err)
		}
	}
	if got := value(t, classes+Schemes[0], ""); got != "none" {
		t.Errorf("still registered: %q", got)
	}
	if got := value(t, classes+Schemes[1]+`\shell\open\command`, ""); got == "none" {
		t.Error("another program's registration is gone")
	}
	set(classes+Schemes[1], "", "URL:Stile")
	if err := Register("stile.exe"); err == nil {
		t.Error("a relative path")
	}
}

func TestStartAtLogin(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want := func(state Autostart, command ...string) {
		t.Helper()
		if got, err := StartsAtLogin(command...); got != state || err != nil {
			t.Errorf("%v, %v, want %v", got, err, state)
		}
	}
	defer StartAtLogin(false, self)
	want(Absent, self)
	for range 2 {
		if err := StartAtLogin(true, self, "tray", "a b"); err != nil {
			t.Fatal(err)
		}
	}
	want(On, self, "tray", "a b")
	want(Outdated, self)
	if got := value(t, runKey, runValue); got != `"`+self+`" tray "a b"` {
		t.Error(got)
	}
	k, _, err := registry.CreateKey(registry.CURRENT_USER, approved, registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.SetBinaryValue(runValue, []byte{3, 0, 0, 0}) // as the task manager does
	want(Off, self, "tray", "a b")
	if err := StartAtLogin(true, self, "tray", "a b"); err != nil {
		t.Fatal(err)
	}
	want(On, self, "tray", "a b")
	for range 2 {
		if err := StartAtLogin(false, self); err != nil {
			t.Fatal(err)
		}
	}
	want(Absent, self)
}
