package tray

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"testing"

	"stile/app/menu"
	"stile/app/words"
	"stile/platform/tray"
	"stile/tunnel/id"
	"stile/tunnel/ipc"
)

// connected is a session with n resources.
func connected(n int) menu.View {
	s := &ipc.State{Session: ipc.Session{Phase: ipc.Connected, PortalUp: true, Token: ipc.TokenFromSignIn, Actor: "Ada"}}
	for i := range n {
		s.Resources = append(s.Resources, ipc.Resource{
			ID: id.Resource{14: byte(i >> 8), 15: byte(i)}, Type: "dns", Name: fmt.Sprintf("Resource & number_%03d", i),
			Address: fmt.Sprintf("r%d.example.com", i), Sites: []string{"Office"}, State: ipc.Online,
		})
	}
	return menu.View{Words: &words.English, Service: menu.Present, State: s}
}

func TestTheMenuIsHandedOnWhole(t *testing.T) {
	m := menu.Build(connected(40))
	var same func(a []menu.Item, b []tray.Item)
	n := 0
	same = func(a []menu.Item, b []tray.Item) {
		if len(a) != len(b) {
			t.Fatalf("%d items became %d", len(a), len(b))
		}
		for i := range a {
			n++
			if a[i].Key != b[i].Key || a[i].Title != b[i].Title || a[i].On != b[i].On || a[i].Kind.String() != [...]string{"text", "action", "check", "sub", "separator"}[b[i].Kind] {
				t.Errorf("%+v became %+v", a[i], b[i])
			}
			if (a[i].Command == nil) != (b[i].Command == nil) || a[i].Command != nil && b[i].Command != a[i].Command {
				t.Errorf("%q means %v, not %v", a[i].Key, b[i].Command, a[i].Command)
			}
			if (a[i].Dot != menu.NoDot) != (b[i].Picture != "") {
				t.Errorf("%q has lost its dot", a[i].Key)
			}
			same(a[i].Items, b[i].Items)
		}
	}
	l := look(m)
	same(m.Items, l.Items)
	if n < 400 || len(l.Icon) != len(sizes) || l.Tooltip != "Stile" {
		t.Error(n, len(l.Icon), l.Tooltip)
	}
}

// all are the pictures with a name and a size.
func all(t *testing.T) map[string]image.Image {
	t.Helper()
	list := map[string]image.Image{}
	add := func(name, file string) {
		p, err := png.Decode(bytes.NewReader([]byte(file)))
		if err != nil {
			t.Fatal(name, ": ", err)
		}
		list[name] = p
	}
	for icon, files := range icons {
		for n, f := range files {
			add(fmt.Sprint(icon.Shape, icon.Dot, sizes[n]), f)
			if side := list[fmt.Sprint(icon.Shape, icon.Dot, sizes[n])].Bounds(); side.Dx() != sizes[n] || side.Dy() != sizes[n] {
				t.Errorf("%v: %v", icon, side)
			}
		}
	}
	for d, f := range dots {
		add("dot "+d.String(), f)
	}
	return list
}

// Whoever cannot tell the colours apart can tell the forms.
func TestIconsDifferInForm(t *testing.T) {
	list := all(t)
	for _, side := range sizes {
		names := []string{}
		for _, shape := range []menu.Shape{menu.Busy, menu.Out, menu.In, menu.Trouble} {
			names = append(names, fmt.Sprint(shape, false, side), fmt.Sprint(shape, true, side))
		}
		for i, a := range names {
			for _, b := range names[:i] {
				if d := difference(list[a], list[b]); d < 0.05 {
					t.Errorf("%s and %s differ in %.1f %% of their pixels", a, b, 100*d)
				}
			}
		}
	}
	for _, pair := range [][2]string{{"dot grey", "dot green"}, {"dot grey", "dot red"}, {"dot green", "dot red"}} {
		if d := difference(list[pair[0]], list[pair[1]]); d < 0.02 {
			t.Errorf("%v differ in %.1f %% of their pixels", pair, 100*d)
		}
	}
}

// difference is how much of two pictures is not alike without colours: what can
// be seen through, what is white, and the rest.
func difference(a, b image.Image) float64 {
	n, size := 0, a.Bounds()
	kind := func(c color.Color) int {
		switch n := color.NRGBAModel.Convert(c).(color.NRGBA); {
		case n.A < 0x80:
			return 0
		case luminance(n) > 0.8:
			return 1
		}
		return 2
	}
	for x := range size.Dx() {
		for y := range size.Dy() {
			if kind(a.At(x, y)) != kind(b.At(x, y)) {
				n++
			}
		}
	}
	return float64(n) / float64(size.Dx()*size.Dy())
}

// Panels are light or dark, and nobody tells which.
func TestIconsStandOutFromAnyPanel(t *testing.T) {
	for name, p := range all(t) {
		for _, panel := range []color.NRGBA{{0xff, 0xff, 0xff, 0xff}, {0xf6, 0xf5, 0xf4, 0xff}, {0x1e, 0x1e, 0x1e, 0xff}, {0, 0, 0, 0xff}} {
			seen, size := 0, p.Bounds()
			for x := range size.Dx() {
				for y := range size.Dy() {
					if c := color.NRGBAModel.Convert(p.At(x, y)).(color.NRGBA); c.A > 0xc0 && contrast(c, panel) >= 3 {
						seen++
					}
				}
			}
			if part := float64(seen) / float64(size.Dx()*size.Dy()); part < 0.1 {
				t.Errorf("on %v only %.0f %% of %s stand out", panel, 100*part, name)
			}
		}
	}
}

// contrast is that of two colours (WCAG 2.2, relative luminance).
func contrast(a, b color.NRGBA) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c color.NRGBA) float64 {
	linear := func(v uint8) float64 {
		if s := float64(v) / 255; s > 0.04045 {
			return math.Pow((s+0.055)/1.055, 2.4)
		} else {
			return s / 12.92
		}
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

func BenchmarkBuild500(b *testing.B) {
	v := connected(500)
	for b.Loop() {
		look(menu.Build(v))
	}
}
