package main

import (
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// The icons in the repository are those that this program draws.
func TestIconsAreUpToDate(t *testing.T) {
	dir := t.TempDir()
	if err := draw(dir); err != nil {
		t.Fatal(err)
	}
	const kept = "../../assets/tray"
	drawn, _ := filepath.Glob(filepath.Join(dir, "*.png"))
	files, _ := filepath.Glob(filepath.Join(kept, "*"))
	if len(drawn) == 0 || len(drawn) != len(files) {
		t.Fatalf("%d icons are drawn, %d are kept", len(drawn), len(files))
	}
	for _, file := range drawn {
		a, b := read(t, file), read(t, filepath.Join(kept, filepath.Base(file)))
		if a.Bounds() != b.Bounds() {
			t.Fatalf("%s: other sizes: run build/icons", file)
		}
		for x := range a.Bounds().Dx() {
			for y := range a.Bounds().Dy() {
				r, g, bl, al := a.At(x, y).RGBA()
				r2, g2, b2, al2 := b.At(x, y).RGBA()
				for i, v := range [4]uint32{r, g, bl, al} { // machines may round otherwise
					if d := int(v) - int([4]uint32{r2, g2, b2, al2}[i]); d > 0x300 || d < -0x300 {
						t.Fatalf("%s is another picture: run build/icons", filepath.Base(file))
					}
				}
			}
		}
	}
}

func read(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := png.Decode(f)
	if err != nil {
		t.Fatal(path, ": ", err)
	}
	return p
}
