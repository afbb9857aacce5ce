package picture_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
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

// twoOfNoType returns a TIFF with a tag twice, once of a type that does not exist: libtiff takes the first one all the same.
func twoOfNoType() []byte {
	entries := tiffEntries(1, 1, 1)
	return patch(tiffOf(0, append(entries, entries[len(entries)-1])), 8+2+12*len(entries)+2, 99)
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

// scanHeader returns the place of the first scan's length.
func scanHeader(data []byte) int { return bytes.Index(data, []byte{0xff, 0xda}) + 2 }

// patchIDAT lets a PNG's pixels start with what is no zlib, under a right checksum.
func patchIDAT(data []byte) []byte {
	at := bytes.Index(data, []byte("IDAT"))
	out := patch(data, at+4, 0)
	end := at + 4 + int(binary.BigEndian.Uint32(data[at-4:]))
	binary.BigEndian.PutUint32(out[end:], crc32.ChecksumIEEE(out[at:end]))
	return out
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	all := samples(t)
	jpg, pic, tif := all["colour jpeg"].data, all["colour png"].data, all["raw tiff"].data
	bm := all["colour bmp"].data
	frame := sof(t, jpg)
	idat := bytes.Index(pic, []byte("IDAT")) - 4
	iend := bytes.Index(pic, []byte("IEND")) - 4
	palette := all["palette png"].data
	plte := bytes.Index(palette, []byte("PLTE")) - 4
	plteEnd := plte + 12 + int(binary.BigEndian.Uint32(palette[plte:]))
	j2k, jp2 := all["j2k-rgb.j2k"].data, all["j2k-rgb.jp2"].data
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

		"png, filter 7":           {readFile(t, "testdata/kinds/png-wrong-filter.png"), "filter 7"},
		"png, colours":            {readFile(t, "testdata/kinds/png-wrong-colours.png"), "its palette has 100"},
		"png, palette of 257":     {readFile(t, "testdata/kinds/png-wrong-palette.png"), "PLTE chunk of 771 bytes"},
		"png, two palettes":       {readFile(t, "testdata/kinds/png-wrong-palette-twice.png"), "or several"},
		"bmp, colours":            {readFile(t, "testdata/kinds/bmp-8-palette-100.bmp"), "its palette has 100"},
		"bmp, palette of 300":     {readFile(t, "testdata/kinds/bmp-8-palette-300.bmp"), "a palette of 300 colours"},
		"bmp, palette cut":        {readFile(t, "testdata/kinds/bmp-8-palette-cut.bmp"), "before the 256 colours of its palette"},
		"bmp, run over its row":   {readFile(t, "testdata/kinds/bmp-8-rle-over.bmp"), "more than 24 pixels in row 1"},
		"jpeg, restart before it": {readFile(t, "testdata/kinds/jpg-restart-outside.jpg"), "a restart marker at byte"},
		"pnm, 22 digits":          {readFile(t, "testdata/kinds/pnm-digits.pgm"), "a number of 22 digits"},
		"tiff, Group 4 cut":       {readFile(t, "testdata/kinds/tif-lacks-group4.tif"), "do not decompress: ccitt"},
		"tiff, corrupt Deflate":   {readFile(t, "testdata/kinds/tif-wrong-deflate.tif"), "do not decompress: flate"},
		"tiff, palette of 300":    {readFile(t, "testdata/kinds/tif-palette8-short.tif"), "300 values in its palette"},
		"bmp, header of 41":       {patch(bm, 14, 41), "information header of 41 bytes"},
		"bmp, two planes":         {patch(bm, 26, 2), "2 colour planes"},
		"bmp, data at 3":          {patch(bm, 10, 3, 0, 0, 0), "at byte 3"},
		"bmp, width 0":            {patch(bm, 18, 0), "0 × 41"},
		"bmp, width below 0": {
			patch(bm, 18, 0xff, 0xff, 0xff, 0xff), "4294967295 × 41",
		},

		"tiff, no directory":      {[]byte("II*\x00\x00\x00\x00\x00"), "no directory"},
		"tiff, itself as next":    {loopingTIFF(), "names itself"},
		"tiff, two widths":        {patch(tif, tiffEntry(t, tif, 258)-8, 0, 1), "tag 256 twice"},
		"tiff, tiles of 1":        {tiffOf(0, [][3]uint32{{256, 1, 1}, {257, 1, 1}, {322, 1, 16}, {323, 1, 1}, {324, 1, 0}, {325, 1, 1}}), "tiles of 16 × 1 pixels, want sides of at least 16"},
		"tiff, two artists":       {tiffOf(0, append(tiffEntries(1, 1, 1), [3]uint32{315, 1, 0}, [3]uint32{315, 1, 0})), "tag 315 twice"},
		"tiff, two of no type":    {twoOfNoType(), "tag 279 twice"},
		"tiff, width 0":           {patch(tif, tiffEntry(t, tif, 256), 0), "0 × 41"},
		"tiff, too few strips":    {patch(tif, tiffEntry(t, tif, 278), 1, 0), "its size needs 41"},
		"tiff, 0 rows in a strip": {patch(tif, tiffEntry(t, tif, 278), 0, 0), "57 × 0"},
		"tiff, no strips":         {tiffOf(0, tiffEntries(1, 1, 1)[:2]), "0 strips or tiles"},
		"tiff, no lengths":        {tiffOf(0, tiffEntries(1, 1, 1)[:3]), "the lengths of 0"},
		"tiff, strip of nothing":  {tiffOf(0, tiffEntries(1, 1, 0)), "no bytes for strip or tile 1"},
		"tiff, many directories":  {append(tiffOf(0, append(tiffEntries(1, 1, 1), [3]uint32{330, 5000, 0})), make([]byte, 20000)...), "more than 4096 directories"},

		"png, bad pixels":   {patchIDAT(pic), "do not inflate"},
		"jpeg, scan of 9":   {patch(jpg, scanHeader(jpg)+2, 9), "scan header of"},
		"jpeg, bad restart": {readFile(t, "testdata/kinds/jpg-lacks-restart.jpg"), "bad RST marker"},

		"jpeg, another component in its scan": {patch(jpg, bytes.Index(jpg, []byte{0xff, 0xda})+5, 9), "a scan of a component 9"},
		"jpeg, components out of order":       {patch(jpg, bytes.Index(jpg, []byte{0xff, 0xda})+5, 2, 0x11, 1), "a scan of a component 1"},
		"j2k, no SIZ":                         {patch(jp2, bytes.Index(jp2, []byte("jp2c"))+7, 0x52), "starts with marker 0xff52"},
		"j2k, SIZ of 5":                       {patch(j2k, 4, 0, 5), "SIZ segment of 3 bytes"},
		"j2k, width 0":                        {patch(j2k, 8, 0, 0, 0, 0), "reaches from 0, 0 to 0, 16"},
		"j2k, tile of 0":                      {patch(j2k, 24, 0, 0, 0, 0), "tiles of 0 × 16"},
		"j2k, tile beside":                    {patch(j2k, 32, 0, 0, 0, 9), "beside the picture"},
		"j2k, many tiles":                     {patch(j2k, 8, 0, 0, 0xff, 0xff, 0, 0, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1), "the format allows 65535"},
		"j2k, no COD":                         {patch(j2k, bytes.Index(j2k, []byte("\xff\x52"))+1, 0x64), "no COD"},
		"j2k, tile 7":                         {patch(j2k, bytes.Index(j2k, []byte("\xff\x90"))+5, 6), "part of tile 7, and 1 tiles"},
		"j2k, no packets":                     {patch(j2k, bytes.Index(j2k, []byte("\xff\x90"))+6, 0, 0, 0, 12), "no packets"},
		"j2k, part of 1":                      {patch(j2k, bytes.Index(j2k, []byte("\xff\x90"))+6, 0, 0, 0, 1), "no packets"},
		"jp2, sizes differ":                   {patch(jp2, bytes.Index(jp2, []byte("ihdr"))+7, 17), "24 × 17 pixels in its JP2 header, and of 24 × 16"},
		"jp2, box of 3":                       {patch(jp2, 12, 0, 0, 0, 3), "box of 3 bytes at byte 12"},
		"jp2, box over":                       {patch(jp2, bytes.Index(jp2, []byte("colr"))-1, 99), "do not fill it"},
		"jp2, no codestream":                  {patch(jp2, bytes.Index(jp2, []byte("jp2c"))+4, 0), "no codestream"},

		"pnm, width 0":     {[]byte("P5 0 4 255\n"), "0 × 4"},
		"pnm, width 2³¹":   {[]byte("P5 2147483648 4 255\n"), "2147483648 × 4"},
		"pnm, up to 0":     {[]byte("P5 1 1 0\n."), "up to 0"},
		"pnm, up to 65536": {[]byte("P5 1 1 65536\n.."), "up to 65536"},
		"pnm, no number":   {[]byte("P2 1 1 255\nx\n"), "no number at byte 11"},
		"pnm, sample over": {[]byte("P2 1 1 100\n101\n"), "sample 101 in row 1"},
		"pnm, -4 wide":     {[]byte("P2 1 -1 100\n1\n"), "no number at byte 5"},

		"webp, no picture":        {webpOf("VP8X", strings.Repeat("\x00", 10)), "no picture data"},
		"webp, nothing":           {webpOf(), "no picture data"},
		"webp, size of 2":         {[]byte("RIFF\x02\x00\x00\x00WEBPVP8 "), "2 bytes"},
		"webp, starts with EXIF":  {webpOf("EXIF", "abcd", "VP8L", lossless), `chunk "EXIF"`},
		"webp, no key frame":      {patch(all["lossy.webp"].data, 20, 1), "no picture header"},
		"webp, no signature":      {patch(all["lossless.webp"].data, 20, 0), "no picture header"},
		"webp, width 0":           {patch(all["lossy.webp"].data, 26, 0, 0), "no picture header"},
		"webp, other canvas":      {webpOf("VP8X", strings.Repeat("\x00", 10), "VP8L", lossless), "on a canvas of 1 × 1"},
		"webp, still animation":   {readFile(t, "testdata/kinds/webp-wrong-still.webp"), "outside a frame"},
		"webp, two pictures":      {readFile(t, "testdata/kinds/webp-wrong-two.webp"), "behind another picture"},
		"webp, alpha of lossless": {readFile(t, "testdata/kinds/webp-wrong-alpha.webp"), "behind an ALPH chunk"},
		"webp, alpha after":       {readFile(t, "testdata/kinds/webp-wrong-alpha-after.webp"), "ALPH chunk behind its picture data"},
		"webp, frame of nothing":  {readFile(t, "testdata/kinds/webp-wrong-frame.webp"), "a frame of 16 bytes"},
		"webp, frame beside":      {readFile(t, "testdata/kinds/webp-wrong-frame-beside.webp"), "beyond its canvas of 24 × 16"},
		"webp, frame cut":         {readFile(t, "testdata/kinds/webp-wrong-frame-cut.webp"), "without the whole of a picture"},
		"webp, not announced":     {readFile(t, "testdata/kinds/webp-wrong-animation.webp"), "does not announce"},
		"webp, second VP8X":       {webpOf("VP8L", lossless, "VP8X", strings.Repeat("\x00", 10)), "not its first"},
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
		"png, more pixels":           withPixels(t, all["colour png"].data, func(p []byte) []byte { return append(p, p[:172]...) }),
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

// TestRunLengthCodes ends the codes where each kind of them is. Rows of the first 40 are whole.
func TestRunLengthCodes(t *testing.T) {
	t.Parallel()
	header := slices.Clone(samples(t)["rle8.bmp"].data)
	header = header[:binary.LittleEndian.Uint32(header[10:])]
	header = patch(patch(header, 2, 0, 0, 0, 0), 34, 0, 0, 0, 0)
	rows := strings.Repeat("\x39\x05\x00\x00", 40)
	for name, tt := range map[string]struct {
		codes  string
		reason picture.Reason // "" is none
	}{
		"whole":                     {rows + "\x39\x05\x00\x01", ""},
		"without an end":            {rows + "\x39\x05", ""},
		"rows that end early":       {strings.Repeat("\x01\x05\x00\x00", 41), ""},
		"the last row as it is":     {rows + "\x00\x39" + strings.Repeat("\x01", 57) + "\x00", ""},
		"end only":                  {"\x00\x01", picture.Unsupported},
		"run, end":                  {"\x39\x05\x00\x01", picture.Unsupported},
		"a pixel less, end":         {rows + "\x38\x05\x00\x01", picture.Unsupported},
		"pixels, padded, end":       {"\x00\x03abc\x00\x00\x01", picture.Unsupported},
		"a move, then whole":        {"\x00\x02\x00\x00" + rows + "\x39\x05\x00\x01", picture.Unsupported},
		"a move over the top":       {"\x00\x02\x00\x29", picture.Unsupported},
		"nothing":                   {"", picture.Truncated},
		"one byte":                  {"\x39", picture.Truncated},
		"a run":                     {"\x39\x05", picture.Truncated},
		"pixels cut":                {rows + "\x00\x39abc", picture.Truncated},
		"pixels without an end":     {"\x00\x03abc", picture.Truncated},
		"a run over its row":        {"\x3a\x05", picture.Malformed},
		"two runs over a row":       {"\x39\x05\x01\x05", picture.Malformed},
		"pixels over their row":     {"\x37\x05\x00\x03abc\x00", picture.Malformed},
		"run of an unknown colour":  {"\x39\xff", picture.Malformed},
		"pixel of unknown a colour": {"\x00\x03a\xffb\x00", picture.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := append(slices.Clone(header), tt.codes...)
			data = patch(data, 46, 255, 0, 0, 0) // colours that the palette has
			if tt.reason == "" {
				if _, err := picture.Check(data, picture.DefaultLimits()); err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, data, picture.DefaultLimits(), tt.reason)
		})
	}
}
