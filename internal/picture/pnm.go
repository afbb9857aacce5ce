package picture

import (
	"bytes"
	"math"
	"strings"
)

// pnmShortest is the bytes that nvImageCodec 0.9.0 needs to know a picture of any format; one pixel in a PBM has 8.
const pnmShortest = 10

// pnmMaxHeader is the bytes of a header, comments and all, that the local server's DALI backend reads: PNM_HEADER_BYTES
// of assets/python/decoder.py.
const pnmMaxHeader = 4096

// pnmHeader is the header of a PBM, PGM or PPM (netpbm's pbm(5), pgm(5), ppm(5)).
type pnmHeader struct {
	kind          byte // '1' to '6'
	width, height uint64
	highest       uint64 // of a sample; 1 for the bitmaps, which do not say it
	raster        int    // place of the pixels
}

// startsPNM reports whether what follows the two letters of the signature may be a header rather than a text.
func startsPNM(data []byte) bool {
	for _, b := range data[min(2, len(data)):] {
		switch {
		case b == '#' || isDigit(b):
			return true
		case !isSpace(b):
			return false
		}
	}
	return true // it ends too early to tell
}

// walkPNM checks that the header is one that DALI reads rightly and that every pixel is there. Netpbm allows more
// pictures after the first one.
func walkPNM(data []byte) (header, error) {
	h, err := readPNM(data)
	found := header{width: h.width, height: h.height}
	if err != nil {
		return found, err
	}
	samples := uint64(1)
	if h.kind == '3' || h.kind == '6' {
		samples = 3
	}
	row := h.width * samples // at most 3 × 2³¹
	if h.kind <= '3' {
		end, err := h.plain(data, row)
		if err != nil {
			return found, err
		}
		if h.kind == '1' && len(bytes.Trim(data[end:], "\x00")) > 0 {
			found.unverifiable = "Pillow, which decodes for PyTorch, reads no PBM in text with more behind its pixels"
		}
	} else if err := h.rows(data, row); err != nil {
		return found, err
	}
	if len(data) < pnmShortest {
		return found, refuse(Unsupported, "PNM has %d bytes, and DALI decodes none of less than %d", len(data),
			pnmShortest)
	}
	return found, nil
}

// rows checks that rows of so many samples are there, which are not written as text.
func (h pnmHeader) rows(data []byte, row uint64) error {
	switch {
	case h.kind == '4':
		row = (h.width + 7) / 8
	case h.highest > math.MaxUint8:
		row *= 2
	}
	if size := uint64(len(data[h.raster:])); h.height > size/row {
		return refuse(Truncated, "PNM of %d bytes ends before its %d rows of %d bytes do", len(data), h.height, row)
	}
	return nil
}

func readPNM(data []byte) (pnmHeader, error) {
	if len(data) > 2 && !isSpace(data[2]) {
		return pnmHeader{}, refuse(Unsupported,
			"PNM has no white space behind its first two bytes, without which DALI does not read it")
	}
	h := pnmHeader{kind: data[1], highest: 1}
	fields := []*uint64{&h.width, &h.height, &h.highest}
	if h.kind == '1' || h.kind == '4' {
		fields = fields[:2]
	}
	scan := pnmScanner{data: data, at: 2}
	for _, field := range fields {
		number, err := scan.header()
		if err != nil {
			return pnmHeader{}, err
		}
		*field = number
	}
	h.raster = scan.at + 1 // one byte of white space, whichever, ends the header
	if h.raster > pnmMaxHeader {
		return h, refuse(Unsupported, "PNM has a header of %d bytes, the server reads at most %d", h.raster,
			pnmMaxHeader)
	}
	if h.width == 0 || h.height == 0 || h.width > 1<<31-1 || h.height > 1<<31-1 {
		return pnmHeader{}, refuse(Malformed, "PNM says that it is %d × %d pixels", h.width, h.height)
	}
	if h.highest == 0 || h.highest > math.MaxUint16 {
		return h, refuse(Malformed, "PNM says that its samples go up to %d", h.highest)
	}
	return h, h.checkRange()
}

