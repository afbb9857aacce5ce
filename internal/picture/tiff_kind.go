package picture

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// Values of TIFF tags (TIFF 6.0; 50000 is libtiff's).
const (
	tiffUncompressed = 1
	tiffJPEG         = 7

	tiffWhiteIsZero = 0
	tiffBlackIsZero = 1
	tiffRGB         = 2
	tiffPalette     = 3
	tiffSeparated   = 5 // cyan, magenta, yellow, black
	tiffYCbCr       = 6

	tiffUnsigned = 1
	tiffSigned   = 2
	tiffFloat    = 3

	tiffLowestFirst = 2 // a fill order: the first pixel of a byte is in its lowest bits

	tiffPremultiplied = 1 // an extra sample that the colours were multiplied by
)

// tiffUnsaid is no photometric interpretation: those have 16 bits.
const tiffUnsaid = 1 << 16

// tiffKind is what a directory says about its samples.
type tiffKind struct {
	bits, format, compression, photometric, samples, extra, planar, fill, orientation uint64
	tiled, bigEndian                                                                  bool
	across, down                                                                      uint64 // pixels of a strip or tile
}

// kind returns what PyTorch's decoder lacks for the directory that was read, and refuses what DALI 2.4.0's CPU decoder
// was seen to refuse or to decode wrongly: some kinds become black, or get one channel of another.
func (t *tiffWalk) kind() (unverifiable string, err error) {
	k, err := t.readKind()
	if err != nil {
		return "", err
	}
	for _, check := range []func() error{
		t.checkForms, k.checkSamples, k.checkCompression, k.checkColours, k.checkOpenCV, t.checkPalette,
	} {
		if err := check(); err != nil {
			return "", err
		}
	}
	deep := k.bits > 8 && k.bits != 16
	if deep && (k.samples > 1 || k.format == tiffUnsigned && k.bits != 12) {
		return "Pillow, which decodes for PyTorch, reads no such TIFF: it has " + k.name(), nil
	}
	if k.fill == tiffLowestFirst && (deep || k.samples > 1 && k.bits > 8 || k.photometric == tiffSeparated ||
		k.photometric == tiffWhiteIsZero && k.bits == 8 || k.planar == 2) {
		return "Pillow, which decodes for PyTorch, does not read every TIFF of the other fill order right", nil
	}
	if k.bigEndian && k.format == tiffFloat && k.compression != tiffUncompressed {
		return "Pillow, which decodes for PyTorch, swaps the bytes of a TIFF of compressed floats in big-endian order", nil
	}
	return "", nil
}

// checkForms checks that the entries have the types and counts that nvImageCodec 0.9.0, which reads them for DALI,
// wants.
func (t *tiffWalk) checkForms() error {
	whole := []uint16{tiffShort, tiffLong}
	if t.big {
		whole = append(whole, tiffLong8)
	}
	for _, tag := range []uint16{
		tiffWidth, tiffLength, tiffCompression, tiffPhotometric, tiffOrientation, tiffSamplesPerPixel,
		tiffRowsPerStrip, tiffTileWidth, tiffTileLength, tiffFillOrder, tiffPlanar,
	} {
		if field, ok := t.dir[tag]; ok && (field.count != 1 || !slices.Contains(whole, field.form)) {
			return refuse(Unsupported, "TIFF has %d values of type %d in its tag %d, which DALI does not read",
				field.count, field.form, tag)
		}
	}
	for _, tag := range []uint16{tiffBits, tiffSampleFormat} {
		if field, ok := t.dir[tag]; ok && field.form != tiffShort {
			return refuse(Unsupported, "TIFF has values of type %d in its tag %d, which DALI does not read", field.form, tag)
		}
	}
	if _, strips := t.dir[tiffRowsPerStrip]; strips && t.dir[tiffTileWidth].count > 0 {
		return refuse(Unsupported, "TIFF has the tags of strips and those of tiles, which DALI does not read")
	}
	return nil
}

