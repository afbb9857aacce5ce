package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image/jpeg"
	"io"
	"slices"
)

// jpegAdobe is the bytes of Adobe's APP14 segment, from which on libjpeg knows it.
const jpegAdobe = 12

// jpegBlock is the number of coefficients of a block.
const jpegBlock = 64

// jpegMaxScanned bounds the pixels of all scans together: decoders go over the whole picture for each, and a scan can
// be a few bytes. A progressive picture has about ten; thirty of the largest picture take Go's decoder about 25 s.
func jpegMaxScanned() uint64 { return 30 * maxDecoded() }

// maxDecoded bounds the pixels that are decoded, also where a caller's limits bound nothing.
func maxDecoded() uint64 { return uint64(max(0, DefaultLimits().MaxPixels)) }

// jpegFrame is what a frame header says (T.81, B.2.2), and what the scans brought so far.
type jpegFrame struct {
	marker        byte // SOFn; 0 is no frame
	precision     byte // bits of a sample
	width, height uint64
	components    []jpegComponent
	scans         uint64
	restarts      bool // there may be restart markers in the scans
	adobe         bool // there is Adobe's APP14 segment
	// undecodable says that Go's decoder takes a scan for something else than it is.
	undecodable bool
}

type jpegComponent struct {
	id     byte
	across byte // sampling factors, 1 to 4
	down   byte
	// missingBits is one more than the number of low bits that each coefficient lacks; 0 is a coefficient that no scan
	// had.
	missingBits [jpegBlock]byte
}

// readJPEGFrame reads a frame header: precision, height, width, number of components, then three bytes for each.
func readJPEGFrame(marker byte, segment []byte) (jpegFrame, error) {
	if len(segment) < 6 || len(segment) < 6+3*int(segment[5]) || segment[5] == 0 {
		return jpegFrame{}, refuse(Malformed, "JPEG has a frame header of %d bytes, too short for its components",
			len(segment))
	}
	f := jpegFrame{
		marker: marker, precision: segment[0],
		height: uint64(binary.BigEndian.Uint16(segment[1:])), width: uint64(binary.BigEndian.Uint16(segment[3:])),
	}
	if f.width == 0 {
		return jpegFrame{}, refuse(Malformed, "JPEG says that it is 0 pixels wide")
	}
	for c := range slices.Chunk(segment[6:6+3*int(segment[5])], 3) {
		f.components = append(f.components, jpegComponent{id: c[0], across: c[1] >> 4, down: c[1] & 15})
	}
	if f.height == 0 {
		// Allowed by T.81 with a DNL segment after the first scan. DALI 2.4.0
		// refuses such a picture whatever its DNL says, as libjpeg does.
		return jpegFrame{}, refuse(Unsupported, "JPEG leaves its height to a DNL segment, which DALI does not decode")
	}
	return f, nil
}

// check refuses what DALI does not decode, and a picture that lacks scans.
func (f *jpegFrame) check() error {
	switch process := f.marker - jpegSOF0; process {
	case 3:
		return refuse(Unsupported, "JPEG is lossless (SOF3), which DALI does not decode")
	case 5, 6, 7, 11, 13, 14, 15: // hierarchical, or lossless and arithmetic-coded: libjpeg-turbo has none of them
		return refuse(Unsupported, "JPEG is of process SOF%d, which DALI does not decode", process)
	}
	if f.precision != 8 {
		return refuse(Unsupported, "JPEG has samples of %d bits: DALI does not decode %d-bit JPEG", f.precision,
			f.precision)
	}
	if n := len(f.components); n == 2 || n > 4 {
		return refuse(Unsupported, "JPEG has %d components, which DALI does not decode", n)
	}
	if len(f.components) == 4 && !f.adobe {
		return refuse(Unsupported,
			"JPEG has four components and no segment of Adobe's, by which DALI takes black for white")
	}
	if f.scans*f.width*f.height > jpegMaxScanned() { // below 2⁵⁸: each scan has bytes
		return refuse(Unsupported, "JPEG has %d scans of %d × %d pixels, which keep a decoder busy for long", f.scans,
			f.width, f.height)
	}
	for i, c := range f.components {
		lacking := slices.IndexFunc(c.missingBits[:], func(bits byte) bool { return bits != 1 })
		switch {
		case lacking < 0:
		case lacking == 0 && c.missingBits[0] == 0:
			return refuse(Truncated, "JPEG ends before the picture data of component %d of %d", i+1, len(f.components))
		default:
			// T.81 allows to leave scans out for good. Each decoder makes up for them in a way of its own.
			return refuse(Unsupported,
				"progressive JPEG ends before the scans that complete coefficient %d of component %d, which decoders "+
					"make up for differently",
				lacking, i+1)
		}
	}
	return nil
}

