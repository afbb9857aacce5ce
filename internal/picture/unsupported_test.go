package picture_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/picture/picturetest"
)

// TestClientColumn holds what becomes of the pictures that broke something, before they are sent.
func TestClientColumn(t *testing.T) {
	t.Parallel()
	for _, r := range picturetest.Table() {
		t.Run(r.File, func(t *testing.T) {
			t.Parallel()
			_, err := picture.Check(picturetest.Data(t, r.File), picture.DefaultLimits())
			var refusal *picture.Error
			switch {
			case r.Client == picturetest.Sent && err != nil:
				t.Errorf("refused: %v", err)
			case r.Client != picturetest.Sent && (!errors.As(err, &refusal) || refusal.Reason != r.Client):
				t.Errorf("got %v, want it refused as %s", err, r.Client)
			}
		})
	}
}

// TestUnsupported has what is whole, or may be, and of a kind that DALI does not decode: nothing calls it damaged.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	all := samples(t)
	jpg, bm, rle := all["colour jpeg"].data, all["colour bmp"].data, all["rle8.bmp"].data
	frame := sof(t, jpg)
	kind := func(name string) []byte { return readFile(t, "testdata/kinds/"+name) }
	for name, tt := range map[string]struct {
		data []byte
		says string
	}{
		"jpeg, height by DNL":         {slices.Concat(patch(jpg, frame+5, 0, 0)[:len(jpg)-2], []byte{0xff, 0xdc, 0, 4, 0, 41, 0xff, 0xd9}), "DNL"},
		"jpeg, hierarchical":          {patch(jpg, frame+1, 0xc5), "SOF5"},
		"jpeg, lossless":              {picturetest.Data(t, "jpg-lossless-sof3.jpg"), "JPEG is lossless (SOF3), which DALI does not decode"},
		"jpeg, 12 bits":               {picturetest.Data(t, "jpg-12bit.jpg"), "DALI does not decode 12-bit JPEG"},
		"jpeg, five components":       {fiveComponents(jpg, frame), "5 components"},
		"jpeg, many scans":            {manyScans(t), "JPEG has 40 scans of 8000 × 8000 pixels"},
		"jpeg, scans left out":        {kind("jpg-progressive-lacks-scan.jpg"), "ends before the scans that complete coefficient"},
		"bmp, 7 bits":                 {patch(bm, 28, 7), "7 bits a pixel"},
		"bmp, RLE4":                   {patch(patch(rle, 28, 4), 30, 2), "4 bits a pixel with compression method 2"},
		"bmp, a JPEG in it":           {patch(bm, 30, 4), "compression method 4"},
		"bmp, masks":                  {picturetest.Data(t, "bmp-32-masks-rgb.bmp"), "BMP has colour masks"},
		"bmp, 16 bits":                {kind("bmp-16.bmp"), "16 bits a pixel"},
		"tiff, signed":                {picturetest.Data(t, "tif-int16.tif"), "TIFF has 16-bit signed samples, which DALI does not decode"},
		"tiff, 16-bit floats":         {kind("tif-grey-float16.tif"), "16-bit floating-point samples"},
		"tiff, premultiplied":         {kind("tif-rgba-premultiplied.tif"), "multiplied by their alpha"},
		"tiff, LZMA":                  {kind("tif-rgb-lzma.tif"), "compression method 34925"},
		"tiff, channels apart":        {kind("tif-rgb16-planar.tif"), "channels apart"},
		"tiff, grey with alpha":       {kind("tif-grey-alpha.tif"), "in 2 channels of 8 bits"},
		"tiff, bits not said":         {kind("tif-bilevel-no-bits.tif"), "does not say how many bits"},
		"tiff, colours not said":      {withoutTag(t, kind("tif-grey8.tif"), 262), "does not say what its samples mean"},
		"tiff, bits differ":           {bitsDiffer(t), "samples of 8 and of 16 bits"},
		"tiff, unknown sample format": {sampleFormat(t, 4), "samples of an unknown format"},
		"tiff, a deep JPEG in it":     {patch(kind("tif-grey16.tif"), tiffEntry(t, kind("tif-grey16.tif"), 259), 7), "JPEG in it, of 16 bits"},
		"j2k, grey":                   {kind("j2k-grey.j2k"), "grey codestream outside a JP2"},
		"j2k, offset":                 {kind("j2k-offset.j2k"), "beside the origin"},
		"j2k, 420":                    {kind("j2k-420.j2k"), "components of different sizes"},
		"j2k, 2³¹ wide":               {patch(kind("j2k-rgb.j2k"), 8, 0x80, 0, 0, 0), "a side of more than 2147483647 pixels"},
		"webp, 26 bytes":              {kind("webp-26-bytes.webp"), "WebP has 26 bytes, and DALI decodes none of less than 32"},
		"jp2, sYCC":                   {kind("j2k-sycc.jp2"), "colour space 18"},
		"jp2, signed":                 {kind("j2k-signed.jp2"), "signed samples"},
		"jp2, 12 bits":                {kind("j2k-grey12.jp2"), "samples of 12 bits"},
		"jp2, grey with alpha":        {kind("j2k-grey-alpha.jp2"), "2 components"},
		"jp2, long box":               {kind("j2k-length-64.jp2"), "length of 64 bits"},
		"pnm, up to 1023":             {kind("pnm-p6-1023.ppm"), "samples up to 1023"},
		"pnm, no spaces":              {kind("pnm-p1-tight.pbm"), "without white space"},
		"jpeg, CMYK not of Adobe":     {kind("jpg-cmyk-no-adobe.jpg"), "no segment of Adobe's"},
		"bmp, codes that skip":        {kind("bmp-8-rle-skips.bmp"), "skips pixels in row 5 of 16"},
		"bmp, codes that end":         {kind("bmp-8-rle-ends.bmp"), "ends its run-length codes in row 9 of 16"},
		"png, critical chunk":         {kind("png-critical-chunk.png"), `critical chunk "QUUX"`},
		"pnm, no space":               {kind("pnm-no-space.pgm"), "no white space behind its first two bytes"},
		"pnm, return":                 {kind("pnm-comment-return.pgm"), "a comment that a carriage return ends"},
		"pnm, touching comment":       {kind("pnm-comment-tight.pgm"), "a comment directly behind a number"},
		"pnm, a long comment":         {slices.Concat([]byte("P5\n#"), bytes.Repeat([]byte("x"), 4096), []byte("\n1 1\n255\n0")), "PNM has a header of 4109 bytes, the server reads at most 4096"},
		"tiff, fill order in a byte":  {patch(kind("tif-fill-order-2.tif"), tiffEntry(t, kind("tif-fill-order-2.tif"), 266)-6, 1), "1 values of type 1 in its tag 266"},
		"tiff, planes of no type":     {patch(kind("tif-rgb-planar.tif"), tiffEntry(t, kind("tif-rgb-planar.tif"), 284)-6, 99), "0 values of type 99 in its tag 284"},
		"tiff, 64 bits in a small":    {longOrientation(t), "1 values of type 16 in its tag 274"},
		"pnm, 8 bytes":                {kind("pnm-8-bytes.pbm"), "PNM has 8 bytes, and DALI decodes none of less than 10"},
		"tiff, PackBits across rows":  {kind("tif-packbits-across.tif"), "PackBits codes that go across rows"},
		"tiff, CMYK turned":           {kind("tif-cmyk-orientation-6.tif"), "TIFF has orientation 6"},
		"tiff, white zero turned":     {kind("tif-white-is-zero8-orientation-2.tif"), "TIFF has orientation 2"},
		"tiff, 12 bits turned":        {kind("tif-12-orientation-6.tif"), "TIFF has orientation 6"},
		"tiff, floats turned round":   {kind("tif-fill-order-2-float.tif"), "floats in this kind of tiles or fill order"},
		"tiff, planes turned":         {kind("tif-planar-orientation-6.tif"), "TIFF has orientation 6"},
		"tiff, tiles of 24":           {kind("tif-rgb-tiles-24.tif"), "uncompressed tiles"},
		"tiff, strips and tiles":      {kind("tif-strips-and-tiles.tif"), "the tags of strips and those of tiles"},
		"tiff, orientation in a byte": {kind("tif-orientation-byte.tif"), "1 values of type 1 in its tag 274"},
		"tiff, long bits":             {kind("tif-bits-long.tif"), "values of type 4 in its tag 258"},
		"tiff, palette up to 255":     {kind("tif-palette8-low.tif"), "a palette of 8 bits or all black"},
		"tiff, bits of 2 of 3":        {fewerBits(t), "how many bits 2 of its 3 samples have"},
		"jxl":                         {picturetest.Data(t, "jxl.jxl"), "it is JPEG XL, which DALI does not decode"},
		"jxl, container":              {kind("jxl-container.jxl"), "it is JPEG XL, which DALI does not decode"},
		"avif":                        {kind("avif-rgb.avif"), "it is AVIF"},
		"heif":                        {[]byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"), "it is HEIF"},
		"gif":                         {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), "it is GIF"},
		"pam":                         {kind("pam-rgb.pam"), "it is PAM"},
		"pfm":                         {kind("pfm-rgb.pfm"), "it is PFM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := refused(t, tt.data, picture.Limits{}, picture.Unsupported)
			if !strings.Contains(message, tt.says) || !strings.Contains(message, "of a kind that is not served") || strings.Contains(message, "damaged") {
				t.Errorf("message %q, want one with %q", message, tt.says)
			}
		})
	}
}

