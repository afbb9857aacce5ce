package picture

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// JPEG 2000 codestream markers (ITU-T T.800, table A.2).
const (
	j2kSIZ = 0xff51
	j2kCOD = 0xff52
	j2kQCD = 0xff5c
	j2kSOT = 0xff90
	j2kSOD = 0xff93
	j2kEOC = 0xffd9
)

// j2kImage is what the SIZ segment says (T.800, A.5.1).
type j2kImage struct {
	width, height uint64
	tiles         uint64
	offset        bool // the picture does not start where its grid does
	components    []j2kComponent
}

type j2kComponent struct {
	bits         int
	signed       bool
	stepX, stepY byte // of the grid; 1 is a sample for each pixel
}

// walkJPEG2000 reads a codestream, alone or in a JP2.
func walkJPEG2000(data []byte) (header, error) {
	if !bytes.HasPrefix(data, []byte(jp2Signature)) {
		image, err := walkCodestream(data)
		return image.header(jp2Colours{}), orUnsupported(err, func() error { return image.check(jp2Colours{}) })
	}
	return walkJP2(data)
}

// orUnsupported asks whether a picture is of a kind that is not served, if nothing else is wrong with it.
func orUnsupported(err error, check func() error) error {
	if err != nil {
		return err
	}
	return check()
}

func (i j2kImage) header(colours jp2Colours) header {
	h := header{width: i.width, height: i.height}
	switch {
	case colours.palette:
		h.unverifiable = "Pillow, which decodes for PyTorch, leaves out the palette of a JPEG 2000"
	case colours.reorders:
		h.unverifiable = "Pillow, which decodes for PyTorch, leaves out that the colours of a JPEG 2000 are in another order"
	case len(i.components) >= 3 && i.components[0].bits > 8:
		h.unverifiable = "Pillow, which decodes for PyTorch, turns white into black in JPEG 2000 of 16 bits"
	}
	return h
}

// check refuses what DALI 2.4.0's CPU decoder was seen to refuse or to decode wrongly.
func (i j2kImage) check(colours jp2Colours) error {
	first := i.components[0]
	for _, c := range i.components {
		switch {
		case c.stepX != 1 || c.stepY != 1:
			return refuse(Unsupported, "JPEG 2000 has components of different sizes, which DALI does not decode")
		case c.signed:
			return refuse(Unsupported, "JPEG 2000 has signed samples, which DALI does not decode")
		case c.bits != first.bits || c.bits != 8 && c.bits != 16:
			return refuse(Unsupported, "JPEG 2000 has samples of %d bits, which DALI decodes right for 8 and 16 alone", c.bits)
		}
	}
	if i.offset {
		return refuse(Unsupported, "JPEG 2000 starts beside the origin of its grid, which DALI does not decode")
	}
	return colours.check(len(i.components))
}

// walkCodestream checks the headers, that every tile is there, and that the end marker follows the last of their parts.
func walkCodestream(data []byte) (j2kImage, error) {
	marker, segment, err := j2kSegment(data, 2)
	if err != nil {
		return j2kImage{}, err
	}
	if marker != j2kSIZ {
		return j2kImage{}, refuse(Malformed, "JPEG 2000 starts with marker 0x%04x, not SIZ", marker)
	}
	image, err := j2kSize(segment)
	if err != nil {
		return image, err
	}
	seen := map[uint16]bool{}
	for at := 6 + len(segment); ; at += 4 + len(segment) {
		if marker, segment, err = j2kSegment(data, at); err != nil {
			return image, err
		}
		seen[marker] = true
		if marker != j2kSOT {
			continue
		}
		if !seen[j2kCOD] || !seen[j2kQCD] {
			return image, refuse(Malformed,
				"JPEG 2000 does not say how its tiles are coded: no COD or no QCD segment before them")
		}
		return image, walkTiles(data, at, image.tiles)
	}
}

// j2kSegment returns the marker at a place and the payload of its segment.
func j2kSegment(data []byte, at int) (marker uint16, segment []byte, err error) {
	if len(data)-at < 4 {
		return 0, nil, refuse(Truncated, "JPEG 2000 of %d bytes ends in its headers", len(data))
	}
	marker, length := binary.BigEndian.Uint16(data[at:]), int(binary.BigEndian.Uint16(data[at+2:]))
	switch {
	case marker < 0xff4f || length < 2:
		return 0, nil, refuse(Malformed, "JPEG 2000 has no marker segment at byte %d", at)
	case length > len(data)-at-2:
		return 0, nil, refuse(Truncated, "JPEG 2000 of %d bytes ends in segment 0x%04x", len(data), marker)
	}
	return marker, data[at+4 : at+2+length], nil
}

