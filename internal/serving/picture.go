package serving

import (
	"bytes"
	"image"
	"image/jpeg"
)

// Picture returns a JPEG of about a kilobyte, so that decoding adds little to the cost of a probe.
func Picture() ([]byte, error) {
	const side = 64
	gradient := image.NewGray(image.Rect(0, 0, side, side))
	for i := range gradient.Pix {
		gradient.Pix[i] = uint8(i % (4 * side))
	}
	var encoded bytes.Buffer
	err := jpeg.Encode(&encoded, gradient, nil)
	return encoded.Bytes(), err
}