// TestScansThatEnd cuts the scans of a JPEG and puts an end marker behind them, as a repairing tool does.
func TestScansThatEnd(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"colour jpeg", "grey jpeg", "progressive.jpg", "restart.jpg", "cmyk.jpg"} {
		data := samples(t)[name].data
		scan := bytes.LastIndex(data, []byte{0xff, 0xda})
		start := scan + 2 + int(binary.BigEndian.Uint16(data[scan+2:]))
		// The last byte of a scan is padding in part; of what comes before it each is missed.
		for end := start; end < len(data)-4; end++ {
			_, err := picture.Check(slices.Concat(data[:end], []byte{0xff, 0xd9}), picture.DefaultLimits())
			var refusal *picture.Error
			if !errors.As(err, &refusal) || refusal.Reason == picture.Unsupported || refusal.Reason == picture.Unknown {
				t.Fatalf("%s with %d of the %d bytes of its last scan: got %v, want it refused", name, end-start, len(data)-2-start, err)
			}
		}
	}
}

// TestTruncated has what lacks a part that no count of bytes tells of.
func TestTruncated(t *testing.T) {
	t.Parallel()
	tiles := readFile(t, "testdata/kinds/j2k-tiles.j2k")
	last := bytes.LastIndex(tiles, []byte("\xff\x90\x00\x0a"))
	for name, tt := range map[string]struct {
		data []byte
		says string
	}{
		"jpeg, a component":  {readFile(t, "testdata/kinds/jpg-lacks-component.jpg"), "component 3 of 3"},
		"jpeg, taller":       {picturetest.Data(t, "jpg-height-more.jpg"), "before its 60 × 300 pixels are complete"},
		"png, rows":          {readFile(t, "testdata/kinds/png-lacks-rows.png"), "before its 24 × 16 are complete"},
		"png, bytes":         {readFile(t, "testdata/kinds/png-lacks-bytes.png"), "before its 24 × 16 are complete"},
		"png, one byte":      {withPixels(t, readFile(t, "testdata/kinds/png-interlaced.png"), func(p []byte) []byte { return p[:len(p)-1] }), "before its 24 × 16"},
		"tiff, LZW":          {readFile(t, "testdata/kinds/tif-lacks-lzw.tif"), "strip or tile 1 of 1 before their 16 rows"},
		"tiff, Deflate":      {readFile(t, "testdata/kinds/tif-lacks-deflate.tif"), "strip or tile 3 of 4 before their 4 rows"},
		"tiff, Zstandard":    {readFile(t, "testdata/kinds/tif-lacks-zstd.tif"), "strip or tile 2 of 2 before their 16 rows"},
		"tiff, PackBits":     {readFile(t, "testdata/kinds/tif-lacks-packbits.tif"), "strip or tile 2 of 2 before"},
		"tiff, uncompressed": {readFile(t, "testdata/kinds/tif-lacks-bytes.tif"), "strip or tile 3 of 4 before their 4 rows"},
		"tiff, JPEG":         {readFile(t, "testdata/kinds/tif-lacks-jpeg.tif"), "strip or tile 1 of 1, a fault: JPEG of"},
		"jpeg 2000, a tile":  {slices.Concat(tiles[:last], []byte("\xff\xd9")), "has 3 of its 4 tiles"},
		"jpeg 2000, the end": {readFile(t, "testdata/kinds/j2k-lacks-end.j2k"), "without its end marker"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if message := refused(t, tt.data, picture.DefaultLimits(), picture.Truncated); !strings.Contains(message, tt.says) {
				t.Errorf("message %q, want one with %q", message, tt.says)
			}
		})
	}
}

