package console

import (
	"bytes"
	"cmp"
	"context"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"stile/app/menu"
	"stile/build/chrome"
)

// start is a console that answers browsers until the test ends.
func start(t *testing.T, d Desk, prepare ...func(*Console)) *Console {
	t.Helper()
	c, err := Listen(Config{Desk: d})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

// browser is a real one; these tests run if STILE_BROWSER is set, as in
// STILE_BROWSER=1 go test ./app/console.
func browser(t *testing.T) *chrome.Browser {
	t.Helper()
	if os.Getenv("STILE_BROWSER") == "" {
		t.Skip("set STILE_BROWSER=1 to test in a browser")
	}
	return chrome.Start(t)
}

// The pictures of the documentation: STILE_SHOTS=assets/shots in the
// repository's folder writes them anew.
func TestShots(t *testing.T) {
	dir := os.Getenv("STILE_SHOTS")
	if dir == "" {
		t.Skip("set STILE_SHOTS to a folder to write pictures of the pages there")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("../..", dir)
	}
	b := chrome.Start(t)
	d := newDesk(t)
	c := start(t, d, func(c *Console) { lived(t, c, d) })
	p := b.Page()
	p.Go(c.URL(menu.StatusPage))
	at := "http://" + c.host + c.base + "/"
	for _, s := range []struct {
		file, page, theme string
		width, height     int
	}{
		{"status", "status", "light", 1200, 860},
		{"status-dark", "status", "dark", 1200, 860},
		{"status-phone", "status", "light", 360, 780},
		{"resources", "resources", "light", 1200, 900},
		{"resources-phone", "resources", "dark", 360, 780},
		{"why", "why?target=files.lisbon.acme.example", "light", 1200, 760},
		{"diagnostics", "diagnostics", "light", 1200, 1290},
		{"settings", "settings", "light", 1200, 1240},
		{"about", "about", "light", 1200, 800},
	} {
		p.Size(s.width, s.height)
		p.Prefer("prefers-color-scheme", s.theme)
		p.Go(at + s.page)
		p.Wait(`document.documentElement.classList.contains("live") || !document.body.dataset.live`)
		time.Sleep(300 * time.Millisecond)
		shoot(t, p, filepath.Join(dir, "console-"+s.file+".png"))
	}
	d.set(func(v *menu.View) { *v = signedOut() })
	p.Size(1200, 460)
	p.Prefer("prefers-color-scheme", "light")
	p.Go(at + "status")
	time.Sleep(300 * time.Millisecond)
	shoot(t, p, filepath.Join(dir, "console-signed-out.png"))
	for _, w := range p.Wrong() {
		t.Error(w)
	}
}

// shoot writes a picture with its 256 most frequent colours: pages have few.
func shoot(t *testing.T, p *chrome.Page, path string) {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(p.Shot(false)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, fewer(picture)); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 150<<10 {
		t.Errorf("%s has %d kB", path, b.Len()>>10)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func fewer(p image.Image) image.Image {
	count := map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(p.At(x, y)).(color.RGBA) }
	r := p.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	often := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(uint32(a.R)<<16|uint32(a.G)<<8|uint32(a.B), uint32(b.R)<<16|uint32(b.G)<<8|uint32(b.B)))
	})
	var palette color.Palette
	for _, c := range often[:min(256, len(often))] {
		palette = append(palette, c)
	}
	few, nearest := image.NewPaletted(r, palette), map[color.RGBA]uint8{}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := at(x, y)
			n, known := nearest[c]
			if !known {
				n = uint8(palette.Index(c))
				nearest[c] = n
			}
			few.SetColorIndex(x, y, n)
		}
	}
	return few
}
