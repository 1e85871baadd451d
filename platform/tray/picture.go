package tray

import (
	"bytes"
	"image"
	"image/draw"
	"image/png"
)

// decode reads a PNG.
func decode(picture string) (*image.NRGBA, error) {
	source, err := png.Decode(bytes.NewReader([]byte(picture)))
	if err != nil {
		return nil, err
	}
	if n, is := source.(*image.NRGBA); is {
		return n, nil
	}
	n := image.NewNRGBA(image.Rect(0, 0, source.Bounds().Dx(), source.Bounds().Dy()))
	draw.Draw(n, n.Rect, source, source.Bounds().Min, draw.Src)
	return n, nil
}