// checkPalette checks that a palette has a red, a green and a blue for each colour, of 16 bits.
func (t *tiffWalk) checkPalette() error {
	photometric, err := t.scalar(tiffPhotometric, tiffUnsaid)
	if err != nil || photometric != tiffPalette {
		return err
	}
	const colours = 3 << 8 // of 8-bit samples: checkColours refuses others
	palette := t.dir[tiffColorMap]
	if palette.count != colours || palette.form != tiffShort {
		return refuse(Malformed, "TIFF has %d values in its palette, its pixels need %d of 16 bits", palette.count, colours)
	}
	for i := range palette.count {
		if value, err := t.value(palette, i); err != nil || value > math.MaxUint8 {
			return err
		}
	}
	return refuse(Unsupported, "TIFF has a palette of 8 bits or all black, which DALI takes for black")
}

func (t *tiffWalk) readKind() (tiffKind, error) {
	k := tiffKind{}
	for _, tag := range []struct {
		tag     uint16
		missing uint64
		value   *uint64
	}{
		{tiffBits, 0, &k.bits}, // 1 by TIFF 6.0; DALI's parser wants to be told
		{tiffSampleFormat, tiffUnsigned, &k.format},
		{tiffCompression, tiffUncompressed, &k.compression},
		{tiffPhotometric, tiffUnsaid, &k.photometric},
		{tiffSamplesPerPixel, 1, &k.samples},
		{tiffExtraSamples, 0, &k.extra},
		{tiffPlanar, 1, &k.planar},
		{tiffFillOrder, 1, &k.fill},
		{tiffOrientation, 1, &k.orientation},
	} {
		value, err := t.scalar(tag.tag, tag.missing)
		if err != nil {
			return k, err
		}
		*tag.value = value
	}
	_, k.tiled = t.dir[tiffTileOffsets]
	k.bigEndian = t.data[0] == 'M'
	var err error
	if k.across, k.down, err = t.segmentSize(k.tiled); err != nil {
		return k, err
	}
	if count := t.dir[tiffBits].count; count > 1 && count < k.samples {
		return k, refuse(Unsupported, "TIFF says how many bits %d of its %d samples have, which DALI does not decode",
			count, k.samples)
	}
	if err := t.same(tiffBits, k.bits, "TIFF has samples of %d and of %d bits, which DALI does not decode"); err != nil {
		return k, err
	}
	return k, t.same(tiffSampleFormat, k.format, "TIFF has samples of the formats %d and %d, which DALI does not decode")
}

// same checks that all values of a tag are the first one.
func (t *tiffWalk) same(tag uint16, first uint64, sentence string) error {
	field := t.dir[tag]
	for i := range field.count {
		if value, err := t.value(field, i); err != nil || value != first {
			return cmp.Or(err, refuse(Unsupported, sentence, first, value))
		}
	}
	return nil
}

func (k tiffKind) checkSamples() error {
	allowed := []uint64{}
	switch k.format {
	case tiffUnsigned:
		allowed = []uint64{1, 8, 10, 12, 14, 16}
	case tiffFloat:
		allowed = []uint64{32}
	}
	switch {
	case k.bits == 0:
		return refuse(Unsupported, "TIFF does not say how many bits its samples have, which DALI does not decode")
	case !slices.Contains(allowed, k.bits):
		return refuse(Unsupported, "TIFF has %s, which DALI does not decode", k.name())
	}
	return nil
}

// name names the samples, for a sentence.
func (k tiffKind) name() string {
	kind := map[uint64]string{
		tiffUnsigned: "unsigned samples", tiffSigned: "signed samples", tiffFloat: "floating-point samples",
	}[k.format]
	if kind == "" {
		kind = "samples of an unknown format"
	}
	return strconv.FormatUint(k.bits, 10) + "-bit " + kind
}

