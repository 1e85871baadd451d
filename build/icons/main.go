// Icons draws the icons of the tray: go run ./build/icons [FOLDER]. The result
// is part of the repository, below assets/tray.
//
// Each state has a form of its own, because not everybody tells colours apart,
// and panels may be light or dark: every colour but the white inside stands out
// from both.
package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
)

// Sizes of the icons in the panel, and of the marks in the menu, in pixels.
var (
	sizes = []int{16, 22, 24, 32, 48, 64}
	marks = []int{16}
	large = []int{128, 256}
)

var (
	teal  = color.NRGBA{0x0b, 0x95, 0x7c, 0xff}
	grey  = color.NRGBA{0x80, 0x84, 0x8a, 0xff}
	amber = color.NRGBA{0xc7, 0x74, 0x00, 0xff}
	blue  = color.NRGBA{0x2f, 0x7d, 0xe8, 0xff}
	red   = color.NRGBA{0xd8, 0x40, 0x3c, 0xff}
	green = color.NRGBA{0x1f, 0x96, 0x4c, 0xff}
	white = color.NRGBA{0xff, 0xff, 0xff, 0xff}
	clear = color.NRGBA{}
)

// A form is the distance of a point to its border, negative inside. The canvas
// reaches from -1 to 1.
type form func(x, y float64) float64

func disc(cx, cy, r float64) form {
	return func(x, y float64) float64 { return math.Hypot(x-cx, y-cy) - r }
}

func ring(r, width float64) form {
	return func(x, y float64) float64 { return math.Abs(math.Hypot(x, y)-r) - width/2 }
}

// bar is a line with round ends.
func bar(x1, y1, x2, y2, width float64) form {
	return func(x, y float64) float64 {
		dx, dy := x2-x1, y2-y1
		t := math.Max(0, math.Min(1, ((x-x1)*dx+(y-y1)*dy)/(dx*dx+dy*dy)))
		return math.Hypot(x-x1-t*dx, y-y1-t*dy) - width/2
	}
}

// triangle stands on its base and has round corners.
func triangle(top, bottom, half, round float64) form {
	return func(x, y float64) float64 {
		x = math.Abs(x)
		t, b, h := top+2*round, bottom-round, half-2*round
		length := math.Hypot(h, b-t)
		side := (x*(b-t) - (y-t)*h) / length
		d := math.Max(side, y-b)
		if d > 0 { // outside: to the nearest edge or corner
			d = math.Min(bar(0, t, h, b, 0)(x, y), bar(-h, b, h, b, 0)(x, y))
		}
		return d - round
	}
}

func union(forms ...form) form {
	return func(x, y float64) float64 {
		d := math.Inf(1)
		for _, f := range forms {
			d = math.Min(d, f(x, y))
		}
		return d
	}
}

// stile is the way over a fence: two posts with two steps.
func stile(s float64) form {
	const width = 0.2
	return union(bar(-0.34*s, -0.5*s, -0.34*s, 0.5*s, width), bar(0.34*s, -0.5*s, 0.34*s, 0.5*s, width),
		bar(-0.34*s, -0.2*s, 0.34*s, -0.2*s, width), bar(-0.34*s, 0.22*s, 0.34*s, 0.22*s, width))
}

// A layer is painted over those before it; the colour clear wipes them away.
type layer struct {
	form  form
	color color.NRGBA
}

var icons = map[string][]layer{
	"in":      {{disc(0, 0, 0.94), teal}, {stile(0.98), white}},
	"out":     {{ring(0.84, 0.2), grey}, {stile(0.78), grey}},
	"busy":    {{ring(0.84, 0.2), grey}, {union(disc(-0.4, 0, 0.14), disc(0, 0, 0.14), disc(0.4, 0, 0.14)), grey}},
	"trouble": {{triangle(-0.96, 0.86, 1, 0.16), amber}, {union(bar(0, -0.3, 0, 0.2, 0.22), disc(0, 0.54, 0.13)), white}},
}

// update is the mark of a newer release, in the corner of any icon.
var update = []layer{{disc(0.56, 0.56, 0.56), clear}, {disc(0.56, 0.56, 0.42), blue}}

var dots = map[string][]layer{
	"dot-grey":  {{ring(0.5, 0.32), grey}},
	"dot-green": {{disc(0, 0, 0.62), green}},
	"dot-red":   {{disc(0, 0, 0.66), red}, {bar(-0.3, 0, 0.3, 0, 0.22), white}},
}

// paint draws layers on a square canvas.
func paint(layers []layer, side int) *image.NRGBA {
	p := image.NewNRGBA(image.Rect(0, 0, side, side))
	unit := 2 / float64(side)
	for y := range side {
		for x := range side {
			px, py := (float64(x)+0.5)*unit-1, (float64(y)+0.5)*unit-1
			var c [4]float64 // red, green, blue, all times alpha; alpha
			for _, l := range layers {
				cover := math.Max(0, math.Min(1, 0.5-l.form(px, py)/unit))
				to := [4]float64{float64(l.color.R), float64(l.color.G), float64(l.color.B), 1}
				alpha := float64(l.color.A) / 255
				for i := range c {
					c[i] = c[i]*(1-cover) + to[i]*alpha*cover
				}
			}
			if c[3] > 0 {
				p.SetNRGBA(x, y, color.NRGBA{byte(c[0]/c[3] + 0.5), byte(c[1]/c[3] + 0.5), byte(c[2]/c[3] + 0.5), byte(c[3]*255 + 0.5)})
			}
		}
	}
	return p
}

func write(dir, name string, layers []layer, sizes []int) error {
	for _, side := range sizes {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d.png", name, side)))
		if err != nil {
			return err
		}
		err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(f, paint(layers, side))
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func draw(dir string) error {
	for name, layers := range icons {
		if err := write(dir, name, layers, sizes); err != nil {
			return err
		}
		if err := write(dir, name+"-update", append(layers[:len(layers):len(layers)], update...), sizes); err != nil {
			return err
		}
	}
	for name, layers := range dots {
		if err := write(dir, name, layers, marks); err != nil {
			return err
		}
	}
	return write(dir, "in", icons["in"], large)
}

func main() {
	dir := "assets/tray"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := draw(dir); err != nil {
		fmt.Fprintln(os.Stderr, "icons:", err)
		os.Exit(1)
	}
}
