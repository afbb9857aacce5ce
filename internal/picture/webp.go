package picture

import "encoding/binary"

// WebP chunks (RFC 9649): a name and a length of 4 bytes each, then the body,
// padded to an even length.
const webpChunkHeader = 8

// webpShortest is the bytes that DALI 2.4.0's CPU decoder needs, whatever is in them. A lossless picture of one colour
// can have 26.
const webpShortest = 32

// walkWebP follows the chunks of the RIFF container.
//
// It is not left to golang.org/x/image/webp (v0.47.0, tried on testdata): DecodeConfig gives a size for each of the
// eight wrong kinds (testdata/kinds/webp-wrong-*), and for files cut to two thirds, since it stops at the first header.
// Decode refuses every animation, whose first picture DALI answers, and takes two of the wrong kinds: two pictures on
// end, and a still one in a file that says it is animated.
func walkWebP(data []byte) (width, height uint64, err error) {
	riff := uint64(binary.LittleEndian.Uint32(data[4:]))
	if riff < 4 {
		return 0, 0, refuse(Malformed, "WebP says that it has %d bytes", riff)
	}
	short := webpChunkHeader+riff > uint64(len(data))
	body := data[12:min(uint64(len(data)), webpChunkHeader+riff)]
	// The first chunk is read before the length is judged: the size of a large picture that is also cut is known then.
	walk := webpWalk{first: true}
	for err == nil && len(body) >= webpChunkHeader {
		body, err = walk.chunk(body)
	}
	switch {
	case short:
		return walk.width, walk.height, refuse(Truncated, "WebP has %d of the %d bytes that its header says",
			len(data), webpChunkHeader+riff)
	case err != nil:
		return walk.width, walk.height, err
	case !walk.pixels:
		return walk.width, walk.height, refuse(Malformed, "WebP has no picture data: no VP8, VP8L or ANMF chunk")
	case len(data) < webpShortest:
		return walk.width, walk.height, refuse(Unsupported, "WebP has %d bytes, and DALI decodes none of less than %d",
			len(data), webpShortest)
	}
	return walk.width, walk.height, nil
}

type webpWalk struct {
	first         bool // no chunk was seen yet
	pixels        bool // a chunk with picture data was seen
	canvas        bool // there is a VP8X chunk
	animated      bool // which says that there are frames
	announced     bool // by an ANIM chunk, before the first of them
	alpha         bool // an ALPH chunk was seen
	width, height uint64
}

// chunk reads the first chunk of body, which has its header, and returns what
// follows it.
func (w *webpWalk) chunk(body []byte) (rest []byte, err error) {
	name := string(body[:4])
	length := uint64(binary.LittleEndian.Uint32(body[4:]))
	content := body[webpChunkHeader:]
	whole := length <= uint64(len(content))
	if whole {
		rest = content[min(length+length&1, uint64(len(content))):]
		content = content[:length]
	}
	if err := w.read(name, content, length); err != nil {
		return nil, err
	}
	w.first = false
	if !whole {
		return nil, refuse(Truncated, "WebP ends in chunk %q, which has %d of %d bytes", name, len(content), length)
	}
	return rest, nil
}

func (w *webpWalk) read(name string, content []byte, length uint64) error {
	switch name {
	case "VP8X":
		return w.extended(content)
	case "VP8 ":
		return w.still(name, content, length, 10, webpLossy)
	case "VP8L":
		return w.still(name, content, length, 5, webpLossless)
	case "ALPH":
		if w.alpha = true; w.pixels {
			return refuse(Malformed, "WebP has an ALPH chunk behind its picture data")
		}
	case "ANIM":
		w.announced = true
	case "ANMF":
		// DALI decodes the first frame of an animation, and none if another one is wrong.
		return w.frame(content)
	}
	if w.first {
		return refuse(Malformed, "WebP starts with chunk %q, not VP8, VP8L or VP8X", name)
	}
	return nil
}

