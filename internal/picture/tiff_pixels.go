package picture

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/image/ccitt"
	"golang.org/x/image/tiff/lzw"
)

// TIFF compression methods whose pixels are looked at (TIFF 6.0; 8 and 34925 of Adobe, 50000 of libtiff), besides those
// of tiff_kind.go.
const (
	tiffGroup4   = 4
	tiffLZW      = 5
	tiffDeflate  = 8
	tiffPackBits = 32773
	tiffDeflate2 = 32946
	tiffZstd     = 50000
)

// tiffZstdWindow is the bytes that libzstd keeps at most to refer back to, unless it is told otherwise
// (ZSTD_WINDOWLOG_LIMIT_DEFAULT).
const tiffZstdWindow = 128 << 20

// tiffMaxTables is more than the tables of a JPEG have: four of quantization of 16 bits and eight of Huffman codes
// (T.81).
const tiffMaxTables = 4*(4+129) + 8*(4+17+256)

// tiffPixels is where the pixels of a directory are, and how they are stored.
type tiffPixels struct {
	kind            tiffKind
	width, height   uint64 // of the picture
	across, down    uint64 // pixels of a strip or tile
	offsets, counts tiffField
	tables          []byte // of JPEG, for all strips and tiles; may be empty
	readers         tiffReaders
	scanned         uint64 // pixels of the scans of all JPEG so far
}

// tiffReaders are of use for one strip or tile after another: new ones for each of thousands would take more time than
// what is read with them.
type tiffReaders struct {
	buffer []byte // of a strip or tile whose bytes are not those of the file
	zlib   io.Reader
	zstd   *zstd.Decoder
}

// decode checks that each strip and tile has all of its pixels. libtiff gives those that are missing the value 0, and
// DALI answers such a picture without an error. Strips or tiles of more pixels than two pictures of DefaultLimits are
// not looked at: the tiles of a picture may be larger than it is.
func (p *tiffPixels) decode(t *tiffWalk) error {
	defer p.readers.close()
	columns, rows := (p.width-1)/p.across+1, (p.height-1)/p.down+1
	samples, planes := p.kind.samples, uint64(1)
	if p.kind.planar == 2 {
		samples, planes = 1, samples
	}
	row := (p.across*samples*p.kind.bits + 7) / 8
	if p.across*columns > 2*maxDecoded()/(p.down*rows) {
		return nil
	}
	if p.kind.compression == tiffJPEG {
		// Each JPEG is decoded with the tables, which take time as its own bytes and pixels do.
		if given := uint64(len(t.data)) +
			p.across*columns*p.down*rows*samples; uint64(len(p.tables)) > tiffMaxTables+given/(columns*rows*planes) {
			return refuse(Malformed,
				"TIFF has %d bytes of JPEG tables for each of %d strips or tiles, more than they need", len(p.tables),
				columns*rows*planes)
		}
	}
	for i := range columns * rows * planes {
		down := p.down
		if !p.kind.tiled {
			down = min(down, p.height-i%rows*p.down)
		}
		packed, err := p.segment(t, i)
		if err != nil {
			return err
		}
		err = p.unpack(packed, row, down)
		var refused *Error
		switch {
		case errors.As(err, &refused):
			return refuse(refused.Reason, "TIFF with, in strip or tile %d of %d, a fault: %s", i+1, columns*rows*planes,
				refused.Detail)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return refuse(Truncated, "TIFF ends the pixels of strip or tile %d of %d before their %d rows are complete",
				i+1, columns*rows*planes, down)
		case err != nil:
			return refuse(Malformed, "TIFF has pixels in strip or tile %d of %d that do not decompress: %v", i+1,
				columns*rows*planes, err)
		}
	}
	return nil
}

// segment returns the bytes of a strip or tile, which are in the file, each with its highest bit first.
func (p *tiffPixels) segment(t *tiffWalk, index uint64) ([]byte, error) {
	at, err := t.value(p.offsets, index)
	if err != nil {
		return nil, err
	}
	length, err := t.value(p.counts, index)
	if err != nil {
		return nil, err
	}
	packed := t.data[at : at+length]
	if p.kind.fill != tiffLowestFirst {
		return packed, nil
	}
	turned := p.readers.buffer[:0]
	for _, b := range packed {
		turned = append(turned, bits.Reverse8(b))
	}
	p.readers.buffer = turned
	return turned, nil
}

