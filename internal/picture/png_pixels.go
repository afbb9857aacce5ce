package picture

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"errors"
	"image"
	"image/png"
	"io"
)

// pngHead is what IHDR says.
type pngHead struct {
	width, height uint64
	depth, colour byte
	interlaced    bool
}

// pngPass is a part of an interlaced picture, or all of another.
type pngPass struct{ rows, row uint64 } // a row is that many bytes, behind one for its filter

// passes returns the rows of the pixels: seven passes if they are interlaced.
func (h pngHead) passes() []pngPass {
	channels := map[byte]uint64{0: 1, 2: 3, pngPalette: 1, 4: 2, 6: 4}[h.colour]
	pass := func(width, height uint64) pngPass {
		if width == 0 {
			return pngPass{}
		}
		return pngPass{height, (width*channels*uint64(h.depth) + 7) / 8}
	}
	if !h.interlaced {
		return []pngPass{pass(h.width, h.height)}
	}
	var passes []pngPass
	for _, p := range []struct{ left, top, right, down uint64 }{ // PNG specification, 8.2
		{0, 0, 8, 8},
		{4, 0, 8, 8},
		{0, 4, 4, 8},
		{2, 0, 4, 4},
		{0, 2, 2, 4},
		{1, 0, 2, 2},
		{0, 1, 1, 2},
	} {
		passes = append(passes, pass((h.width+p.right-1-p.left)/p.right, (h.height+p.down-1-p.top)/p.down))
	}
	return passes
}

// pngFilters is the number of filters of a row (PNG specification, 9.1).
const pngFilters = 5

// decodePNG checks the pixels of a picture that is not larger than DefaultLimits allow.
func decodePNG(data []byte, w pngWalk) error {
	if w.head.width*w.head.height > maxDecoded() { // below 2⁶²
		return nil
	}
	if err := inflatePNG(w.idat, *w.head); err != nil || w.head.colour != pngPalette || w.palette == 1<<w.head.depth {
		return err
	}
	// Decoders make up for colours that the palette lacks in ways of their own. Go's gives it more of them.
	decoded, err := png.Decode(bytes.NewReader(data))
	if numbers, ok := decoded.(*image.Paletted); ok && err == nil && len(numbers.Palette) > w.palette {
		return refuse(Malformed, "PNG has a pixel of colour %d, its palette has %d", len(numbers.Palette)-1, w.palette)
	}
	return nil // an error is of what other decoders leave out, such as the checksum of a text
}

// inflatePNG checks that the compressed pixels, in the bodies of the IDAT chunks, are whole. It holds none of them.
// More than the picture needs is no fault for any decoder, and not looked at.
func inflatePNG(idat [][]byte, h pngHead) error {
	readers := make([]io.Reader, len(idat))
	for i, body := range idat {
		readers[i] = bytes.NewReader(body)
	}
	err := readPNGRows(io.MultiReader(readers...), h)
	switch refused, ok := errors.AsType[*Error](err); {
	case ok:
		return refused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(Truncated, "PNG ends its pixels before its %d × %d are complete", h.width, h.height)
	case err != nil:
		return refuse(Malformed, "PNG has pixels that do not inflate: %v", err)
	}
	return nil
}

// readPNGRows reads the compressed pixels to their end, where their checksum is compared.
func readPNGRows(idat io.Reader, h pngHead) error {
	inflated, err := zlib.NewReader(idat)
	if err != nil {
		return err
	}
	buffered := bufio.NewReader(inflated)
	for _, pass := range h.passes() {
		for range pass.rows {
			filter, err := buffered.ReadByte()
			if err != nil {
				return err
			}
			if filter >= pngFilters {
				return refuse(Malformed, "PNG has a row of filter %d, which does not exist", filter)
			}
			if _, err := buffered.Discard(int(pass.row)); err != nil { //nolint:gosec // of at most 2²⁶ pixels
				return err
			}
		}
	}
	if _, err := buffered.ReadByte(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
