package picture

import (
	"bytes"
	"encoding/binary"
)

// JPEG markers (ITU-T T.81, table B.1): the second byte, after 0xff.
const (
	jpegTEM  = 0x01
	jpegSOF0 = 0xc0
	jpegDHT  = 0xc4
	jpegJPG  = 0xc8
	jpegDAC  = 0xcc
	jpegSOFF = 0xcf // SOF15
	jpegRST0 = 0xd0
	jpegRST7 = 0xd7
	jpegSOI  = 0xd8
	jpegEOI  = 0xd9
	jpegSOS  = 0xda
	jpegDRI  = 0xdd
	jpegAPPE = 0xee // APP14
)

// walkJPEG follows the markers from SOI to EOI. Segments are skipped by their
// lengths, so that the end marker of an embedded thumbnail is not taken for the
// picture's, and only the entropy-coded data of a scan is searched.
func walkJPEG(data []byte) (header, error) {
	frame, err := walkJPEGFrame(data)
	h := header{
		width: frame.width, height: frame.height,
		decode: func() error { return frame.decode(data) },
	}
	if err == nil {
		err = frame.check()
	}
	return h, err
}

func walkJPEGFrame(data []byte) (frame jpegFrame, err error) {
	for at := 2; ; {
		marker, next, err := jpegMarker(data, at)
		if err != nil {
			return frame, err
		}
		switch {
		case marker == jpegEOI && frame.scans == 0:
			return frame, refuse(Malformed, "JPEG ends at byte %d without any picture data", next)
		case marker == jpegEOI:
			return frame, nil
		case marker >= jpegRST0 && marker <= jpegRST7 && frame.scans == 0:
			return frame, refuse(Malformed, "JPEG has a restart marker at byte %d, before any picture data", next-2)
		case marker == jpegTEM || marker >= jpegRST0 && marker <= jpegRST7:
			at = next // these have no length
			continue
		case marker == 0 || marker == jpegSOI:
			return frame, refuse(Malformed, "JPEG has marker 0xff%02x at byte %d, where a segment should start", marker, next-2)
		}
		segment, err := jpegSegment(data, marker, next)
		if err != nil {
			return frame, err
		}
		if err := frame.read(marker, segment, next-2); err != nil {
			return frame, err
		}
		if at = next + 2 + len(segment); marker == jpegSOS {
			at = jpegScanEnd(data, at)
		}
	}
}

// read notes what a segment says whose marker is at a place.
func (f *jpegFrame) read(marker byte, segment []byte, at int) error {
	switch {
	case isSOF(marker) && f.marker != 0:
		return refuse(Malformed, "JPEG has a second frame header at byte %d", at)
	case isSOF(marker):
		frame, err := readJPEGFrame(marker, segment)
		frame.restarts, frame.adobe = f.restarts, f.adobe
		*f = frame
		return err
	case marker == jpegDRI:
		f.restarts = f.restarts || len(segment) >= 2 && binary.BigEndian.Uint16(segment) > 0
	case marker == jpegAPPE && f.scans == 0:
		f.adobe = f.adobe || len(segment) >= jpegAdobe && bytes.HasPrefix(segment, []byte("Adobe"))
	case marker == jpegSOS && f.marker == 0:
		return refuse(Malformed, "JPEG has picture data at byte %d, before any frame header", at)
	case marker == jpegSOS:
		return f.scan(segment)
	}
	return nil
}

// jpegMarker returns the marker at a place and the place after it. A marker may
// be preceded by any number of 0xff as fill bytes. Other bytes there are an
// error, as they are for DALI ("Invalid marker"), though libjpeg skips them.
func jpegMarker(data []byte, at int) (marker byte, next int, err error) {
	if at < len(data) && data[at] != 0xff {
		return 0, 0, refuse(Malformed, "JPEG has no marker at byte %d", at)
	}
	for next = at; next < len(data); next++ {
		if data[next] != 0xff {
			return data[next], next + 1, nil
		}
	}
	return 0, 0, refuse(Truncated, "JPEG of %d bytes ends without its end marker", len(data))
}

// jpegSegment returns the payload of the segment whose length field is at a place.
func jpegSegment(data []byte, marker byte, at int) ([]byte, error) {
	if len(data)-at < 2 {
		return nil, refuse(Truncated, "JPEG of %d bytes ends in the header of segment 0xff%02x", len(data), marker)
	}
	length := int(binary.BigEndian.Uint16(data[at:]))
	if length < 2 {
		return nil, refuse(Malformed, "JPEG segment 0xff%02x at byte %d has the impossible length %d", marker, at-2, length)
	}
	if length > len(data)-at {
		return nil, refuse(Truncated, "JPEG of %d bytes ends in segment 0xff%02x, which needs %d more",
			len(data), marker, length-(len(data)-at))
	}
	return data[at+2 : at+length], nil
}

// isSOF reports whether a marker starts a frame, of whatever process.
func isSOF(marker byte) bool {
	return marker >= jpegSOF0 && marker <= jpegSOFF && marker != jpegDHT && marker != jpegJPG && marker != jpegDAC
}

// jpegScanEnd returns the place of the marker that ends the entropy-coded data
// at a place, or len(data). In such data 0xff00 is a byte 0xff, and restart
// markers and fill bytes belong to it.
func jpegScanEnd(data []byte, at int) int {
	for at < len(data) {
		found := bytes.IndexByte(data[at:], 0xff)
		if found < 0 || at+found+1 >= len(data) {
			return len(data)
		}
		at += found
		switch follows := data[at+1]; {
		case follows == 0xff:
			at++
		case follows == 0 || follows >= jpegRST0 && follows <= jpegRST7:
			at += 2
		default:
			return at
		}
	}
	return len(data)
}
