package picture_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/picture"
)

// loopingTIFF returns a TIFF whose only directory is the one after it, too.
func loopingTIFF() []byte {
	return tiffOf(8, tiffEntries(1, 1, 1))
}

// tiffEntries returns the entries of a directory with one strip at byte 0.
func tiffEntries(width, height, strip uint32) [][3]uint32 {
	return [][3]uint32{{256, 1, width}, {257, 1, height}, {273, 1, 0}, {279, 1, strip}}
}

// tiffOf returns a TIFF with one directory of LONG entries (tag, count, value)
// at byte 8, and the place of the directory after it.
func tiffOf(next uint32, entries [][3]uint32) []byte {
	le := binary.LittleEndian
	out := append([]byte("II*\x00"), 8, 0, 0, 0)
	out = le.AppendUint16(out, uint16(len(entries)))
	for _, e := range entries {
		out = le.AppendUint16(out, uint16(e[0]))
		out = le.AppendUint16(out, 4)
		out = le.AppendUint32(le.AppendUint32(out, e[1]), e[2])
	}
	return le.AppendUint32(out, next)
}

// webpOf returns a WebP of chunks: a name and a body by turns.
func webpOf(chunks ...string) []byte {
	var body []byte
	for i := 0; i < len(chunks); i += 2 {
		body = append(body, chunks[i]...)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(chunks[i+1])))
		body = append(body, chunks[i+1]...)
		body = append(body, make([]byte, len(chunks[i+1])%2)...)
	}
	out := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body)+4))
	return append(append(out, "WEBP"...), body...)
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	all := samples(t)
	jpg, pic, tif := all["colour jpeg"].data, all["colour png"].data, all["raw tiff"].data
	bm, rle := all["colour bmp"].data, all["rle8.bmp"].data
	frame := sof(t, jpg)
	idat := bytes.Index(pic, []byte("IDAT")) - 4
	iend := bytes.Index(pic, []byte("IEND")) - 4
	palette := all["palette png"].data
	plte := bytes.Index(palette, []byte("PLTE")) - 4
	plteEnd := plte + 12 + int(binary.BigEndian.Uint32(palette[plte:]))
	lossless := "\x2f\x04\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, tt := range map[string]struct {
		data []byte
		says string
	}{
		"jpeg without data":         {slices.Concat(jpg[:frame], []byte{0xff, 0xd9}), "without any picture data"},
		"jpeg scan before frame":    {slices.Concat(jpg[:2], []byte{0xff, 0xda, 0, 2, 0xff, 0xd9}), "before any frame header"},
		"jpeg with two frames":      {slices.Concat(jpg[:frame], jpg[frame:frame+19], jpg[frame:]), "second frame header"},
		"jpeg in a jpeg":            {slices.Concat(jpg[:2], jpg), "0xffd8"},
		"jpeg, bytes between":       {slices.Concat(jpg[:frame], []byte("xyz"), jpg[frame:]), "no marker at byte"},
		"jpeg, segment of length 1": {patch(jpg, frame+2, 0, 1), "impossible length 1"},
		"jpeg, short frame":         {patch(jpg, frame+9, 200), "too short for its components"},
		"jpeg, no components":       {patch(jpg, frame+9, 0), "too short for its components"},
		"jpeg, width 0":             {patch(jpg, frame+7, 0, 0), "0 pixels wide"},
		"jpeg, height by DNL":       {slices.Concat(patch(jpg, frame+5, 0, 0)[:len(jpg)-2], []byte{0xff, 0xdc, 0, 4, 0, 41, 0xff, 0xd9}), "DNL"},
		"jpeg, hierarchical":        {patch(jpg, frame+1, 0xc5), "SOF5"},

		"png, wrong checksum":  {patch(pic, idat+20, pic[idat+20]^1), "IDAT at byte"},
		"png, no IHDR":         {slices.Concat(pic[:8], pic[idat:]), "starts with chunk"},
		"png, two IHDR":        {slices.Concat(pic[:33], pic[8:]), "second IHDR"},
		"png, no IDAT":         {slices.Concat(pic[:idat], pic[iend:]), "no IDAT"},
		"png, no name":         {patch(pic, idat+4, 0), "no chunk name"},
		"png, long chunk":      {patch(pic, idat, 0xff), "impossible length"},
		"png, width 0":         {patchIHDR(pic, 0, 0, 0, 0, 0), "0 × 41"},
		"png, height 2³¹":      {patchIHDR(pic, 4, 0x80), "pixels"},
		"png, 4 bits RGB":      {patchIHDR(pic, 8, 4, 2), "colour type 2 with 4 bits"},
		"png, colour type 5":   {patchIHDR(pic, 9, 5), "colour type 5"},
		"png, interlace 2":     {patchIHDR(pic, 12, 2), "interlace 2"},
		"png, compression 1":   {patchIHDR(pic, 10, 1), "compression 1"},
		"png, no palette":      {slices.Concat(palette[:plte], palette[plteEnd:]), "no PLTE"},
		"png, IHDR of 0 bytes": {[]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x00IHDR\xa8\xa1\xae\x0a"), "IHDR chunk of 0 bytes"},

		"bmp, header of 41": {patch(bm, 14, 41), "information header of 41 bytes"},
		"bmp, 7 bits":       {patch(bm, 28, 7), "7 bits a pixel"},
		"bmp, RLE4":         {patch(patch(rle, 28, 4), 30, 2), "4 bits a pixel with compression method 2"},
		"bmp, a JPEG in it": {patch(bm, 30, 4), "compression method 4"},
		"bmp, two planes":   {patch(bm, 26, 2), "2 colour planes"},
		"bmp, data at 3":    {patch(bm, 10, 3, 0, 0, 0), "at byte 3"},
		"bmp, width 0":      {patch(bm, 18, 0), "0 × 41"},
		"bmp, width below 0": {
			patch(bm, 18, 0xff, 0xff, 0xff, 0xff), "4294967295 × 41",
		},

		"tiff, no directory":      {[]byte("II*\x00\x00\x00\x00\x00"), "no directory"},
		"tiff, itself as next":    {loopingTIFF(), "names itself"},
		"tiff, width 0":           {patch(tif, tiffEntry(t, tif, 256), 0), "0 × 41"},
		"tiff, too few strips":    {patch(tif, tiffEntry(t, tif, 278), 1, 0), "its size needs 41"},
		"tiff, 0 rows in a strip": {patch(tif, tiffEntry(t, tif, 278), 0, 0), "57 × 0"},
		"tiff, no strips":         {tiffOf(0, tiffEntries(1, 1, 1)[:2]), "0 strips or tiles"},
		"tiff, no lengths":        {tiffOf(0, tiffEntries(1, 1, 1)[:3]), "the lengths of 0"},
		"tiff, strip of nothing":  {tiffOf(0, tiffEntries(1, 1, 0)), "no bytes for strip or tile 1"},
		"tiff, many directories":  {append(tiffOf(0, append(tiffEntries(1, 1, 1), [3]uint32{330, 5000, 0})), make([]byte, 20000)...), "more than 4096 directories"},

		"webp, no picture":       {webpOf("VP8X", strings.Repeat("\x00", 10)), "no picture data"},
		"webp, nothing":          {webpOf(), "no picture data"},
		"webp, size of 2":        {[]byte("RIFF\x02\x00\x00\x00WEBPVP8 "), "2 bytes"},
		"webp, starts with EXIF": {webpOf("EXIF", "abcd", "VP8L", lossless), `chunk "EXIF"`},
		"webp, no key frame":     {patch(all["lossy.webp"].data, 20, 1), "no picture header"},
		"webp, no signature":     {patch(all["lossless.webp"].data, 20, 0), "no picture header"},
		"webp, width 0":          {patch(all["lossy.webp"].data, 26, 0, 0), "no picture header"},
		"webp, other canvas":     {webpOf("VP8X", strings.Repeat("\x00", 10), "VP8L", lossless), "on a canvas of 1 × 1"},
		"webp, second VP8X":      {webpOf("VP8L", lossless, "VP8X", strings.Repeat("\x00", 10)), "not its first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := refused(t, tt.data, picture.DefaultLimits(), picture.Malformed)
			if !strings.Contains(message, tt.says) {
				t.Errorf("message %q, want one with %q", message, tt.says)
			}
		})
	}
}

