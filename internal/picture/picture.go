// Package picture looks at an encoded picture before it is sent to a server,
// and refuses one that the server would choke on: one that is empty, no
// picture, cut short, damaged in its structure, too large to decode, or of a kind
// that DALI does not decode rightly.
//
// It reads headers and walks segments. What costs a server dearly is visible
// there: a picture of 30,000 × 30,000 pixels takes DALI 13 s or all of 4 GB, and
// some sizes that cannot be end its process. Pixels are decoded for JPEG and
// decompressed for PNG and TIFF, of which DALI answers what is missing as grey or
// black, without any error; damage inside those of other formats is left to the
// server's decoder.
package picture

import (
	"fmt"

	"github.com/dalirun/dalirun/internal/bytesize"
)

// Info is what the header of a picture says.
type Info struct {
	Format Format
	// Width and Height are in pixels, at least 1, as stored: an orientation in the
	// picture's metadata is applied nowhere.
	Width, Height int
	// Unverifiable says why a picture that may be sent cannot be verified with:
	// Pillow, which decodes for PyTorch, gets it wrong or reads none of its kind.
	// Empty if it can, as far as can be known here.
	Unverifiable string
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

// Error returns the reason and what was found, in one line.
func (e *Error) Error() string {
	switch e.Reason {
	case Empty, Truncated, Malformed, TooLarge:
		return "picture is " + string(e.Reason) + ": " + e.Detail
	case Unknown:
		return "picture is in no known format: " + e.Detail
	case Unsupported:
		return "picture is of a kind that is not served: " + e.Detail
	}
	return "picture is refused: " + e.Detail
}

// Hint returns what to do about it, in one line.
func (e *Error) Hint() string {
	switch e.Reason {
	case Empty:
		return "check that it was written or downloaded"
	case Unknown:
		return "send a " + Formats("or")
	case Truncated:
		return "copy or download it again"
	case Malformed:
		return "save it again with another program"
	case Unsupported:
		return "save it as another kind, such as PNG"
	case TooLarge:
		return "scale it down before sending it"
	}
	return ""
}

// refuse returns an *Error as an error, so that no caller can return a typed nil.
func refuse(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Check returns what the header of an encoded picture says, or an *Error if the
// picture must not be sent. Bytes after the picture's end are accepted: clients
// pad the pictures of a batch with zeros to one length. But for the pixels of a
// JPEG, PNG or TIFF, the work is at most linear in len(data), the memory at most some kilobytes.
func Check(data []byte, limits Limits) (Info, error) {
	if len(data) == 0 {
		return Info{}, refuse(Empty, "it has 0 bytes")
	}
	if limits.MaxBytes > 0 && int64(len(data)) > limits.MaxBytes {
		return Info{}, refuse(TooLarge, "%d bytes, the limit is %s", len(data), bytesize.Format(limits.MaxBytes))
	}
	format, err := sniff(data)
	if err != nil {
		return Info{}, err
	}
	var h header
	for _, f := range walkers() {
		if f.format == format {
			h, err = f.walk(data)
		}
	}
	// A walk that failed late still knows the size. That a picture is too large
	// comes first: sending it again whole would not help.
	if over := limits.over(format, h.width, h.height); over != nil {
		return Info{}, over
	}
	if err == nil && h.decode != nil {
		err = h.decode()
	}
	if err != nil {
		return Info{}, err
	}
	//nolint:gosec // no walk returns more than 2³¹-1 without an error
	return Info{Format: format, Width: int(h.width), Height: int(h.height), Unverifiable: h.unverifiable}, nil
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