func (k tiffKind) checkCompression() error {
	// None, CCITT (three), LZW, JPEG, Deflate (its two numbers), PackBits, Zstandard. DALI answers some others with black.
	if !slices.Contains([]uint64{tiffUncompressed, 2, 3, 4, 5, tiffJPEG, 8, 32773, 32946, 50000}, k.compression) {
		return refuse(Unsupported, "TIFF has compression method %d, which DALI does not decode right", k.compression)
	}
	if k.compression == tiffJPEG && k.bits != 8 {
		return refuse(Unsupported, "TIFF has JPEG in it, of %d bits, which DALI does not decode", k.bits)
	}
	if k.planar == 2 && k.samples > 1 && (k.tiled || k.bits != 8 || k.samples != 3) {
		return refuse(Unsupported, "TIFF has its channels apart, which DALI decodes right for strips of 8-bit RGB alone")
	}
	return nil
}

func (k tiffKind) checkColours() error {
	if k.photometric == tiffUnsaid {
		return refuse(Unsupported, "TIFF does not say what its samples mean (photometric interpretation): "+
			"DALI and Pillow take it for different things")
	}
	served := false
	switch k.photometric {
	case tiffWhiteIsZero:
		served = k.samples == 1 && k.bits <= 8
	case tiffBlackIsZero:
		served = k.samples == 1
	case tiffRGB:
		served = (k.samples == 3 || k.samples == 4) && k.bits > 1
	case tiffPalette:
		served = k.samples == 1 && k.bits == 8
	case tiffSeparated:
		served = k.samples == 4 && k.bits == 8
	case tiffYCbCr:
		served = k.samples == 3 && k.compression == tiffJPEG
	}
	if !served {
		return refuse(Unsupported, "TIFF has colours of kind %d (photometric interpretation) "+
			"in %d channels of %d bits, which DALI does not decode right",
			k.photometric, k.samples, k.bits)
	}
	if k.samples == 4 && k.photometric == tiffRGB && k.extra == tiffPremultiplied {
		return refuse(Unsupported, "TIFF has colours that were multiplied by their alpha, which DALI does not undo")
	}
	return nil
}

// byOpenCV reports whether nvImageCodec 0.9.0 leaves a TIFF that it has read the tags of to OpenCV: its own decoder has
// no such kind (extensions/libtiff/libtiff_decoder.cpp of its source).
func (k tiffKind) byOpenCV() bool {
	whole := k.across%tiffTileSide == 0 && k.down%tiffTileSide == 0 && k.bits > 1
	return !slices.Contains([]uint64{1, 8, 16, 32}, k.bits) ||
		k.photometric == tiffWhiteIsZero || k.photometric == tiffSeparated || k.planar == 2 && k.samples > 1 ||
		k.fill == tiffLowestFirst || k.tiled && !whole
}

// checkOpenCV refuses what is wrong where OpenCV decodes: it turns pictures unasked, and fails on some tiles.
func (k tiffKind) checkOpenCV() error {
	switch {
	case !k.byOpenCV():
	case k.format == tiffFloat:
		return refuse(Unsupported, "TIFF has floats in this kind of tiles or fill order, which DALI does not decode")
	case k.orientation != 1:
		return refuse(Unsupported, "TIFF has orientation %d, which DALI applies in part to this kind of it", k.orientation)
	case k.tiled && k.compression == tiffUncompressed:
		return refuse(Unsupported, "TIFF has uncompressed tiles, which DALI does not always decode in this kind of it")
	}
	return nil
}

// decoder returns what checks the pixels of the directory that was read.
func (t *tiffWalk) decoder() (func() error, error) {
	width, height, err := t.size()
	if err != nil {
		return nil, err
	}
	k, err := t.readKind()
	if err != nil {
		return nil, err
	}
	p := tiffPixels{kind: k, width: width, height: height, across: k.across, down: min(k.down, height)}
	p.offsets, p.counts = t.dir[tiffStripOffsets], t.dir[tiffStripByteCounts]
	if k.tiled {
		p.offsets, p.counts, p.down = t.dir[tiffTileOffsets], t.dir[tiffTileByteCounts], k.down
	}
	if tables, ok := t.dir[tiffJPEGTables]; ok {
		p.tables = t.data[tables.at : tables.at+tables.count*tables.size]
	}
	return func() error { return p.decode(t) }, nil
}
