package picture

import (
	"bytes"
	"encoding/binary"
	"math"
)

// jp2Signature is the first box of a JP2 (ITU-T T.800, I.5.1).
const jp2Signature = "\x00\x00\x00\x0cjP  \r\n\x87\n"

// jp2Colours is what a JP2 says about the components of its codestream.
type jp2Colours struct {
	boxed    bool   // there is a JP2 at all
	method   byte   // of the first colour specification: 1 is a number, 2 an ICC profile, 0 none
	space    uint32 // that number
	palette  bool
	reorders bool // the components come in another order than red, green, blue, alpha
}

// JP2's numbers of colour spaces (T.800, table I.10).
const (
	jp2SRGB = 16
	jp2Grey = 17
)

// check refuses what DALI 2.4.0's CPU decoder was seen to refuse or to decode wrongly.
func (c jp2Colours) check(components int) error {
	switch {
	case components > 4 || components == 2:
		return refuse(Unsupported, "JPEG 2000 has %d components, which DALI does not decode", components)
	case components == 1 && !c.boxed:
		return refuse(Unsupported, "JPEG 2000 is a grey codestream outside a JP2, which DALI does not decode")
	case components == 1 && !c.palette && (c.method != 1 || c.space != jp2Grey):
		return refuse(Unsupported, "JPEG 2000 has one component and does not call it grey, which DALI does not decode")
	case components > 1 && c.method == 1 && c.space != jp2SRGB:
		return refuse(Unsupported, "JPEG 2000 is in colour space %d, which DALI decodes right for sRGB and grey alone",
			c.space)
	}
	return nil
}

// walkJP2 follows the boxes as far as the codestream. What comes behind it no decoder of pictures needs.
func walkJP2(data []byte) (header, error) {
	colours := jp2Colours{boxed: true}
	var width, height uint64
	for at := len(jp2Signature); ; {
		name, body, err := jp2Box(data, at)
		if err != nil {
			return header{width: width, height: height}, err
		}
		switch name {
		case "jp2h":
			if width, height, err = colours.read(body); err != nil {
				return header{width: width, height: height}, err
			}
		case "jp2c":
			return walkJP2Codestream(body, colours, width, height)
		}
		at += 8 + len(body)
	}
}

func walkJP2Codestream(body []byte, colours jp2Colours, width, height uint64) (header, error) {
	const start = "\xff\x4f"
	if len(body) < len(start) {
		return header{width: width, height: height}, refuse(Truncated, "JPEG 2000 ends before its codestream")
	}
	if !bytes.HasPrefix(body, []byte(start)) {
		return header{width: width, height: height}, refuse(Malformed,
			"JPEG 2000 has no codestream where its JP2 says that it has")
	}
	image, err := walkCodestream(body)
	h := image.header(colours)
	return h, orUnsupported(err, func() error {
		if width != image.width || height != image.height {
			return refuse(Malformed, "JPEG 2000 is of %d × %d pixels in its JP2 header, and of %d × %d in its codestream",
				width, height, image.width, image.height)
		}
		return image.check(colours)
	})
}

// jp2Box returns the name and the content of the box at a place.
func jp2Box(data []byte, at int) (name string, body []byte, err error) {
	rest := data[at:]
	if len(rest) < 8 {
		return "", nil, refuse(Truncated, "JPEG 2000 of %d bytes ends before its codestream", len(data))
	}
	length, name := uint64(binary.BigEndian.Uint32(rest)), string(rest[4:8])
	switch {
	case length == 0: // to the end of the file
		length = uint64(len(rest))
	case length == 1:
		return "", nil, refuse(Unsupported, "JPEG 2000 has a box with a length of 64 bits, which DALI does not decode")
	case length < 8:
		return "", nil, refuse(Malformed, "JPEG 2000 has a box of %d bytes at byte %d", length, at)
	}
	if length > uint64(len(rest)) {
		return "", nil, refuse(Truncated, "JPEG 2000 of %d bytes ends in box %q, which needs %d", len(data), name, length)
	}
	return name, rest[8:length], nil
}

// read reads the boxes of the JP2 header.
func (c *jp2Colours) read(header []byte) (width, height uint64, err error) {
	for at := 0; at < len(header); {
		name, body, err := jp2Box(header, at)
		if err != nil {
			return width, height, refuse(Malformed, "JPEG 2000 has a JP2 header whose boxes do not fill it")
		}
		at += 8 + len(body)
		switch {
		case name == "ihdr" && len(body) >= 8:
			height, width = uint64(binary.BigEndian.Uint32(body)), uint64(binary.BigEndian.Uint32(body[4:]))
		case name == "colr" && len(body) >= 3 && c.method == 0:
			if c.method = body[0]; c.method == 1 && len(body) >= 7 {
				c.space = binary.BigEndian.Uint32(body[3:])
			}
		case name == "pclr":
			c.palette = true
		case name == "cdef":
			c.reorders = c.reorders || reorders(body)
		}
	}
	return width, height, nil
}

// reorders reports whether a channel definition (T.800, I.5.3.6) has the colours in another order than that of the
// components.
func reorders(cdef []byte) bool {
	entries := bytes.TrimPrefix(cdef, cdef[:min(2, len(cdef))])
	for ; len(entries) >= 6; entries = entries[6:] {
		channel, kind := binary.BigEndian.Uint16(entries), binary.BigEndian.Uint16(entries[2:])
		colour := binary.BigEndian.Uint16(entries[4:])
		if kind == 0 && colour != 0 && colour != math.MaxUint16 && colour != channel+1 {
			return true
		}
	}
	return false
}
