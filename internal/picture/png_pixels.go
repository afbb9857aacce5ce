package picture

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
)

// pngHead is what IHDR says.
type pngHead struct {
	width, height uint64
	depth, colour byte
	interlaced    bool
}

// size returns the bytes of the pixels: rows of whole bytes, each after a byte for its filter, in seven passes if it is interlaced.
func (h pngHead) size() uint64 {
	channels := map[byte]uint64{0: 1, 2: 3, pngPalette: 1, 4: 2, 6: 4}[h.colour]
	rows := func(width, height uint64) uint64 {
		if width == 0 || height == 0 {
			return 0
		}
		return height * (1 + (width*channels*uint64(h.depth)+7)/8)
	}
	if !h.interlaced {
		return rows(h.width, h.height)
	}
	var size uint64
	for _, pass := range []struct{ left, top, right, down uint64 }{ // PNG specification, 8.2
		{0, 0, 8, 8},
		{4, 0, 8, 8},
		{0, 4, 4, 8},
		{2, 0, 4, 4},
		{0, 2, 2, 4},
		{1, 0, 2, 2},
		{0, 1, 1, 2},
	} {
		size += rows((h.width+pass.right-1-pass.left)/pass.right, (h.height+pass.down-1-pass.top)/pass.down)
	}
	return size
}

// inflatePNG checks that the compressed pixels, in the bodies of the IDAT chunks, are whole. It holds none of them.
// More than the picture needs is no fault for any decoder, and not looked at. Pictures larger than DefaultLimits allow are not inflated.
func inflatePNG(idat [][]byte, h pngHead) error {
	if h.width*h.height > maxDecoded() { // below 2⁶²
		return nil
	}
	readers := make([]io.Reader, len(idat))
	for i, body := range idat {
		readers[i] = bytes.NewReader(body)
	}
	size := int64(h.size()) //nolint:gosec // of at most 2²⁶ pixels
	inflated, err := zlib.NewReader(io.MultiReader(readers...))
	if err == nil {
		_, err = io.CopyN(io.Discard, inflated, size)
	}
	if err == nil {
		// At their end the checksum is compared.
		if _, err = io.CopyN(io.Discard, inflated, 1); errors.Is(err, io.EOF) {
			return nil
		}
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(Truncated, "PNG ends its pixels before its %d × %d are complete", h.width, h.height)
	case err != nil:
		return refuse(Malformed, "PNG has pixels that do not inflate: %v", err)
	}
	return nil
}
