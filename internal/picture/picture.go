// Package picture looks at an encoded picture before it is sent to a server,
// and refuses one that the server would choke on: one that is empty, no
// picture, cut short, damaged in its structure, or too large to decode.
//
// It reads headers and walks segments; it never decodes pixels. That is enough
// because what costs a server dearly is visible there: DALI on a GPU decodes a
// JPEG that lost its end without any error, and a picture of 30,000 × 30,000
// pixels takes it 13 s or all of 4 GB. Damage inside the compressed pixels is
// left to the server's decoder, which reports it.
package picture

import (
	"bytes"
	"fmt"
	"net/http"
)

// Format names the encoding of a picture.
type Format string

// The formats that are both checked here and decoded by DALI. DALI also decodes
// JPEG 2000 and PNM; these are refused, since nothing here can tell whether they
// are whole.
const (
	JPEG Format = "JPEG"
	PNG  Format = "PNG"
	BMP  Format = "BMP"
	TIFF Format = "TIFF"
	WebP Format = "WebP"
)

// Info is what the header of a picture says.
type Info struct {
	Format Format
	// Width and Height are in pixels, at least 1, as stored: an EXIF orientation
	// may swap them in the decoded picture.
	Width, Height int
}

// Limits bound the pictures that are accepted. A field that is 0 or less bounds nothing.
type Limits struct {
	MaxBytes  int64 // encoded size, in bytes
	MaxPixels int64 // width × height
	MaxSide   int   // the longer side, in pixels
}

// DefaultLimits returns the limits for a server that runs in about 4 GB.
//
// Figures, measured with DALI 2.4.0's CPU decoder: 10,000 × 10,000 pixels of
// JPEG take about 3 s and 1 GB; from 2²⁹ bytes of RGB on (179 million pixels) it
// logs "Image too large" and falls back to a slower decoder; 30,000 × 30,000
// take 13 s or end in an out-of-memory kill at 4 GB. 64 million pixels are more
// than a camera's 61-megapixel picture, and what the local server's DALI backend
// takes: MAX_PIXELS of assets/python/backend_dali.py. A side of 65,535 is the most that a JPEG can
// say, and strips of that width decode well. 64 MiB holds any JPEG of that many
// pixels, and stays far below the 2 GiB that a gRPC message may have.
func DefaultLimits() Limits {
	return Limits{MaxBytes: 64 << 20, MaxPixels: 64_000_000, MaxSide: 65_535}
}

// Reason is the kind of fault that a picture is refused for.
type Reason string

// The reasons.
const (
	Empty     Reason = "empty"     // there are no bytes
	Unknown   Reason = "unknown"   // the bytes are in none of the formats
	Truncated Reason = "truncated" // the bytes end before the picture does
	Malformed Reason = "malformed" // the structure contradicts the format
	TooLarge  Reason = "too large" // over one of the limits
	// Unsupported is a picture that may be whole, and of a kind that DALI does not decode, or not rightly.
	Unsupported Reason = "unsupported"
)

// Error says why a picture is refused.
type Error struct {
	Reason Reason
	Detail string // what was found, with figures; no final period
}

// Error returns the reason, what was found and what to do, in one line.
func (e *Error) Error() string {
	switch e.Reason {
	case Empty:
		return "picture is empty: " + e.Detail + "; check that it was written or downloaded"
	case Unknown:
		return "picture is in no known format: " + e.Detail + "; send a JPEG, PNG, BMP, TIFF or WebP"
	case Truncated:
		return "picture is truncated: " + e.Detail + "; copy or download it again"
	case Malformed:
		return "picture is malformed: " + e.Detail + "; save it again with another program"
	case Unsupported:
		return "picture is of a kind that is not served: " + e.Detail + "; save it as a JPEG or PNG of 8 bits"
	case TooLarge:
		return "picture is too large: " + e.Detail + "; scale it down before sending it"
	}
	return "picture is refused: " + e.Detail
}

