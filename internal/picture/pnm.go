package picture

import "math"

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
func walkPNM(data []byte) (width, height uint64, err error) {
	h, err := readPNM(data)
	if err != nil {
		return h.width, h.height, err
	}
	samples := uint64(1)
	if h.kind == '3' || h.kind == '6' {
		samples = 3
	}
	row := h.width * samples // at most 3 × 2³¹
	switch {
	case h.kind <= '3':
		return h.width, h.height, h.plain(data, row)
	case h.kind == '4':
		row = (h.width + 7) / 8
	case h.highest > math.MaxUint8:
		row *= 2
	}
	if have := uint64(len(data[h.raster:])); h.height > have/row {
		return h.width, h.height, refuse(Truncated, "PNM of %d bytes ends before its %d rows of %d bytes do", len(data), h.height, row)
	}
	return h.width, h.height, nil
}

func readPNM(data []byte) (pnmHeader, error) {
	h := pnmHeader{kind: data[1], highest: 1}
	fields := []*uint64{&h.width, &h.height, &h.highest}
	if h.kind == '1' || h.kind == '4' {
		fields = fields[:2]
	}
	scan := pnmScanner{data: data, at: 2}
	for _, field := range fields {
		number, err := scan.number()
		if err != nil {
			return pnmHeader{}, err
		}
		*field = number
	}
	h.raster = scan.at + 1 // one byte of white space, whichever, ends the header
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
	right := h.highest == math.MaxUint8 || h.highest == math.MaxUint16 || h.highest < math.MaxUint8 && h.kind <= '3' || h.kind == '4'
	if !right {
		return refuse(Unsupported, "PNM has samples up to %d, which DALI decodes right for 255 and 65535 alone", h.highest)
	}
	return nil
}

// plain checks the pixels of a picture that is written as text.
func (h pnmHeader) plain(data []byte, row uint64) error {
	scan := pnmScanner{data: data, at: h.raster, ends: h.kind == '1'}
	for y := range h.height {
		for range row {
			before := scan.at
			number, err := scan.number()
			if err != nil {
				return err
			}
			if number > h.highest {
				if h.kind == '1' && scan.at-before > 1 { // netpbm needs no space between them
					return refuse(Unsupported, "PBM has pixels without white space between them, which DALI does not decode")
				}
				return refuse(Malformed, "PNM has the sample %d in row %d, its header says up to %d", number, y+1, h.highest)
			}
		}
	}
	return nil
}

// pnmScanner reads numbers that white space and comments separate.
type pnmScanner struct {
	data []byte
	at   int
	ends bool // the data may end behind a digit: a pixel of a bitmap has one
}

// number returns the next number. The byte that ends it must be there where it can have several digits, of which a
// picture that was cut short may lack some.
func (s *pnmScanner) number() (uint64, error) {
	comment := false
	for ; s.at < len(s.data) && (comment || isSpace(s.data[s.at]) || s.data[s.at] == '#'); s.at++ {
		comment = (comment || s.data[s.at] == '#') && s.data[s.at] != '\n' && s.data[s.at] != '\r'
	}
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

func isSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }
