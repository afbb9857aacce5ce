package picture

import (
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

	tiffPremultiplied = 1 // an extra sample that the colours were multiplied by
)

// tiffUnsaid is no photometric interpretation: those have 16 bits.
const tiffUnsaid = 1 << 16

// tiffKind is what a directory says about its samples.
type tiffKind struct {
	bits, format, compression, photometric, samples, extra, planar uint64
	tiled                                                          bool
}

// kind returns what PyTorch's decoder lacks for the directory that was read, and refuses what DALI 2.4.0's CPU decoder
// was seen to refuse or to decode wrongly: some kinds become black, or get one channel of another.
func (t *tiffWalk) kind() (unverifiable string, err error) {
	k, err := t.readKind()
	if err != nil {
		return "", err
	}
	for _, check := range []func() error{k.checkSamples, k.checkCompression, k.checkColours} {
		if err := check(); err != nil {
			return "", err
		}
	}
	deep := k.bits > 8 && k.bits != 16
	if deep && (k.samples > 1 || k.format == tiffUnsigned && k.bits != 12) {
		return "Pillow, which decodes for PyTorch, reads no such TIFF: it has " + k.name(), nil
	}
	return "", nil
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
	} {
		value, err := t.scalar(tag.tag, tag.missing)
		if err != nil {
			return k, err
		}
		*tag.value = value
	}
	_, k.tiled = t.dir[tiffTileOffsets]
	bits := t.dir[tiffBits]
	for i := range bits.count {
		other, err := t.value(bits, i)
		if err != nil {
			return k, err
		}
		if other != k.bits {
			return k, refuse(Unsupported, "TIFF has samples of %d and of %d bits, which DALI does not decode", k.bits, other)
		}
	}
	return k, nil
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
	kind := map[uint64]string{tiffUnsigned: "unsigned samples", tiffSigned: "signed samples", tiffFloat: "floating-point samples"}[k.format]
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
		return refuse(Unsupported, "TIFF does not say what its samples mean (photometric interpretation): DALI and Pillow take it for different things")
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
		return refuse(Unsupported, "TIFF has colours of kind %d (photometric interpretation) in %d channels of %d bits, which DALI does not decode right",
			k.photometric, k.samples, k.bits)
	}
	if k.samples == 4 && k.photometric == tiffRGB && k.extra == tiffPremultiplied {
		return refuse(Unsupported, "TIFF has colours that were multiplied by their alpha, which DALI does not undo")
	}
	return nil
}