// refuse returns an *Error as an error, so that no caller can return a typed nil.
func refuse(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Check returns what the header of an encoded picture says, or an *Error if the
// picture must not be sent. Bytes after the picture's end are accepted: clients
// pad the pictures of a batch with zeros to one length. The work is at most linear in
// len(data), the memory at most some kilobytes.
func Check(data []byte, limits Limits) (Info, error) {
	if len(data) == 0 {
		return Info{}, refuse(Empty, "it has 0 bytes")
	}
	if limits.MaxBytes > 0 && int64(len(data)) > limits.MaxBytes {
		return Info{}, refuse(TooLarge, "%d bytes, the limit is %d", len(data), limits.MaxBytes)
	}
	format, err := sniff(data)
	if err != nil {
		return Info{}, err
	}
	var width, height uint64
	switch format {
	case JPEG:
		width, height, err = walkJPEG(data)
	case PNG:
		width, height, err = walkPNG(data)
	case BMP:
		width, height, err = walkBMP(data)
	case TIFF:
		width, height, err = walkTIFF(data)
	case WebP:
		width, height, err = walkWebP(data)
	}
	// A walk that failed late still knows the size. That a picture is too large
	// comes first: sending it again whole would not help.
	if over := limits.over(format, width, height); over != nil {
		return Info{}, over
	}
	if err != nil {
		return Info{}, err
	}
	// No walk returns more than 2³¹-1 without an error.
	return Info{Format: format, Width: int(width), Height: int(height)}, nil
}

// over returns an error if a picture of that size is over the limits. Sizes are
// at most 2³², so that the product of two would overflow only at 2³² × 2³².
func (l Limits) over(format Format, width, height uint64) error {
	switch {
	case l.MaxSide > 0 && max(width, height) > uint64(l.MaxSide):
		return refuse(TooLarge, "%s of %d × %d pixels, the limit for a side is %d", format, width, height, l.MaxSide)
	case l.MaxPixels > 0 && width > 0 && height > uint64(l.MaxPixels)/width:
		return refuse(TooLarge, "%s of %d × %d pixels, the limit for their product is %d", format, width, height, l.MaxPixels)
	}
	return nil
}

// sniff returns the format that the first bytes announce.
func sniff(data []byte) (Format, error) {
	for _, known := range []struct {
		magic  string // "?" stands for any byte
		format Format
	}{
		{"\xff\xd8\xff", JPEG},
		{"\x89PNG\r\n\x1a\n", PNG},
		{"II*\x00", TIFF},
		{"MM\x00*", TIFF},
		{"II+\x00", TIFF}, // BigTIFF
		{"MM\x00+", TIFF},
		{"RIFF????WEBP", WebP},
		{"BM?????????????\x00\x00\x00", BMP}, // a header of less than 256 bytes tells it from a text
	} {
		n := min(len(data), len(known.magic))
		if !matches(data[:n], known.magic[:n]) {
			continue
		}
		if n < len(known.magic) {
			return "", refuse(Truncated, "%d bytes are less than the signature of a %s", n, known.format)
		}
		return known.format, nil
	}
	return "", refuse(Unknown, "it looks like %s", guess(data))
}

func matches(data []byte, magic string) bool {
	for i, b := range data {
		if magic[i] != '?' && magic[i] != b {
			return false
		}
	}
	return true
}

// guess names what bytes in no known format are, for an error.
func guess(data []byte) string {
	if len(data) >= 12 && string(data[4:8]) == "ftyp" {
		switch brand := string(data[8:12]); brand {
		case "heic", "heix", "mif1", "avif":
			return "image/heif (" + brand + ")"
		}
	}
	if bytes.HasPrefix(data, []byte("\x00\x00\x00\x0cjP  ")) {
		return "image/jp2"
	}
	switch guessed := http.DetectContentType(data); guessed {
	case "application/octet-stream":
		return "arbitrary bytes"
	case "image/bmp": // known by two letters only
		return "something that starts with BM and is no BMP"
	default:
		return guessed
	}
}
