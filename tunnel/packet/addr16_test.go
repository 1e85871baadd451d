package packet

import (
	"net/netip"
	"testing"
)

func TestAddr16(t *testing.T) {
	for _, text := range []string{"1.2.3.4", "0.0.0.0", "255.254.253.252", "::", "2001:db8::1", "ffff:eeee:dddd:cccc:bbbb:aaaa:9999:8888"} {
		a := netip.MustParseAddr(text)
		got := Addr16Of(a)
		if got.As16() != a.As16() {
			t.Errorf("%v: %x, want %x", a, got.As16(), a.As16())
		}
		back := netip.AddrFrom16(got.As16())
		if a.Is4() {
			back = back.Unmap()
		}
		if back != a {
			t.Errorf("%v came back as %v", a, back)
		}
	}
	if Addr16Of(netip.Addr{}) != (Addr16{}) {
		t.Error("an invalid address is something")
	}
}