// j2kSize reads SIZ. The order of its fields: capabilities, the sides of the grid, the picture's offset on it, the
// sides of a tile, the tiles' offset, the number of components.
func j2kSize(segment []byte) (j2kImage, error) {
	be := binary.BigEndian
	if len(segment) < 36 || len(segment) != 36+3*int(be.Uint16(segment[34:])) || len(segment) == 36 {
		return j2kImage{}, refuse(Malformed, "JPEG 2000 has a SIZ segment of %d bytes", len(segment))
	}
	var n [8]uint64
	for i := range n {
		n[i] = uint64(be.Uint32(segment[2+4*i:]))
	}
	right, bottom, left, top, tileWidth, tileHeight, tilesLeft, tilesTop := n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]
	switch {
	case left >= right || top >= bottom:
		return j2kImage{}, refuse(Malformed, "JPEG 2000 says that it reaches from %d, %d to %d, %d", left, top, right, bottom)
	case tileWidth == 0 || tileHeight == 0:
		return j2kImage{}, refuse(Malformed, "JPEG 2000 has tiles of %d × %d pixels", tileWidth, tileHeight)
	case tilesLeft > left || tilesTop > top || tilesLeft+tileWidth <= left || tilesTop+tileHeight <= top:
		return j2kImage{}, refuse(Malformed, "JPEG 2000 has its first tile at %d, %d, beside the picture",
			tilesLeft, tilesTop)
	}
	image := j2kImage{width: right - left, height: bottom - top, offset: left != 0 || top != 0}
	if image.width > math.MaxInt32 || image.height > math.MaxInt32 {
		return image, refuse(Unsupported, "JPEG 2000 has a side of more than %d pixels, which DALI does not decode",
			math.MaxInt32)
	}
	// Below 2⁶⁴: each is at most 2³²-1.
	image.tiles = ((right-tilesLeft-1)/tileWidth + 1) * ((bottom-tilesTop-1)/tileHeight + 1)
	if image.tiles > 1<<16-1 {
		return image, refuse(Malformed, "JPEG 2000 has %d tiles, the format allows 65535", image.tiles)
	}
	for c := range slices.Chunk(segment[36:], 3) {
		image.components = append(image.components,
			j2kComponent{bits: int(c[0]&0x7f) + 1, signed: c[0]>>7 == 1, stepX: c[1], stepY: c[2]})
	}
	return image, nil
}

// walkTiles follows the parts of tiles from the first one's SOT segment to the end marker.
func walkTiles(data []byte, at int, tiles uint64) error {
	found := map[uint16]bool{}
	for {
		if len(data)-at < 2 {
			return refuse(Truncated, "JPEG 2000 of %d bytes ends without its end marker", len(data))
		}
		if binary.BigEndian.Uint16(data[at:]) == j2kEOC {
			break
		}
		tile, length, err := j2kTilePart(data, at, tiles)
		if err != nil {
			return err
		}
		if err := walkTilePart(data[:at+length], at+12, tile); err != nil {
			return err
		}
		found[tile] = true
		at += length
	}
	if uint64(len(found)) < tiles {
		return refuse(Truncated, "JPEG 2000 has %d of its %d tiles", len(found), tiles)
	}
	return nil
}

// j2kTilePart returns the tile and the bytes of the part at a place, which are in data.
func j2kTilePart(data []byte, at int, tiles uint64) (tile uint16, length int, err error) {
	marker, segment, err := j2kSegment(data, at)
	if err != nil {
		return 0, 0, err
	}
	if marker != j2kSOT || len(segment) != 8 {
		return 0, 0, refuse(Malformed, "JPEG 2000 has marker 0x%04x at byte %d, where a part of a tile or the end should be",
			marker, at)
	}
	tile, length = binary.BigEndian.Uint16(segment), int(binary.BigEndian.Uint32(segment[2:]))
	if uint64(tile) >= tiles {
		return 0, 0, refuse(Malformed, "JPEG 2000 has a part of tile %d, and %d tiles", int(tile)+1, tiles)
	}
	if length == 0 { // the last part: up to the end marker, whose two bytes the format keeps out of what comes before
		end := bytes.Index(data[at+12:], []byte{0xff, j2kEOC & 0xff})
		if end < 0 {
			return 0, 0, refuse(Truncated, "JPEG 2000 of %d bytes ends without its end marker", len(data))
		}
		length = 12 + end
	}
	if length < 0 || length > len(data)-at { // below 0 where int has 32 bits
		return 0, 0, refuse(Truncated, "JPEG 2000 of %d bytes ends in tile %d of %d", len(data), int(tile)+1, tiles)
	}
	return tile, length, nil
}

// walkTilePart follows the segments of a tile's part, which ends where data does, to its packets.
func walkTilePart(data []byte, at int, tile uint16) error {
	for {
		if len(data)-at < 2 {
			return refuse(Malformed, "JPEG 2000 has no packets in a part of tile %d", int(tile)+1)
		}
		if binary.BigEndian.Uint16(data[at:]) == j2kSOD {
			return nil
		}
		_, segment, err := j2kSegment(data, at)
		if err != nil {
			return refuse(Malformed, "JPEG 2000 has no marker segment at byte %d, in a part of tile %d", at, int(tile)+1)
		}
		at += 4 + len(segment)
	}
}
