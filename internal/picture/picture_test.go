package picture_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/picture"
)

type sample struct {
	data []byte
	info picture.Info
}

// samples returns real pictures of every format: encoded by Go's libraries here,
// and by Pillow for what these do not write.
func samples(tb testing.TB) map[string]sample {
	tb.Helper()
	out := map[string]sample{}
	for name, s := range encoders() {
		var b bytes.Buffer
		if err := s.encode(&b); err != nil {
			tb.Fatalf("encode %s: %v", name, err)
		}
		out[name] = sample{b.Bytes(), picture.Info{Format: s.format, Width: 57, Height: 41}}
	}
	formats := map[string]picture.Format{
		".jpg": picture.JPEG, ".png": picture.PNG, ".bmp": picture.BMP, ".tif": picture.TIFF, ".webp": picture.WebP,
		".j2k": picture.JPEG2000, ".jp2": picture.JPEG2000, ".pbm": picture.PNM, ".pgm": picture.PNM, ".ppm": picture.PNM,
	}
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		tb.Fatal(err)
	}
	// What Go's libraries do not write.
	for _, kind := range []string{
		"j2k-rgb.j2k", "j2k-rgb.jp2", "j2k-tiles.j2k", "j2k-parts.jp2", "j2k-grey.jp2", "j2k-part-length-0.j2k", "j2k-length-0.jp2",
		"pnm-p1.pbm", "pnm-p2.pgm", "pnm-p3.ppm", "pnm-p4.pbm", "pnm-p5.pgm", "pnm-p6.ppm", "pnm-p5-65535.pgm", "png-interlaced.png",
	} {
		files = append(files, filepath.Join("testdata", "kinds", kind))
	}
	for _, file := range files {
		format, ok := formats[filepath.Ext(file)]
		if !ok {
			continue
		}
		info := picture.Info{Format: format, Width: 57, Height: 41}
		switch filepath.Base(file) {
		case "big.tif", "pages.tif", "big-endian-strips.tif":
			info.Width, info.Height = 24, 16
		}
		if filepath.Base(filepath.Dir(file)) == "kinds" {
			info.Width, info.Height = 24, 16
		}
		out[filepath.Base(file)] = sample{readFile(tb, file), info}
	}
	if len(out) < 20 {
		tb.Fatalf("only %d samples: %v", len(out), slices.Sorted(maps.Keys(out)))
	}
	return out
}

type encoder struct {
	format picture.Format
	encode func(*bytes.Buffer) error
}