// manyScans returns a progressive JPEG of 64 million pixels with scans of a byte each.
func manyScans(t *testing.T) []byte {
	t.Helper()
	data := samples(t)["progressive.jpg"].data
	scan := bytes.Index(data, []byte{0xff, 0xda})
	out := patch(data[:scan], sof(t, data)+5, 8000>>8, 8000&0xff, 8000>>8, 8000&0xff)
	for range 40 {
		out = append(out, 0xff, 0xda, 0, 8, 1, data[scan+5], 0, 1, 63, 0, 0)
	}
	return append(out, 0xff, 0xd9)
}

// fiveComponents gives a JPEG's frame header two more.
func fiveComponents(data []byte, frame int) []byte {
	out := slices.Concat(data[:frame+19], []byte{4, 0x11, 0, 5, 0x11, 0}, data[frame+19:])
	out[frame+3], out[frame+9] = 23, 5
	return out
}

// longOrientation returns a TIFF whose orientation has 64 bits, which are elsewhere in the file: those of a BigTIFF are not.
func longOrientation(t *testing.T) []byte {
	t.Helper()
	data := readFile(t, "testdata/kinds/tif-rgb-orientation-6.tif")
	entry := tiffEntry(t, data, 274)
	out := patch(data, entry-6, 16, 0)
	binary.LittleEndian.PutUint32(out[entry:], uint32(len(out)))
	return append(out, 6, 0, 0, 0, 0, 0, 0, 0)
}

