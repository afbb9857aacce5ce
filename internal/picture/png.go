package picture

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

const pngSignature = 8 // bytes

// pngWalk is what the chunks said so far.
type pngWalk struct {
	head    *pngHead // nil before IHDR
	palette int      // colours of PLTE
	idat    [][]byte // bodies with bytes in them
}

// walkPNG follows the chunks from IHDR to IEND.
func walkPNG(data []byte) (header, error) {
	var w pngWalk
	for at := pngSignature; ; {
		name, body, err := pngChunk(data, at)
		if err == nil {
			err = w.read(name, body)
		}
		if err != nil || name == "IEND" {
			return w.header(data), err
		}
		at += 12 + len(body)
	}
}

func (w *pngWalk) header(data []byte) header {
	if w.head == nil {
		return header{}
	}
	return header{
		width: w.head.width, height: w.head.height,
		decode: func() error { return decodePNG(data, *w) },
	}
}

// read notes what a chunk says.
func (w *pngWalk) read(name string, body []byte) (err error) {
	switch {
	case w.head == nil && name != "IHDR":
		return refuse(Malformed, "PNG starts with chunk %q, not IHDR", name)
	case w.head == nil:
		w.head, err = readIHDR(body)
		return err
	}
	switch name {
	case "IHDR":
		return refuse(Malformed, "PNG has a second IHDR chunk")
	case "PLTE":
		return w.readPalette(body)
	case "IDAT":
		if w.head.colour == pngPalette && w.palette == 0 {
			return refuse(Malformed, "PNG has colours by number but no PLTE chunk before its IDAT")
		}
		if len(body) > 0 {
			w.idat = append(w.idat, body)
		}
	case "IEND":
		if len(w.idat) == 0 {
			return refuse(Malformed, "PNG has no picture data: no IDAT chunk with bytes in it")
		}
	default:
		if name[0]&0x20 == 0 { // a capital: no decoder may leave it out
			return refuse(Unsupported, "PNG has a critical chunk %q, which DALI does not decode", name)
		}
	}
	return nil
}

// readPalette reads PLTE. Where colours are no numbers into it, it is a suggestion.
func (w *pngWalk) readPalette(body []byte) error {
	const colour, most = 3, 256 // bytes; colours
	allowed := most
	if w.head.colour == pngPalette {
		allowed = 1 << w.head.depth
	}
	if len(body) == 0 || len(body)%colour != 0 || len(body)/colour > allowed || w.palette > 0 {
		return refuse(Malformed, "PNG has a PLTE chunk of %d bytes, or several, want one of up to %d colours of 3 bytes",
			len(body), allowed)
	}
	w.palette = len(body) / colour
	return nil
}

// pngChunk returns the name and the body of the chunk at a place.
func pngChunk(data []byte, at int) (name string, body []byte, err error) {
	rest := data[at:]
	if len(rest) < 8 {
		return "", nil, refuse(Truncated, "PNG of %d bytes ends without its IEND chunk", len(data))
	}
	length := binary.BigEndian.Uint32(rest)
	for _, letter := range rest[4:8] {
		if lower := letter | 0x20; lower < 'a' || lower > 'z' {
			return "", nil, refuse(Malformed, "PNG has no chunk name at byte %d", at+4)
		}
	}
	name = string(rest[4:8])
	if length > 1<<31-1 {
		return "", nil, refuse(Malformed, "PNG chunk %s has the impossible length %d", name, length)
	}
	if uint64(len(rest)) < 12+uint64(length) {
		return "", nil, refuse(Truncated, "PNG of %d bytes ends in chunk %s, which needs %d more",
			len(data), name, 12+uint64(length)-uint64(len(rest)))
	}
	end := 8 + int(length)
	// A lower-case first letter marks a chunk that decoders may leave out, and
	// libpng does so if its checksum is wrong.
	critical := name[0]&0x20 == 0
	if critical && crc32.ChecksumIEEE(rest[4:end]) != binary.BigEndian.Uint32(rest[end:]) {
		return "", nil, refuse(Malformed, "PNG chunk %s at byte %d has a wrong checksum", name, at)
	}
	return name, rest[8:end], nil
}

const pngPalette = 3 // colour type: numbers into PLTE

// readIHDR returns what IHDR says, nil if not even a size.
func readIHDR(body []byte) (*pngHead, error) {
	if len(body) != 13 {
		return nil, refuse(Malformed, "PNG has an IHDR chunk of %d bytes, not 13", len(body))
	}
	h := pngHead{
		width: uint64(binary.BigEndian.Uint32(body)), height: uint64(binary.BigEndian.Uint32(body[4:])),
		depth: body[8], colour: body[9], interlaced: body[12] == 1,
	}
	if h.width == 0 || h.height == 0 || h.width > 1<<31-1 || h.height > 1<<31-1 {
		return nil, refuse(Malformed, "PNG says that it is %d × %d pixels", h.width, h.height)
	}
	var depths []byte
	switch h.colour { // PNG specification, table 11.1
	case 0:
		depths = []byte{1, 2, 4, 8, 16}
	case pngPalette:
		depths = []byte{1, 2, 4, 8}
	case 2, 4, 6:
		depths = []byte{8, 16}
	}
	if !slices.Contains(depths, h.depth) {
		return &h, refuse(Malformed, "PNG has colour type %d with %d bits, which does not exist", h.colour, h.depth)
	}
	if body[10] != 0 || body[11] != 0 || body[12] > 1 {
		return &h, refuse(Malformed, "PNG has compression %d, filter %d, interlace %d, which do not exist",
			body[10], body[11], body[12])
	}
	return &h, nil
}