// frame reads an ANMF chunk: its place on the canvas, halved, and its sides less one, in 24 bits each, time and flags,
// then the chunks of a picture.
func (w *webpWalk) frame(content []byte) error {
	const header = 16
	if !w.animated || !w.announced {
		return refuse(Malformed, "WebP has a frame of an animation, which its VP8X chunk or an ANIM chunk does not announce")
	}
	if len(content) < header+webpChunkHeader {
		return refuse(Malformed, "WebP has a frame of %d bytes", len(content))
	}
	number := func(at int) uint64 {
		return uint64(content[at]) | uint64(content[at+1])<<8 | uint64(content[at+2])<<16
	}
	if 2*number(0)+number(6)+1 > w.width || 2*number(3)+number(9)+1 > w.height {
		return refuse(Malformed, "WebP has a frame that goes beyond its canvas of %d × %d pixels", w.width, w.height)
	}
	name, picture := string(content[header:header+4]), content[header+webpChunkHeader:]
	known := name == "VP8 " || name == "VP8L" || name == "ALPH"
	if length := uint64(binary.LittleEndian.Uint32(content[header+4:])); !known || length > uint64(len(picture)) {
		return refuse(Malformed, "WebP has a frame without the whole of a picture in it")
	}
	w.pixels = true
	return nil
}

// extended reads VP8X: flags, then the size of the canvas less one, in 24 bits each.
func (w *webpWalk) extended(content []byte) error {
	if len(content) < 10 {
		return refuse(Truncated, "WebP ends in its VP8X header")
	}
	if !w.first {
		return refuse(Malformed, "WebP has a VP8X chunk that is not its first")
	}
	const animation = 2
	w.canvas, w.animated = true, content[0]&animation != 0
	w.width = uint64(binary.LittleEndian.Uint32(content[4:])&0xffffff) + 1
	w.height = uint64(binary.LittleEndian.Uint32(content[6:])>>8) + 1
	return nil
}

// still reads the header, of so many bytes, of a picture that is no frame of an animation.
func (w *webpWalk) still(
	name string, content []byte, length uint64, header int,
	size func([]byte, uint64) (width, height uint64, ok bool),
) error {
	if len(content) < header {
		return refuse(Truncated, "WebP ends in the header of chunk %q", name)
	}
	width, height, ok := size(content, length)
	if !ok || width == 0 || height == 0 {
		return refuse(Malformed, "WebP has no picture header in chunk %q", name)
	}
	if !w.first && w.width != 0 && (width != w.width || height != w.height) {
		return refuse(Malformed, "WebP has a picture of %d × %d pixels on a canvas of %d × %d",
			width, height, w.width, w.height)
	}
	if w.animated || w.canvas && w.pixels || w.alpha && name == "VP8L" {
		return refuse(Malformed,
			"WebP has chunk %q outside a frame, behind another picture or behind an ALPH chunk, where none may be", name)
	}
	w.width, w.height, w.pixels = width, height, true
	return nil
}

// webpLossy reads the frame header of VP8 (RFC 6386, section 9.1).
func webpLossy(content []byte, length uint64) (width, height uint64, ok bool) {
	tag := uint64(content[0]) | uint64(content[1])<<8 | uint64(content[2])<<16
	key := tag&1 == 0
	start := content[3] == 0x9d && content[4] == 0x01 && content[5] == 0x2a
	first := tag >> 5 // bytes of the first partition, which follows the header
	// The upper two bits of each side ask for upscaling on display; decoders leave them out.
	width = uint64(binary.LittleEndian.Uint16(content[6:]) & 0x3fff)
	height = uint64(binary.LittleEndian.Uint16(content[8:]) & 0x3fff)
	return width, height, key && start && 10+first <= length
}

// webpLossless reads the header of VP8L (RFC 9649, section 3.4): a signature,
// the sides less one in 14 bits each, an alpha hint, a version of 3 bits.
func webpLossless(content []byte, _ uint64) (width, height uint64, ok bool) {
	bits := uint64(binary.LittleEndian.Uint32(content[1:]))
	return bits&0x3fff + 1, bits>>14&0x3fff + 1, content[0] == 0x2f && bits>>29 == 0
}
