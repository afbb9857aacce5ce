// Package picturetest holds pictures that once broke something, and what is to become of each: of the client, of a
// server that a client of another make sends it to, and of a run that verifies with it.
package picturetest

import (
	"embed"
	"testing"

	"github.com/dalirun/dalirun/internal/picture"
)

//go:embed testdata
var files embed.FS

// Sent is in the place of a reason where the client refuses nothing.
const Sent picture.Reason = ""

// Served is what a server with the local image answers, whoever asks. Whatever it answers, it goes on to answer others.
type Served string

// The answers.
const (
	// Right is the tensor of the picture's pixels as they are stored.
	Right Served = "right"
	// Refused is an error for this picture alone.
	Refused Served = "refused"
	// Unjudged is a tensor or an error: what is there of the picture decodes, and nobody can say what is missing.
	Unjudged Served = "unjudged"
)

// Row is what becomes of one file.
type Row struct {
	File   string         // its name in testdata
	Client picture.Reason // why picture.Check refuses it, or Sent
	Served Served
	Verify int // the exit code of `dalirun e2e --image FILE` on the CPU lane
}

// Table returns a row for each file.
func Table() []Row {
	return []Row{
		{"00-good.jpg", Sent, Right, 0},
		{"00-good.png", Sent, Right, 0},

		// Orientation is applied nowhere.
		{"two-exif-16-tall.jpg", Sent, Right, 0},
		{"two-exif-16-wide.jpg", Sent, Right, 0},
		{"two-exif-63-wide.jpg", Sent, Right, 0},
		{"exif-wrong-crc-tall.png", Sent, Right, 0},
		{"exif-raw-profile-wide.png", Sent, Right, 0},
		{"exif-prefix-wide.webp", Sent, Right, 0},

		{"tile-0.j2k", picture.Malformed, Refused, 2},
		{"chunk-4g.png", picture.Malformed, Refused, 2},
		{"width-negative.tif", picture.Malformed, Refused, 2},

		// Zeros are codes that exist, so that nothing in the scan itself is wrong; there are only too many of them.
		{"jpg-scan-zeros.jpg", Sent, Unjudged, 2},
		{"jpg-scan-zeros-mpo.jpg", Sent, Unjudged, 2},
		{"jpg-scan-empty-eoi.jpg", picture.Truncated, Unjudged, 2},
		{"jpg-scan-half-eoi.jpg", picture.Truncated, Unjudged, 2},
		{"jpg-height-more.jpg", picture.Truncated, Unjudged, 2},

		{"png-gray16.png", Sent, Right, 0},
		{"ppm.ppm", Sent, Right, 0},

		// Whole, and of kinds that DALI does not decode, or not rightly.
		{"bmp-32-masks-rgb.bmp", picture.Unsupported, Refused, 2},
		{"bmp-16-565.bmp", picture.Unsupported, Refused, 2},
		{"bmp-16-bgr565.bmp", picture.Unsupported, Refused, 2},
		{"jpg-12bit.jpg", picture.Unsupported, Refused, 2},
		{"jpg-lossless-sof3.jpg", picture.Unsupported, Refused, 2},
		{"tif-int16.tif", picture.Unsupported, Refused, 2},
		{"jxl.jxl", picture.Unsupported, Refused, 2},
	}
}

// Data returns the bytes of a file of the table.
func Data(tb testing.TB, file string) []byte {
	tb.Helper()
	data, err := files.ReadFile("testdata/" + file)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