// checkRange refuses the ranges that DALI 2.4.0 was seen to read without scaling them, so that the picture gets darker.
// It scales a plain picture of up to 255, and takes every two-byte sample as one of 65,535.
func (h pnmHeader) checkRange() error {
	right := h.highest == math.MaxUint8 || h.highest == math.MaxUint16 || h.highest < math.MaxUint8 && h.kind <= '3' ||
		h.kind == '4'
	if !right {
		return refuse(Unsupported, "PNM has samples up to %d, which DALI decodes right for 255 and 65535 alone",
			h.highest)
	}
	return nil
}

// plain checks the pixels of a picture that is written as text, and returns the place of what follows them.
func (h pnmHeader) plain(data []byte, row uint64) (end int, err error) {
	scan := pnmScanner{data: data, at: h.raster, ends: h.kind == '1'}
	for y := range h.height {
		for range row {
			before := scan.at
			number, err := scan.number()
			if err != nil {
				return scan.at, err
			}
			if number > h.highest {
				if h.kind == '1' && scan.at-before > 1 { // netpbm needs no space between them
					return scan.at, refuse(Unsupported,
						"PBM has pixels without white space between them, which DALI does not decode")
				}
				return scan.at, refuse(Malformed, "PNM has the sample %d in row %d, its header says up to %d", number,
					y+1, h.highest)
			}
		}
	}
	scan.skip()
	return scan.at, nil
}

// pnmScanner reads numbers that white space and comments separate.
type pnmScanner struct {
	data []byte
	at   int
	ends bool // the data may end behind a digit: a pixel of a bitmap has one
	// returned says that a comment ended with a carriage return that no line feed follows.
	returned bool
}

// header returns the next number of the header. DALI ends a comment with a line feed alone, and reads on behind one
// that follows a digit.
func (s *pnmScanner) header() (uint64, error) {
	number, err := s.number()
	if err != nil {
		return 0, err
	}
	if s.returned {
		return 0, refuse(Unsupported, "PNM has a comment that a carriage return ends, which DALI does not read")
	}
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	if digits := s.at - bytes.LastIndexFunc(s.data[:s.at], notDigit) - 1; digits > pnmDigits {
		return 0, refuse(Malformed, "PNM has a number of %d digits in its header", digits)
	}
	if s.data[s.at] == '#' {
		return 0, refuse(Unsupported, "PNM has a comment directly behind a number, which decoders read differently")
	}
	return number, nil
}

// skip goes on to what is no white space and no comment.
func (s *pnmScanner) skip() {
	comment := false
	for ; s.at < len(s.data) && (comment || isSpace(s.data[s.at]) || s.data[s.at] == '#'); s.at++ {
		s.returned = s.returned || comment && s.data[s.at] == '\r' && !bytes.HasPrefix(s.data[s.at+1:], []byte("\n"))
		comment = (comment || s.data[s.at] == '#') && s.data[s.at] != '\n' && s.data[s.at] != '\r'
	}
}

// pnmDigits is the most digits of a number in a header: Pillow reads no more. Leading zeros count.
const pnmDigits = 10

// number returns the next number. The byte that ends it must be there where it can have several digits, of which a
// picture that was cut short may lack some.
func (s *pnmScanner) number() (uint64, error) {
	s.skip()
	start, number := s.at, uint64(0)
	for ; s.at < len(s.data) && isDigit(s.data[s.at]); s.at++ {
		number = min(number*10+uint64(s.data[s.at]-'0'), 1<<32)
	}
	switch {
	case s.at == len(s.data) && (!s.ends || s.at == start):
		return 0, refuse(Truncated, "PNM of %d bytes ends before its pixels do", len(s.data))
	case s.at == start:
		return 0, refuse(Malformed, "PNM has no number at byte %d", start)
	}
	return number, nil
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// pnmSpace is the white space of C, which netpbm's formats go by.
const pnmSpace = " \t\n\v\f\r"

func isSpace(b byte) bool { return strings.IndexByte(pnmSpace, b) >= 0 }