// bitsDiffer returns a TIFF in RGB whose samples have different numbers of bits.
func bitsDiffer(t *testing.T) []byte {
	t.Helper()
	data := readFile(t, "testdata/kinds/tif-rgb8.tif")
	at := binary.LittleEndian.Uint32(data[tiffEntry(t, data, 258):])
	return patch(data, int(at)+2, 16)
}

// fewerBits returns a TIFF in RGB that says the bits of two samples.
func fewerBits(t *testing.T) []byte {
	t.Helper()
	data := readFile(t, "testdata/kinds/tif-rgb8.tif")
	entry := tiffEntry(t, data, 258)
	return patch(data, entry-4, 2, 0, 0, 0, 8, 0, 8, 0)
}

// sampleFormat returns a TIFF with another sample format.
func sampleFormat(t *testing.T, format byte) []byte {
	t.Helper()
	data := readFile(t, "testdata/kinds/tif-grey-float32.tif")
	return patch(data, tiffEntry(t, data, 339), format)
}

// withPixels returns a PNG with changed pixels, in one whole zlib stream.
func withPixels(t *testing.T, data []byte, change func(pixels []byte) []byte) []byte {
	t.Helper()
	at := bytes.Index(data, []byte("IDAT"))
	end := at + 4 + int(binary.BigEndian.Uint32(data[at-4:]))
	inflated, err := zlib.NewReader(bytes.NewReader(data[at+4 : end]))
	if err != nil {
		t.Fatal(err)
	}
	pixels, err := io.ReadAll(inflated)
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	body.WriteString("IDAT")
	z := zlib.NewWriter(&body)
	_, _ = z.Write(change(pixels)) // into memory
	_ = z.Close()
	out := binary.BigEndian.AppendUint32(slices.Clone(data[:at-4]), uint32(body.Len()-4))
	out = append(out, body.Bytes()...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body.Bytes()))
	return append(out, data[end+4:]...)
}

// kinds lists the pictures of testdata/kinds.
func kinds(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("testdata/kinds")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// withoutTag returns a TIFF whose first directory has another tag, which means nothing, in the place of one.
func withoutTag(t *testing.T, data []byte, tag uint16) []byte {
	t.Helper()
	const unknown, size = 65_000, 8 // the value follows tag, type and count
	return patch(data, tiffEntry(t, data, tag)-size, unknown&0xff, unknown>>8)
}