// TestTolerates has what is unusual and decodes all the same.
func TestTolerates(t *testing.T) {
	t.Parallel()
	all := samples(t)
	jpg, rle := all["colour jpeg"].data, all["rle8.bmp"].data
	frame := sof(t, jpg)
	pic := all["animated.png"].data
	ancillary := bytes.Index(pic, []byte("acTL"))
	for name, data := range map[string][]byte{
		"jpeg, fill bytes":           slices.Concat(jpg[:frame], []byte{0xff, 0xff, 0xff}, jpg[frame:]),
		"jpeg, a thumbnail after it": slices.Concat(jpg, jpg),
		"jpeg, extended process":     patch(jpg, frame+1, 0xc1),
		"png, ancillary checksum":    patch(pic, ancillary+4, pic[ancillary+4]^1),
		"bmp, no size in header":     patch(all["colour bmp"].data, 2, 0, 0, 0, 0),
		"bmp, no end code":           patch(rle[:len(rle)-2], 2, 0, 0, 0, 0, 0, 0, 0, 0, rle[10], rle[11], rle[12], rle[13]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "bmp, no end code" {
				data = patch(data, 34, 0, 0, 0, 0)
			}
			info, err := picture.Check(data, picture.DefaultLimits())
			if err != nil || info.Width != 57 || info.Height != 41 {
				t.Errorf("got %+v, %v", info, err)
			}
		})
	}
}

// TestRunLengthCodes cuts the codes where each kind of them is.
func TestRunLengthCodes(t *testing.T) {
	t.Parallel()
	header := slices.Clone(samples(t)["rle8.bmp"].data)
	header = header[:binary.LittleEndian.Uint32(header[10:])]
	header = patch(patch(header, 2, 0, 0, 0, 0), 34, 0, 0, 0, 0)
	for name, tt := range map[string]struct {
		codes string
		whole bool
	}{
		"end":                   {"\x00\x01", true},
		"run, end":              {"\x39\x05\x00\x01", true},
		"a move, end":           {"\x00\x02\x03\x04\x00\x01", true},
		"a move over the top":   {"\x00\x02\x00\x29", true},
		"pixels, padded, end":   {"\x00\x03abc\x00\x00\x01", true},
		"the last row complete": {"\x00\x02\x00\x28\x39\x05", true},
		"nothing":               {"", false},
		"one byte":              {"\x39", false},
		"a run":                 {"\x39\x05", false},
		"half a move":           {"\x00\x02\x03", false},
		"pixels cut":            {"\x00\x02\x00\x28\x00\x39abc", false},
		"pixels without an end": {"\x00\x03abc", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := append(slices.Clone(header), tt.codes...)
			if tt.whole {
				if _, err := picture.Check(data, picture.DefaultLimits()); err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, data, picture.DefaultLimits(), picture.Truncated)
		})
	}
}
