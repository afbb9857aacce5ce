package picture

import (
	"bytes"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
)

// Format names the encoding of a picture.
type Format string

// The formats that are both checked here and decoded by DALI.
const (
	JPEG     Format = "JPEG"
	PNG      Format = "PNG"
	BMP      Format = "BMP"
	TIFF     Format = "TIFF"
	WebP     Format = "WebP"
	JPEG2000 Format = "JPEG 2000"
	PNM      Format = "PNM" // PBM, PGM, PPM
)

// walker is a format, how names of files in it end, and what looks at a picture in it.
type walker struct {
	format     Format
	walk       func(data []byte) (header, error)
	extensions []string // in lower case
}

// walkers are those of all formats.
func walkers() []walker {
	return []walker{
		{JPEG, walkJPEG, []string{".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}},
		{PNG, walkPNG, []string{".png", ".apng"}},
		{BMP, walkBMP, []string{".bmp", ".dib"}},
		{TIFF, walkTIFF, []string{".tif", ".tiff"}},
		{WebP, sized(walkWebP), []string{".webp"}},
		{JPEG2000, walkJPEG2000, []string{".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"}},
		{PNM, walkPNM, []string{".pnm", ".pbm", ".pgm", ".ppm"}},
	}
}

// header is what a walk finds.
type header struct {
	width, height uint64 // in pixels, at most 2³²; 0 if the walk failed before they were known
	unverifiable  string // see Info
	// decode checks the pixels of a picture that is within the limits; nil where nothing here can.
	decode func() error
}

// sized makes a walk of one that finds the size alone.
func sized(walk func(data []byte) (width, height uint64, err error)) func(data []byte) (header, error) {
	return func(data []byte) (header, error) {
		width, height, err := walk(data)
		return header{width: width, height: height}, err
	}
}

// Formats lists the formats for a sentence, as in "JPEG, PNG or BMP" with "or" as the conjunction.
func Formats(conjunction string) string {
	var names []string
	for _, f := range walkers() {
		names = append(names, string(f.format))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + conjunction + " " + names[last]
}

// Extensions are how names of files with pictures end, in lower case and with the dot, in the order of the formats.
func Extensions() []string {
	var all []string
	for _, f := range walkers() {
		all = append(all, f.extensions...)
	}
	return all
}

// HasExtension says whether the name of a file ends as those of pictures do, in whichever case. What the file holds, it
// does not say.
func HasExtension(name string) bool {
	return slices.Contains(Extensions(), strings.ToLower(filepath.Ext(name)))
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
		{jp2Signature, JPEG2000},
		{"\xff\x4f\xff\x51", JPEG2000}, // the codestream alone
		{"P1", PNM},
		{"P2", PNM},
		{"P3", PNM},
		{"P4", PNM},
		{"P5", PNM},
		{"P6", PNM},
	} {
		n := min(len(data), len(known.magic))
		if !matches(data[:n], known.magic[:n]) || known.format == PNM && !startsPNM(data) {
			continue
		}
		if n < len(known.magic) {
			return "", refuse(Truncated, "%d bytes are less than the signature of a %s", n, known.format)
		}
		return known.format, nil
	}
	if name := undecoded(data); name != "" {
		return "", refuse(Unsupported, "it is %s, which DALI does not decode", name)
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

// undecoded names the format of pictures that DALI 2.4.0 was seen to refuse, or of which it has no decoder; "" if it
// is none of them.
func undecoded(data []byte) string {
	if len(data) >= 12 && string(data[4:8]) == "ftyp" {
		switch string(data[8:12]) {
		case "heic", "heix", "mif1":
			return "HEIF"
		case "avif", "avis":
			return "AVIF"
		}
	}
	for _, known := range []struct{ magic, name string }{
		{"\xff\x0a", "JPEG XL"}, // the codestream alone
		{"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"},
		{"GIF87a", "GIF"},
		{"GIF89a", "GIF"},
		{"P7\n", "PAM"},
		{"PF\n", "PFM"},
		{"Pf\n", "PFM"},
	} {
		if bytes.HasPrefix(data, []byte(known.magic)) {
			return known.name
		}
	}
	return ""
}

// guess says in words what bytes in no known format are, for an error.
func guess(data []byte) string {
	for _, known := range []struct{ magic, words string }{
		{"\x00\x00\x01\x00", "an icon"},
		{"8BPS", "a Photoshop document"},
		{"7z\xbc\xaf\x27\x1c", "a 7z archive"},
		{"BZh", "a bzip2 file"},
		{"\xfd7zXZ\x00", "an xz file"},
		{"\x28\xb5\x2f\xfd", "a Zstandard file"},
		{"\x7fELF", "a program"},
		{"\x93NUMPY", "a NumPy array"},
		{
			"version https://git-lfs.github.com/spec/",
			"a Git LFS pointer, which stands for a file that `git lfs pull` fetches",
		},
	} {
		if bytes.HasPrefix(data, []byte(known.magic)) {
			return known.words
		}
	}
	if len(data) > 262 && string(data[257:262]) == "ustar" {
		return "a tar archive"
	}
	media, _, _ := strings.Cut(http.DetectContentType(data), ";")
	if (media == "text/plain" || media == "text/xml") && bytes.Contains(data[:min(len(data), 1024)], []byte("<svg")) {
		return "an SVG drawing"
	}
	switch media {
	case "text/plain":
		return "text"
	case "text/html":
		return "an HTML page"
	case "text/xml":
		return "XML"
	case "application/pdf":
		return "a PDF"
	case "application/postscript":
		return "PostScript"
	case "application/zip":
		return "a ZIP archive"
	case "application/x-gzip":
		return "a gzip file"
	case "application/x-rar-compressed":
		return "a RAR archive"
	case "application/wasm":
		return "a WebAssembly program"
	case "application/ogg":
		return "a recording"
	case "application/octet-stream":
		return "arbitrary bytes"
	case "image/bmp": // known by two letters only
		return "something that starts with BM and is no BMP"
	}
	switch kind, _, _ := strings.Cut(media, "/"); kind {
	case "video":
		return "a video"
	case "audio":
		return "a recording"
	case "font":
		return "a font"
	default:
		return "a file of another kind"
	}
}
