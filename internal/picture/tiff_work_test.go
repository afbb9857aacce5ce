package picture_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"image"
	"image/jpeg"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/dalirun/dalirun/internal/picture"
)

// stripsTIFF returns a grey TIFF of 8 bits whose strips have so many rows each, with further entries of LONG.
func stripsTIFF(width, rows, compression uint32, strips [][]byte, further ...[3]uint32) []byte {
	le := binary.LittleEndian
	var offsets, counts, body []byte
	for _, strip := range strips {
		offsets, counts = le.AppendUint32(offsets, uint32(len(body))), le.AppendUint32(counts, uint32(len(strip)))
		body = append(body, strip...)
	}
	count, body := uint32(len(strips)), append(body, make([]byte, len(body)%2)...)
	entries := slices.Concat([][3]uint32{
		{256, 1, width}, {257, 1, rows * count}, {258, 1, 8}, {259, 1, compression}, {262, 1, 1}, {273, count, 0}, {277, 1, 1}, {278, 1, rows}, {279, count, 0},
	}, further)
	start := uint32(len(tiffOf(0, entries)))
	for i := range count {
		le.PutUint32(offsets[4*i:], start+le.Uint32(offsets[4*i:]))
	}
	end := start + uint32(len(body))
	entries[5][2], entries[8][2] = end, end+4*count
	if count == 1 {
		entries[5][2], entries[8][2] = le.Uint32(offsets), le.Uint32(counts)
	}
	out := tiffOf(0, entries)
	le.PutUint16(out[8+2+2*12+2:], 3) // the bits of a sample are a SHORT
	return slices.Concat(out, body, offsets, counts)
}

// deflated returns bytes of one value, deflated.
func deflated(size int) []byte {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, _ = z.Write(make([]byte, size)) // into memory
	_ = z.Close()
	return out.Bytes()
}

// zstdDeclaring returns a Zstandard frame of width bytes of one value whose header declares a content of declared bytes, all of which
// a decoder may have to refer back to (RFC 8878, section 3.1.1).
func zstdDeclaring(declared, width uint32) []byte {
	out := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, declared)
	block := 1<<1 | width<<3 // a run, not the last block
	return append(out, byte(block), byte(block>>8), byte(block>>16), 7)
}

// zstdWindow returns a Zstandard frame of zeros that says the largest window which libzstd reads.
func zstdWindow(tb testing.TB, size int) []byte {
	tb.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(128<<20), zstd.WithSingleSegment(false))
	if err != nil {
		tb.Fatal(err)
	}
	return z.EncodeAll(make([]byte, size), nil)
}

// TestStripsShareMemory holds what the strips of a TIFF make a decoder allocate: its time went there.
func TestStripsShareMemory(t *testing.T) { //nolint:paralleltest // it counts what the process allocates
	const count, width = 1000, 1000           // a decompressor that is made anew takes 40 KB and more
	for name, tt := range map[string]struct { //nolint:paralleltest // see above
		compression uint32
		fill        uint32
		strip       func(i uint32) []byte
		most        uint64 // bytes
	}{
		"deflate":                 {8, 1, func(uint32) []byte { return deflated(width) }, 8 << 20},
		"zstd":                    {50000, 1, func(i uint32) []byte { return zstdDeclaring(100<<20+i, width) }, 300 << 20},
		"zstd, growing":           {50000, 1, func(i uint32) []byte { return zstdDeclaring(width+i*(100<<10), width) }, 300 << 20},
		"the other order of bits": {1, 2, func(uint32) []byte { return make([]byte, 16*width) }, 8 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			strips := make([][]byte, count)
			for i := range strips {
				strips[i] = tt.strip(uint32(i))
			}
			data := stripsTIFF(width, uint32(max(1, len(strips[0])/width)), tt.compression, strips, [3]uint32{266, 1, tt.fill})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := picture.Check(data, picture.DefaultLimits())
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > tt.most {
				t.Errorf("%d strips took %d bytes, want at most %d", count, took, tt.most)
			}
		})
	}
}