func encoders() map[string]encoder {
	bounds := image.Rect(0, 0, 57, 41)
	rgba, grey, deep := image.NewNRGBA(bounds), image.NewGray(bounds), image.NewGray16(bounds)
	paletted := image.NewPaletted(bounds, color.Palette{color.Black, color.White, color.NRGBA{R: 200, A: 255}})
	for i := range 57 * 41 {
		x, y := i%57, i/57
		shade := uint8(x*y*7 + x*x)
		rgba.SetNRGBA(x, y, color.NRGBA{R: shade, G: uint8(x * 4), B: uint8(y * 6), A: 255})
		grey.SetGray(x, y, color.Gray{Y: shade})
		deep.SetGray16(x, y, color.Gray16{Y: uint16(i) * 20})
		paletted.SetColorIndex(x, y, shade%3)
	}
	jpegOf := func(m image.Image) encoder {
		return encoder{picture.JPEG, func(b *bytes.Buffer) error { return jpeg.Encode(b, m, nil) }}
	}
	pngOf := func(m image.Image) encoder {
		return encoder{picture.PNG, func(b *bytes.Buffer) error { return png.Encode(b, m) }}
	}
	bmpOf := func(m image.Image) encoder {
		return encoder{picture.BMP, func(b *bytes.Buffer) error { return bmp.Encode(b, m) }}
	}
	tiffOf := func(m image.Image, c tiff.CompressionType) encoder {
		return encoder{picture.TIFF, func(b *bytes.Buffer) error { return tiff.Encode(b, m, &tiff.Options{Compression: c}) }}
	}
	return map[string]encoder{
		"colour jpeg": jpegOf(rgba), "grey jpeg": jpegOf(grey),
		"colour png": pngOf(rgba), "grey png": pngOf(grey), "deep png": pngOf(deep), "palette png": pngOf(paletted),
		"colour bmp": bmpOf(rgba), "palette bmp": bmpOf(paletted),
		"raw tiff": tiffOf(rgba, tiff.Uncompressed), "deflate tiff": tiffOf(rgba, tiff.Deflate), "palette tiff": tiffOf(paletted, tiff.Deflate),
	}
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// refused fails unless data is refused for a reason, and returns the message.
func refused(t *testing.T, data []byte, limits picture.Limits, reason picture.Reason) string {
	t.Helper()
	info, err := picture.Check(data, limits)
	var refusal *picture.Error
	if !errors.As(err, &refusal) || refusal.Reason != reason || info != (picture.Info{}) {
		t.Fatalf("got %+v, %v; want it refused as %s", info, err, reason)
	}
	return err.Error()
}

func TestAccepts(t *testing.T) {
	t.Parallel()
	for name, s := range samples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, padding := range []int{0, 1, 3, 1000} {
				info, err := picture.Check(append(slices.Clone(s.data), make([]byte, padding)...), picture.DefaultLimits())
				if err != nil {
					t.Fatalf("padded with %d zeros: %v", padding, err)
				}
				if diff := cmp.Diff(s.info, info); diff != "" {
					t.Errorf("padded with %d zeros (-want +got):\n%s", padding, diff)
				}
			}
		})
	}
}

// TestEveryPrefixIsRefused cuts every picture at every byte.
func TestEveryPrefixIsRefused(t *testing.T) {
	t.Parallel()
	for name, s := range samples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, s.data[:0], picture.DefaultLimits(), picture.Empty)
			whole := len(s.data)
			if bytes.HasPrefix(s.data, []byte("P1")) {
				whole = len(bytes.TrimRight(s.data, "\n")) // each pixel is one digit
			}
			for n := 1; n < whole; n++ {
				_, err := picture.Check(s.data[:n], picture.DefaultLimits())
				var refusal *picture.Error
				if !errors.As(err, &refusal) || refusal.Reason != picture.Truncated {
					t.Fatalf("%d of %d bytes: got %v, want it refused as truncated", n, len(s.data), err)
				}
			}
		})
	}
}

// TestPaddedPrefixIsRefused cuts every JPEG and pads it with zeros, as a client
// does that makes the pictures of a batch equally long.
func TestPaddedPrefixIsRefused(t *testing.T) {
	t.Parallel()
	for name, s := range samples(t) {
		if s.info.Format != picture.JPEG && s.info.Format != picture.PNG {
			continue // an uncompressed row of zeros is black, not missing
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; n < len(s.data); n++ {
				if info, err := picture.Check(append(slices.Clone(s.data[:n]), make([]byte, len(s.data))...), picture.DefaultLimits()); err == nil {
					t.Fatalf("%d of %d bytes: got %+v, want it refused", n, len(s.data), info)
				}
			}
		})
	}
}

// TestThumbnailEnd cuts a picture behind the end marker of its thumbnail.
func TestThumbnailEnd(t *testing.T) {
	t.Parallel()
	data := readFile(t, "testdata/exif-thumbnail.jpg")
	end := []byte{0xff, 0xd9}
	if n := bytes.Count(data, end); n != 2 {
		t.Fatalf("the file has %d end markers, the test needs the thumbnail's and its own", n)
	}
	refused(t, data[:bytes.Index(data, end)+len(end)], picture.DefaultLimits(), picture.Truncated)
	refused(t, data[:bytes.LastIndex(data, end)], picture.DefaultLimits(), picture.Truncated)
}

