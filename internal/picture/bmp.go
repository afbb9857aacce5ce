package picture

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// BMP compression methods (Windows GDI, BITMAPINFOHEADER).
const (
	bmpRGB            = 0
	bmpRLE8           = 1
	bmpBitFields      = 3
	bmpAlphaBitFields = 6
)

const (
	bmpFileHeader = 14 // bytes
	bmpCoreHeader = 12 // bytes of the oldest header, with sides of 16 bits
)

// bmpHeader is what the two headers of a BMP say.
type bmpHeader struct {
	width, height uint64
	bits          uint64 // of a pixel
	compression   uint32
	infoSize      uint32 // bytes of the information header
	fileSize      uint64 // 0 if the writer left it out
	dataAt        uint64 // place of the pixels
	dataSize      uint64 // 0 if the writer left it out, which it may if nothing is compressed
	used          uint64 // colours of the palette; 0 stands for as many as the bits of a pixel can name
}

// colours returns the entries of the palette, 0 if pixels are no numbers into one.
func (h bmpHeader) colours() uint64 {
	switch {
	case h.bits > 8:
		return 0
	case h.used == 0:
		return 1 << h.bits
	}
	return h.used
}

// checkPalette checks that the palette has as many colours as pixels can name, at most, and ends before the file does.
func (h bmpHeader) checkPalette(size uint64) error {
	entry := uint64(4) // bytes
	if h.infoSize == bmpCoreHeader {
		entry = 3
	}
	switch colours := h.colours(); {
	case h.bits <= 8 && colours > 1<<h.bits:
		return refuse(Malformed, "BMP has a palette of %d colours, and %d bits a pixel", colours, h.bits)
	case bmpFileHeader+uint64(h.infoSize)+colours*entry > size:
		return refuse(Malformed, "BMP of %d bytes ends before the %d colours of its palette do", size, colours)
	}
	return nil
}

// checkNumber checks that the palette has the colour that a pixel names: decoders make up for it differently.
func (h bmpHeader) checkNumber(number byte) error {
	if uint64(number) >= h.colours() {
		return refuse(Malformed, "BMP has a pixel of colour %d, its palette has %d", number, h.colours())
	}
	return nil
}

// walkBMP checks that the pixels which the headers promise are there.
func walkBMP(data []byte) (header, error) {
	h, err := bmpHeaders(data)
	found := header{width: h.width, height: h.height}
	if h.infoSize == 52 || h.infoSize == 56 {
		found.unverifiable = "Pillow 9.4, which decodes for PyTorch, " +
			"reads no BMP with an information header of 52 or 56 bytes"
	}
	if err == nil {
		err = h.walkPixels(data)
	}
	return found, err
}

func (h bmpHeader) walkPixels(data []byte) error {
	size := uint64(len(data))
	if h.fileSize > size {
		return refuse(Truncated, "BMP has %d of the %d bytes that its header says", size, h.fileSize)
	}
	if err := h.checkPalette(size); err != nil {
		return err
	}
	if h.compression == bmpRLE8 {
		if h.dataAt > size || h.dataSize > size-h.dataAt {
			return refuse(Truncated, "BMP of %d bytes ends before its picture data does", size)
		}
		return walkRLE(data[h.dataAt:], h)
	}
	// A row is padded to four bytes. It may have up to 2³³ bytes, and as many rows
	// up to 2³¹: dividing cannot overflow where multiplying would.
	row := (h.width*h.bits + 31) / 32 * 4
	if h.dataAt > size || h.height > (size-h.dataAt)/row {
		return refuse(Truncated, "BMP of %d bytes ends before its %d rows of %d bytes do", size, h.height, row)
	}
	if h.bits <= 8 && h.colours() < 1<<h.bits {
		return h.checkNumbers(data[h.dataAt:], row)
	}
	return nil
}

// checkNumbers checks the pixels of rows of so many bytes, which are there. Each is a number into a palette.
func (h bmpHeader) checkNumbers(pixels []byte, row uint64) error {
	each := 8 / h.bits // pixels of a byte, the first one in its high bits
	for y := range h.height {
		for x := range h.width {
			shift := 8 - h.bits*(x%each+1)
			number := pixels[y*row+x/each] >> shift & (1<<h.bits - 1)
			if err := h.checkNumber(number); err != nil {
				return err
			}
		}
	}
	return nil
}