// unpack decompresses a strip or tile of so many rows of bytes, and keeps none of them. It returns io.EOF or
// io.ErrUnexpectedEOF if there are too few, nil where nothing here can tell.
func (p *tiffPixels) unpack(packed []byte, row, rows uint64) error {
	var pixels io.Reader = bytes.NewReader(packed)
	switch p.kind.compression {
	case tiffUncompressed:
	case tiffPackBits:
		return p.unpackBits(packed, row, rows)
	case tiffJPEG:
		return p.unpackJPEG(packed)
	case tiffGroup4:
		//nolint:gosec // at most 2²⁶ pixels
		pixels = ccitt.NewReader(pixels, ccitt.MSB, ccitt.Group4, int(p.across), int(rows), nil)
	case tiffLZW:
		if len(packed) > 1 && packed[0] == 0 && packed[1]&1 == 1 {
			return nil // of before TIFF 6.0, with its bits in another order: libtiff knows it by this
		}
		pixels = lzw.NewReader(pixels, lzw.MSB, 8) // of nothing that has to be closed
	case tiffDeflate, tiffDeflate2:
		reader, err := p.readers.inflate(pixels)
		if err != nil {
			return err
		}
		pixels = reader
	case tiffZstd:
		reader, err := p.readers.zstandard(pixels)
		if err != nil {
			return err
		}
		pixels = reader
	default:
		return nil
	}
	_, err := io.CopyN(io.Discard, pixels, int64(row*rows)) //nolint:gosec // see decode
	return err
}

// inflate returns a reader of what a strip or tile has in Deflate.
func (r *tiffReaders) inflate(packed io.Reader) (io.Reader, error) {
	if resetter, ok := r.zlib.(zlib.Resetter); ok {
		return r.zlib, resetter.Reset(packed, nil)
	}
	reader, err := zlib.NewReader(packed)
	if err != nil {
		return nil, err
	}
	r.zlib = reader
	return reader, nil
}

// zstandard returns a reader of what a strip or tile has in Zstandard.
func (r *tiffReaders) zstandard(packed io.Reader) (io.Reader, error) {
	if r.zstd == nil {
		// With less memory than two windows it would move a whole one for each megabyte that it reads.
		reader, err := zstd.NewReader(bytes.NewReader(tiffZstdLargest()), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(tiffZstdWindow),
			zstd.WithDecoderLowmem(false))
		if err != nil {
			return nil, err
		}
		r.zstd = reader
		// It keeps the windows of the largest frame that it has read, and makes new ones for a larger frame: strips
		// that say a little more each would have it make thousands.
		if _, err := io.Copy(io.Discard, reader); err != nil {
			return nil, err
		}
	}
	return r.zstd, r.zstd.Reset(packed)
}

// tiffZstdLargest returns a frame of nothing that says tiffZstdWindow (RFC 8878, section 3.1.1): a descriptor without
// any flag, the window as an exponent above ten in the upper five bits, and the header of a last block that has no
// bytes.
func tiffZstdLargest() []byte {
	const exponent = 27
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, (exponent - 10) << 3, 1, 0, 0}
}

func (r *tiffReaders) close() {
	if r.zstd != nil {
		r.zstd.Close()
	}
}

// unpackBits follows the codes of PackBits (TIFF 6.0, section 9), which end with each row. DALI reads by rows, and
// loses what is left of a code that goes on behind the end of one.
func (p *tiffPixels) unpackBits(packed []byte, row, rows uint64) error {
	if p.kind.tiled || p.kind.byOpenCV() { // not by rows
		row, rows = row*rows, 1
	}
	for range rows {
		for unpacked := uint64(0); unpacked < row; {
			if len(packed) < 2 {
				return io.ErrUnexpectedEOF
			}
			code := int8(packed[0])               //nolint:gosec // a signed number by the format
			length, run := 2, uint64(1-int(code)) //nolint:gosec // overwritten where it is negative
			switch {
			case code >= 0: // that many bytes as they are, and one more
				length, run = 2+int(code), 1+uint64(code)
			case code == -128: // nothing
				length, run = 1, 0
			}
			if length > len(packed) {
				return io.ErrUnexpectedEOF
			}
			if packed, unpacked = packed[length:], unpacked+run; unpacked > row && rows > 1 {
				return refuse(Unsupported,
					"TIFF has PackBits codes that go across rows, which DALI does not decode right")
			}
		}
	}
	return nil
}

// unpackJPEG decodes a strip or tile that is a JPEG, or needs the tables to be one (Adobe's TIFF Technical Note 2).
func (p *tiffPixels) unpackJPEG(packed []byte) error {
	const marker = 2 // bytes of SOI and of EOI, which stand at both ends of each part
	if len(p.tables) > 2*marker && len(packed) > marker {
		packed = append(bytes.Clone(p.tables[:len(p.tables)-marker]), packed[marker:]...)
	}
	if !bytes.HasPrefix(packed, []byte{0xff, jpegSOI}) {
		return errors.New("it is no JPEG")
	}
	frame, err := walkJPEGFrame(packed)
	if err != nil {
		return err
	}
	const unit = 16 // pixels that JPEG is rounded up to in each direction
	if frame.width >= p.across+unit || frame.height >= p.down+unit {
		return refuse(Malformed, "JPEG of %d × %d pixels in strips or tiles of %d × %d", frame.width, frame.height,
			p.across, p.down)
	}
	if p.scanned += frame.scans * frame.width * frame.height; p.scanned > jpegMaxScanned() { // see jpegFrame.check
		return refuse(Unsupported, "JPEG scans of more than %d pixels up to here, which keep a decoder busy for long",
			jpegMaxScanned())
	}
	return frame.decode(packed)
}