// What to do is said apart from what is wrong: programs read the two apart.
func TestHints(t *testing.T) {
	t.Parallel()
	for reason, want := range map[picture.Reason]string{
		picture.Empty: "check that it was written or downloaded", picture.Unknown: "send a JPEG, PNG, BMP, TIFF, WebP, JPEG 2000 or PNM",
		picture.Truncated: "copy or download it again", picture.Malformed: "save it again with another program",
		picture.TooLarge: "scale it down before sending it", picture.Unsupported: "save it as another kind, such as PNG",
	} {
		err := picture.Error{Reason: reason, Detail: "it has seven ears"}
		if err.Hint() != want || !strings.HasSuffix(err.Error(), ": it has seven ears") {
			t.Errorf("%s: %q, hint %q", reason, err.Error(), err.Hint())
		}
	}
}

func TestNoPicture(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		data, says string
	}{
		"pdf":         {"%PDF-1.7\n%\xe2\xe3", "a PDF"},
		"html":        {"<!DOCTYPE html><html><body>404 Not Found", "an HTML page"},
		"text":        {"a picture of a cat", "text"},
		"utf-16":      {"\xff\xfea\x00b\x00", "text"},
		"xml":         {"<?xml version=\"1.0\"?><cat/>", "XML"},
		"svg":         {"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "an SVG drawing"},
		"svg alone":   {"<svg viewBox=\"0 0 1 1\"></svg>", "an SVG drawing"},
		"page of svg": {"<!DOCTYPE html><html><svg></svg>", "an HTML page"},
		"lfs":         {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, which stands for a file that `git lfs pull` fetches"},
		"gzip":        {"\x1f\x8b\x08\x00", "a gzip file"},
		"xz":          {"\xfd7zXZ\x00\x00", "an xz file"},
		"tar":         {strings.Repeat("cat.jpg", 36) + "\x00\x00\x00\x00\x00ustar\x0000" + strings.Repeat("\x00", 200), "a tar archive"},
		"rar":         {"Rar!\x1a\x07\x00", "a RAR archive"},
		"postscript":  {"%!PS-Adobe-3.0", "PostScript"},
		"mp4":         {"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "a video"},
		"font":        {"\x00\x01\x00\x00\x00\x0f", "a font"},
		"icon":        {"\x00\x00\x01\x00\x01\x00", "an icon"},
		"array":       {"\x93NUMPY\x01\x00", "a NumPy array"},
		"program":     {"\x7fELF\x02\x01\x01", "a program"},
		"wasm":        {"\x00asm\x01\x00\x00\x00", "a WebAssembly program"},
		"bm text":     {"BMW and Mercedes are two makers of cars", "something that starts with BM and is no BMP"},
		"wave":        {"RIFF\x24\x00\x00\x00WAVEfmt ", "a recording"},
		"zip":         {"PK\x03\x04\x14\x00", "a ZIP archive"},
		"zeros":       {strings.Repeat("\x00", 100), "arbitrary bytes"},
		"pnm text":    {"P6 is a letter and a digit", "text"},
		"pixels only": {strings.Repeat("\x80\x81\x07", 100), "arbitrary bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := refused(t, []byte(tt.data), picture.DefaultLimits(), picture.Unknown)
			if want := "picture is in no known format: it looks like " + tt.says; message != want {
				t.Errorf("message %q, want %q", message, want)
			}
		})
	}
}

// patch returns data with bytes replaced at a place.
func patch(data []byte, at int, with ...byte) []byte {
	out := slices.Clone(data)
	copy(out[at:], with)
	return out
}

// patchIHDR replaces bytes of a PNG's header and mends its checksum.
func patchIHDR(data []byte, at int, with ...byte) []byte {
	out := patch(data, 16+at, with...)
	binary.BigEndian.PutUint32(out[29:], crc32.ChecksumIEEE(out[12:29]))
	return out
}

// sof returns the place of the marker of a JPEG's frame header.
func sof(t *testing.T, data []byte) int {
	t.Helper()
	for at := 2; at+4 < len(data); at += 2 + int(binary.BigEndian.Uint16(data[at+2:])) {
		if data[at+1] == 0xc0 || data[at+1] == 0xc2 {
			return at
		}
	}
	t.Fatal("the JPEG has no frame header")
	return 0
}

// tiffEntry returns the place of the value of a tag in the first directory.
func tiffEntry(t *testing.T, data []byte, tag uint16) int {
	t.Helper()
	at := int(binary.LittleEndian.Uint32(data[4:]))
	for i := range int(binary.LittleEndian.Uint16(data[at:])) {
		if entry := at + 2 + 12*i; binary.LittleEndian.Uint16(data[entry:]) == tag {
			return entry + 8
		}
	}
	t.Fatalf("the TIFF has no tag %d", tag)
	return 0
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	all := samples(t)
	jpg, tif := all["colour jpeg"].data, all["raw tiff"].data
	side := []byte{0x30, 0x75} // 30,000, little-endian
	for name, data := range map[string][]byte{
		"jpeg":            patch(jpg, sof(t, jpg)+5, 0x75, 0x30, 0x75, 0x30),
		"progressive":     patch(all["progressive.jpg"].data, sof(t, all["progressive.jpg"].data)+5, 0x75, 0x30, 0x75, 0x30),
		"jpeg, header":    patch(jpg, sof(t, jpg)+5, 0x75, 0x30, 0x75, 0x30)[:sof(t, jpg)+40],
		"png":             patchIHDR(all["colour png"].data, 0, 0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30),
		"png, one side":   patchIHDR(all["colour png"].data, 0, 0, 1, 0, 0, 0, 0, 0, 1),
		"bmp":             patch(patch(all["colour bmp"].data, 18, side...), 22, side...),
		"bmp, top down":   patch(patch(all["colour bmp"].data, 18, side...), 22, 0xd0, 0x8a, 0xff, 0xff),
		"tiff":            patch(patch(tif, tiffEntry(t, tif, 256), side...), tiffEntry(t, tif, 257), side...),
		"webp, lossy":     patch(all["lossy.webp"].data, 26, 0xff, 0x3f, 0xff, 0x3f),
		"webp, lossless":  patch(all["lossless.webp"].data, 21, 0xff, 0xff, 0xff, 0x1f),
		"webp, canvas":    patch(all["alpha.webp"].data, 24, 0x2f, 0x75, 0, 0x2f, 0x75, 0),
		"jpeg 2000":       patch(all["j2k-rgb.j2k"].data, 8, 0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30),
		"pnm":             slices.Concat([]byte("P6\n30000 30000\n255\n"), all["pnm-p6.ppm"].data),
		"pnm, text":       []byte("P2\n30000 30000\n255\n1 2 3"),
		"webp, animation": patch(all["animated.webp"].data, 24, 0x2f, 0x75, 0, 0x2f, 0x75, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message := refused(t, data, picture.DefaultLimits(), picture.TooLarge)
			if !strings.Contains(message, " × ") || !strings.Contains(message, "limit") {
				t.Errorf("message %q, want one with the size and the limit", message)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, s := range samples(t) {
		size, pixels, side := int64(len(s.data)), int64(s.info.Width)*int64(s.info.Height), s.info.Width
		for _, limits := range []picture.Limits{{}, {MaxBytes: size, MaxPixels: pixels, MaxSide: side}, {MaxBytes: -1, MaxPixels: -1, MaxSide: -1}} {
			if _, err := picture.Check(s.data, limits); err != nil {
				t.Errorf("%s with %+v: %v", name, limits, err)
			}
		}
		for _, limits := range []picture.Limits{{MaxBytes: size - 1}, {MaxPixels: pixels - 1}, {MaxSide: side - 1}} {
			refused(t, s.data, limits, picture.TooLarge)
		}
	}
}

// TestBeyondDefaultLimits checks that pixels which no default limit allows are not decoded where a caller allows them: it would take long.
func TestBeyondDefaultLimits(t *testing.T) {
	t.Parallel()
	all := samples(t)
	jpg, pic := all["colour jpeg"].data, readFile(t, "testdata/kinds/png-rgb8.png")
	side := []byte{0, 0, 0x23, 0x28}
	huge := slices.Concat(pic[:16], side, side, pic[24:])
	binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
	for name, data := range map[string][]byte{"jpeg": patch(jpg, sof(t, jpg)+5, 0x23, 0x28, 0x23, 0x28), "png": huge} {
		if info, err := picture.Check(data, picture.Limits{}); err != nil || info.Width != 9000 || info.Height != 9000 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		refused(t, data, picture.DefaultLimits(), picture.TooLarge)
	}
}

// TestMemory is not parallel: the bytes that are allocated are those of the whole process.
func TestMemory(t *testing.T) { //nolint:paralleltest // see above
	all := samples(t)
	jpg := all["progressive.jpg"].data
	scan := bytes.LastIndex(jpg, []byte{0xff, 0xda})
	// As arithmetic code, which nothing here decodes.
	long := patch(slices.Concat(jpg[:scan+20], bytes.Repeat([]byte{0x55, 0xff, 0x00, 0xff, 0xd0}, 1<<21), jpg[scan+20:]), sof(t, jpg)+1, 0xca)
	huge := patch(jpg, sof(t, jpg)+5, 0x75, 0x30, 0x75, 0x30)
	if _, err := picture.Check(long, picture.DefaultLimits()); err != nil {
		t.Fatalf("a scan of 10 MB: %v", err)
	}
	for name, data := range map[string][]byte{"a scan of 10 MB": long, "30,000 × 30,000": huge, "a directory that names itself": loopingTIFF()} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = picture.Check(data, picture.DefaultLimits()) // only its memory is of interest
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<10 {
			t.Errorf("%s: %d bytes were allocated", name, used)
		}
	}
}

func TestDefaultLimitsFitOneAnother(t *testing.T) {
	t.Parallel()
	limits := picture.DefaultLimits()
	if limits.MaxPixels*3 >= 1<<29 {
		t.Errorf("%d pixels of RGB are more than what DALI's JPEG decoder calls too large", limits.MaxPixels)
	}
	if int64(limits.MaxSide)*int64(limits.MaxSide) < limits.MaxPixels || limits.MaxBytes <= 0 {
		t.Errorf("limits %+v contradict one another", limits)
	}
}

// TestOneLimit holds what is sent against what the local server's DALI backend takes.
func TestOneLimit(t *testing.T) {
	t.Parallel()
	limits := picture.DefaultLimits()
	for _, tt := range []struct {
		file, pattern string
		unit, want    int64
	}{
		{"backend_dali.py", `(?m)^MAX_PIXELS = ([\d_]+)$`, 1, limits.MaxPixels},
		{"decoder.py", `(?m)^MAX_PICTURE = (\d+) << 20$`, 1 << 20, limits.MaxBytes},
		{"decoder.py", `(?m)^PNM_HEADER_BYTES = (\d+) `, 1, pnmHeader(t)},
	} {
		program, err := dalirun.Assets.ReadFile("assets/python/" + tt.file)
		if err != nil {
			t.Fatal(err)
		}
		match := regexp.MustCompile(tt.pattern).FindSubmatch(program)
		if match == nil {
			t.Errorf("%s has no %s", tt.file, tt.pattern)
			continue
		}
		takes, err := strconv.ParseInt(strings.ReplaceAll(string(match[1]), "_", ""), 10, 64)
		if err != nil || takes*tt.unit != tt.want {
			t.Errorf("%d are sent, and the server takes %d by %s (%v)", tt.want, takes*tt.unit, tt.pattern, err)
		}
	}
}

// pnmHeader returns the bytes of the longest header of a PNM that is sent.
func pnmHeader(t *testing.T) int64 {
	t.Helper()
	for size := 20; size < 1<<16; size++ {
		head := []byte("P5\n#" + strings.Repeat("x", size-len("P5\n#\n1 1\n255\n")) + "\n1 1\n255\n")
		if _, err := picture.Check(append(head, 0), picture.DefaultLimits()); err != nil {
			return int64(len(head)) - 1
		}
	}
	t.Fatal("no header is too long")
	return 0
}