// TestStripsThatCost has strips and tiles whose work is not bounded by the bytes and pixels of the picture.
func TestStripsThatCost(t *testing.T) {
	t.Parallel()
	overlapping := stripsTIFF(1, 1, 32773, [][]byte{append(bytes.Repeat([]byte{128}, 1000), 0, 9), {0, 9}})
	entry := tiffEntry(t, overlapping, 273)
	at := binary.LittleEndian.Uint32(overlapping[entry:])
	first := binary.LittleEndian.Uint32(overlapping[at:])
	overlapping = patch(overlapping, int(at)+4, byte(first), byte(first>>8), 0, 0)
	overlapping = patch(overlapping, int(at)+8+4, 0xea, 3) // its bytes, 1002 as well
	var block bytes.Buffer
	if err := jpeg.Encode(&block, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	var large bytes.Buffer
	if err := jpeg.Encode(&large, image.NewGray(image.Rect(0, 0, 8, 24)), nil); err != nil {
		t.Fatal(err)
	}
	tables := slices.Concat([]byte{0xff, 0xd8}, bytes.Repeat([]byte{0xff}, 100_000), []byte{0xff, 0xd9})
	withTables := stripsTIFF(8, 8, 7, slices.Repeat([][]byte{block.Bytes()}, 16), [3]uint32{347, uint32(len(tables)), 0})
	place := tiffEntry(t, withTables, 347)
	withTables = append(patch(withTables, place-6, 7, 0), tables...) // UNDEFINED, which are bytes
	binary.LittleEndian.PutUint32(withTables[place:], uint32(len(withTables)-len(tables)))

	// Of arithmetic coding, which nothing decodes here: each strip alone may have so many scans.
	scans := []byte{0xff, 0xd8, 0xff, 0xca, 0, 11, 8, 4000 >> 8, 4000 & 0xff, 8000 >> 8, 8000 & 0xff, 1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0}
	for range 30 {
		scans = append(scans, 0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0)
	}
	scans = append(scans, 0xff, 0xd9)
	for name, tt := range map[string]struct {
		data   []byte
		reason picture.Reason
		says   string
	}{
		"the same bytes":       {overlapping, picture.Malformed, "strips or tiles of 2004 bytes together: they overlap"},
		"JPEG larger than one": {stripsTIFF(8, 8, 7, [][]byte{large.Bytes()}), picture.Malformed, "JPEG of 8 × 24 pixels in strips or tiles of 8 × 8"},
		"JPEG tables":          {withTables, picture.Malformed, "100004 bytes of JPEG tables for each of 16 strips or tiles"},
		"JPEG scans":           {stripsTIFF(8000, 4000, 7, [][]byte{scans, scans}), picture.Unsupported, "in strip or tile 2 of 2, a fault: JPEG scans of more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if message := refused(t, tt.data, picture.DefaultLimits(), tt.reason); !strings.Contains(message, tt.says) {
				t.Errorf("message %q, want one with %q", message, tt.says)
			}
		})
	}
	if _, err := picture.Check(stripsTIFF(8, 8, 7, [][]byte{block.Bytes(), block.Bytes()}), picture.DefaultLimits()); err != nil {
		t.Error(err)
	}
}

// BenchmarkTIFF has the figures of docs/pictures.md, and what kept a decoder busy for minutes.
func BenchmarkTIFF(b *testing.B) {
	const side = 8000
	rows := func(strip []byte, count int) [][]byte { return slices.Repeat([][]byte{strip}, count) }
	for name, data := range map[string][]byte{
		"deflate":               stripsTIFF(side, side, 8, [][]byte{deflated(side * side)}),
		"zstd, largest window":  stripsTIFF(side, side, 50000, [][]byte{zstdWindow(b, side*side)}),
		"zstd, 60000 strips":    stripsTIFF(1000, 1, 50000, rows(zstdDeclaring(100<<20, 1000), 60_000)),
		"deflate, 60000 strips": stripsTIFF(1000, 1, 8, rows(deflated(1000), 60_000)),
		"LZW, 60000 strips":     stripsTIFF(1, 1, 5, rows([]byte{0x80, 0x00, 0x60, 0x20}, 60_000)),
		"PackBits of nothing":   stripsTIFF(1, 1, 32773, [][]byte{append(bytes.Repeat([]byte{128}, 60<<20), 0, 9)}),
		"deflate, blocks of nothing": stripsTIFF(1, 1, 8, [][]byte{slices.Concat(
			[]byte{0x78, 0x9c}, bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 12<<20), []byte{1, 1, 0, 0xfe, 0xff, 5})}),
		"zstd, blocks of nothing": stripsTIFF(10, 1, 50000, [][]byte{slices.Concat(
			[]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3}, bytes.Repeat([]byte{0, 0, 0}, 20<<20), []byte{10<<3 | 3, 0, 0, 7})}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := picture.Check(data, picture.DefaultLimits()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