// component returns the component that a scan names at a place, nil if there is none. Those of a scan have the order of
// the frame's (T.81, B.2.3). Where several have one id, libjpeg takes them in that order.
func (f *jpegFrame) component(place int, id byte) *jpegComponent {
	for i := place; i < len(f.components); i++ {
		if f.components[i].id == id {
			return &f.components[i]
		}
	}
	return nil
}

func (f *jpegFrame) progressive() bool { return f.marker-jpegSOF0 == 2 || f.marker-jpegSOF0 == 10 }

// scan notes what a scan brings, by its header (T.81, B.2.3): number of components, two bytes for each, first and last
// coefficient, and the numbers of low bits that were lacking before it, in the high half, and lack after it.
func (f *jpegFrame) scan(segment []byte) error {
	if len(segment) < 4 || len(segment) < 4+2*int(segment[0]) {
		return refuse(Malformed, "JPEG has a scan header of %d bytes, too short for its components", len(segment))
	}
	f.scans++
	ids, rest := segment[1:1+2*int(segment[0])], segment[1+2*int(segment[0]):]
	first, last, missingBits := 0, jpegBlock-1, byte(0)
	if f.progressive() {
		first, last, missingBits = int(rest[0]), int(rest[1]), rest[2]&15
	}
	if first > last || last >= jpegBlock {
		return refuse(Malformed, "JPEG has a scan of the coefficients %d to %d", first, last)
	}
	for i := range int(segment[0]) {
		c := f.component(i, ids[2*i])
		if c == nil {
			return refuse(Malformed, "JPEG has a scan of a component %d, which its frame does not have, or not there",
				ids[2*i])
		}
		// Restarts are counted in blocks where a scan has one component (T.81, A.2.2). Go's decoder counts as many
		// blocks as the component has in a scan with the others.
		if f.restarts && segment[0] == 1 && len(f.components) > 1 && c.across*c.down > 1 {
			f.undecodable = true
		}
		for k := first; k <= last; k++ {
			c.missingBits[k] = missingBits + 1
		}
	}
	return nil
}

// decodable reports whether Go's decoder has what the frame needs. Of a frame that it has not, it says that it is
// wrong.
func (f *jpegFrame) decodable() bool {
	if f.undecodable || f.marker-jpegSOF0 > 2 { // arithmetic coding
		return false
	}
	ids := map[byte]bool{}
	for _, c := range f.components {
		if c.across == 3 || c.down == 3 || ids[c.id] {
			return false
		}
		ids[c.id] = true
	}
	return true
}

// decode decodes the pixels where Go's decoder can, and finds scans that end too early or are no code. Scans that were
// overwritten by codes which exist, such as zeros, remain unknown. DALI and libjpeg answer all of them, and only warn.
//
// Figures on two cores of 2.8 GHz are in docs/pictures.md. Pictures larger than DefaultLimits allow are not decoded.
func (f *jpegFrame) decode(data []byte) error {
	if !f.decodable() || f.width*f.height > maxDecoded() {
		return nil
	}
	_, err := jpeg.Decode(bytes.NewReader(data))
	wrong, damaged := errors.AsType[jpeg.FormatError](err)
	switch {
	case wrong == "short Huffman data", wrong == "missing 0xff00 sequence", errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(Truncated, "JPEG ends a scan before its %d × %d pixels are complete", f.width, f.height)
	case damaged:
		return refuse(Malformed, "JPEG does not decode: %s", string(wrong))
	}
	return nil // decoded, or by Go's own account only not supported
}