func bmpHeaders(data []byte) (bmpHeader, error) {
	short := func() error { return refuse(Truncated, "BMP of %d bytes ends in its header", len(data)) }
	le := binary.LittleEndian
	infoSize := le.Uint32(data[bmpFileHeader:])
	// Core, Windows 3, the two Adobe variants, OS/2 2.x, version 4, version 5.
	if !slices.Contains([]uint32{bmpCoreHeader, 40, 52, 56, 64, 108, 124}, infoSize) {
		return bmpHeader{}, refuse(Malformed, "BMP has an information header of %d bytes, which does not exist", infoSize)
	}
	if uint64(len(data)) < bmpFileHeader+uint64(infoSize) {
		return bmpHeader{}, short()
	}
	info := data[bmpFileHeader : bmpFileHeader+infoSize]
	h := bmpHeader{infoSize: infoSize, fileSize: uint64(le.Uint32(data[2:])), dataAt: uint64(le.Uint32(data[10:]))}
	var planes uint16
	if infoSize == bmpCoreHeader {
		h.width, h.height = uint64(le.Uint16(info[4:])), uint64(le.Uint16(info[6:]))
		planes, h.bits = le.Uint16(info[8:]), uint64(le.Uint16(info[10:]))
	} else {
		// The sides are signed: a height below zero means that the top row comes first.
		h.width = uint64(le.Uint32(info[4:]))
		h.height = magnitude(le.Uint32(info[8:]))
		planes, h.bits = le.Uint16(info[12:]), uint64(le.Uint16(info[14:]))
		h.compression, h.dataSize, h.used = le.Uint32(info[16:]), uint64(le.Uint32(info[20:])), uint64(le.Uint32(info[32:]))
	}
	if h.width == 0 || h.height == 0 || h.width > 1<<31-1 || h.height > 1<<31-1 {
		width, height := h.width, h.height
		h.width, h.height = 0, 0
		return h, refuse(Malformed, "BMP says that it is %d × %d pixels", width, height)
	}
	if planes != 1 || h.dataAt < bmpFileHeader+uint64(infoSize) {
		return h, refuse(Malformed, "BMP has %d colour planes and its picture data at byte %d", planes, h.dataAt)
	}
	return h, h.checkBits()
}

// magnitude returns the absolute value of a two's complement number.
func magnitude(v uint32) uint64 {
	if v>>31 == 1 {
		return uint64(-v)
	}
	return uint64(v)
}

// checkBits checks that DALI decodes pixels of so many bits compressed in this
// way. The list is what DALI 2.4.0 decoded when each was tried on its CPU
// decoder. Of colour masks it reads those of the two newest headers alone, and
// exchanges red and blue without an error where it does not; 16 bits get darker.
func (h bmpHeader) checkBits() error {
	var bits []uint64
	switch h.compression {
	case bmpBitFields, bmpAlphaBitFields:
		return refuse(Unsupported, "BMP has colour masks, which DALI does not always apply")
	case bmpRGB:
		bits = []uint64{1, 4, 8, 24, 32}
	case bmpRLE8:
		bits = []uint64{8}
	}
	if !slices.Contains(bits, h.bits) {
		return refuse(Unsupported, "BMP has %d bits a pixel with compression method %d, which DALI does not decode right",
			h.bits, h.compression)
	}
	return nil
}

// walkRLE follows run-length codes until every row is complete. The codes may skip pixels and end early; decoders make
// up for those in ways of their own, but all give the rest of a row that ends early the first colour of the palette.
func walkRLE(codes []byte, h bmpHeader) error {
	for x, y := uint64(0), uint64(0); y < h.height; {
		if y == h.height-1 && x == h.width { // OpenCV, which decodes them for DALI, waits for no end code
			return nil
		}
		pixels, length, err := h.readRLE(codes, y)
		if err != nil {
			return err
		}
		if x += uint64(len(pixels)); x > h.width {
			return refuse(Malformed, "BMP has run-length codes of more than %d pixels in row %d", h.width, y+1)
		}
		for _, number := range pixels {
			if err := h.checkNumber(number); err != nil {
				return err
			}
		}
		if codes = codes[length:]; len(pixels) == 0 {
			x, y = 0, y+1
		}
	}
	return nil
}

// readRLE returns the pixels of the first code, which is in a row, and its bytes. The end of the row has no pixels.
func (h bmpHeader) readRLE(codes []byte, row uint64) (pixels []byte, length int, err error) {
	short := refuse(Truncated, "BMP ends in its run-length codes, at row %d of %d", row+1, h.height)
	if len(codes) < 2 {
		return nil, 0, short
	}
	switch count, code := int(codes[0]), int(codes[1]); {
	case count > 0: // a run of one colour
		return bytes.Repeat(codes[1:2], count), 2, nil
	case code == 0: // end of the row
		return nil, 2, nil
	case code == 1: // end of the picture
		return nil, 0, refuse(Unsupported,
			"BMP ends its run-length codes in row %d of %d, and decoders make up for the rest differently",
			row+1, h.height)
	case code == 2: // move right and up
		return nil, 0, refuse(Unsupported, "BMP skips pixels in row %d of %d, which decoders make up for differently",
			row+1, h.height)
	case len(codes)-2 < code:
		return nil, 0, short
	default: // that many pixels as they are, padded to two bytes
		return codes[2 : 2+code], min(2+code+code&1, len(codes)), nil
	}
}
