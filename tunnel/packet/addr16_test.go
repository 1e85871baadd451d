package packet

import (
	"net/netip"
	"testing"
)

func TestAddr16(t *testing.T) {
	for _, text := range []string{"1.2.3.4", "0.0.0.0", "255.254.253.252", "::", "::ffff:1.2.3.4", "2001:db8::1", "ffff:eeee:dddd:cccc:bbbb:aaaa:9999:8888"} {
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

// What packets say of their ends, both ways of saying it.
func TestEndsOfPackets(t *testing.T) {
	for _, ends := range [][2]string{{"1.2.3.4", "250.251.252.253"}, {"2001:db8:1:2:3:4:5:6", "fd00:1111:2222:3333:4444:5555:6666:7777"}} {
		src, dst := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		p, err := Parse(AppendUDP(nil, netip.AddrPortFrom(src, 1), netip.AddrPortFrom(dst, 2), nil))
		if err != nil {
			t.Fatal(err)
		}
		if p.Src16() != Addr16Of(src) || p.Dst16() != Addr16Of(dst) {
			t.Errorf("from %x to %x, want %v, %v", p.Src16(), p.Dst16(), src, dst)
		}
		p.SetSrc16(Addr16Of(dst))
		p.SetDst16(Addr16Of(src))
		if p.Src() != dst || p.Dst() != src || !p.ValidChecksums() {
			t.Errorf("changed: from %v to %v, checksums right: %v", p.Src(), p.Dst(), p.ValidChecksums())
		}
	}
}
