package picture

import "encoding/binary"

// TIFF tags (TIFF 6.0, appendix A; Technical Note 1 for subIFDs).
const (
	tiffWidth           = 256
	tiffLength          = 257
	tiffBits            = 258
	tiffCompression     = 259
	tiffPhotometric     = 262
	tiffFillOrder       = 266
	tiffStripOffsets    = 273
	tiffOrientation     = 274
	tiffSamplesPerPixel = 277
	tiffRowsPerStrip    = 278
	tiffStripByteCounts = 279
	tiffPlanar          = 284
	tiffColorMap        = 320
	tiffTileWidth       = 322
	tiffTileLength      = 323
	tiffTileOffsets     = 324
	tiffTileByteCounts  = 325
	tiffSubIFDs         = 330
	tiffExtraSamples    = 338
	tiffSampleFormat    = 339
	tiffJPEGTables      = 347
	tiffEXIF            = 34665
	tiffGPS             = 34853
)

// tiffMaxItems bounds the directory entries, strips and tiles that one file may
// have: in a file of a few megabytes each of thousands of directories can name
// the same million strips. 4 million are ten times the tiles of 16 × 16 that the
// largest picture of DefaultLimits has.
const tiffMaxItems = 1 << 22

// tiffMaxDirectories bounds the directories of one file. Stacks of more pages
// exist, in microscopy; DALI decodes the first page only.
const tiffMaxDirectories = 1 << 12

// tiffTileSide is what the sides of a tile are multiples of (TIFF 6.0, section 15).
const tiffTileSide = 16

// tiffField is one entry of a directory.
type tiffField struct {
	form  uint16 // of a value: BYTE, SHORT and so on
	size  uint64 // of one value, in bytes
	count uint64
	at    uint64 // place of the first value; all values are inside the file
}

// tiffDirectory holds the entries of one directory by tag. One of an unknown type has no values.
type tiffDirectory map[uint16]tiffField

type tiffWalk struct {
	data  []byte
	order binary.ByteOrder
	big   bool          // BigTIFF: counts and places have 8 bytes
	dir   tiffDirectory // the one being read: one map serves all directories
	twice []uint16      // tags that it has again
	found uint64        // directories, read or pending
	items uint64        // see tiffMaxItems
}

// walkTIFF checks every directory and every strip and tile: a picture's pages,
// its reduced versions and its EXIF data. DALI decodes the first directory, so
// the size is that one's.
func walkTIFF(data []byte) (h header, err error) {
	t := tiffWalk{data: data, order: binary.LittleEndian, dir: tiffDirectory{}}
	if data[0] == 'M' {
		t.order = binary.BigEndian
	}
	t.big = t.order.Uint16(data[2:]) == 43
	start := uint64(4)
	if t.big {
		start = 8 // after the size of places and a zero
	}
	next, err := t.number(start, t.placeSize(), "its header")
	if err != nil {
		return h, err
	}
	if next == 0 {
		return h, refuse(Malformed, "TIFF has no directory")
	}
	var undecoded error // said only of a picture that is whole
	first := true
	for pending := []uint64{next}; len(pending) > 0; first = false {
		at := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		following, err := t.directory(at)
		if err != nil {
			return h, err
		}
		if first {
			if h, undecoded, err = t.first(); err != nil {
				return h, err
			}
		}
		if err := t.pixels(first); err != nil {
			return h, err
		}
		if pending, err = t.children(pending); err != nil {
			return h, err
		}
		if following == 0 {
			continue
		}
		if pending, err = t.enqueue(pending, following); err != nil {
			return h, err
		}
	}
	return h, undecoded
}

// first returns what the directory that was read says, which is the picture's, and why that is not served.
func (t *tiffWalk) first() (h header, undecoded, err error) {
	if len(t.twice) > 0 { // decoders take the first or the last
		return header{}, nil, refuse(Malformed, "TIFF has tag %d twice", t.twice[0])
	}
	if h.width, h.height, err = t.size(); err != nil {
		return header{}, nil, err
	}
	if h.unverifiable, undecoded = t.kind(); undecoded == nil {
		h.decode, err = t.decoder()
	}
	return h, undecoded, err
}

// placeSize is the number of bytes of a place in the file, and of a value that
// an entry holds itself.
func (t *tiffWalk) placeSize() uint64 {
	if t.big {
		return 8
	}
	return 4
}

// number reads an unsigned number of 1, 2, 4 or 8 bytes.
func (t *tiffWalk) number(at, size uint64, where string) (uint64, error) {
	if !t.inside(at, size) {
		return 0, refuse(Truncated, "TIFF of %d bytes ends in %s", len(t.data), where)
	}
	b := t.data[at : at+size]
	switch size {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(t.order.Uint16(b)), nil
	case 4:
		return uint64(t.order.Uint32(b)), nil
	}
	return t.order.Uint64(b), nil
}

func (t *tiffWalk) inside(at, size uint64) bool {
	return at <= uint64(len(t.data)) && size <= uint64(len(t.data))-at
}

// spend counts items against tiffMaxItems.
func (t *tiffWalk) spend(n uint64) error {
	if n > tiffMaxItems-t.items {
		return refuse(Malformed, "TIFF has more than %d entries, strips and tiles", tiffMaxItems)
	}
	t.items += n
	return nil
}

// directory reads the directory at a place into t.dir, and returns the place of
// the one after it, 0 if none.
func (t *tiffWalk) directory(at uint64) (next uint64, err error) {
	const where = "a directory"
	countSize, entrySize := uint64(2), uint64(12)
	if t.big {
		countSize, entrySize = 8, 20
	}
	count, err := t.number(at, countSize, where)
	if err != nil {
		return 0, err
	}
	if err := t.spend(1 + min(count, tiffMaxItems)); err != nil {
		return 0, err
	}
	at += countSize
	if !t.inside(at, count*entrySize+t.placeSize()) {
		return 0, refuse(Truncated, "TIFF of %d bytes ends in a directory of %d entries", len(t.data), count)
	}
	clear(t.dir)
	t.twice = t.twice[:0]
	for range count {
		if err := t.entry(at); err != nil {
			return 0, err
		}
		at += entrySize
	}
	return t.number(at, t.placeSize(), where)
}

// entry reads the entry at a place, which is inside the file, into t.dir.
func (t *tiffWalk) entry(at uint64) error {
	tag := t.order.Uint16(t.data[at:])
	form := t.order.Uint16(t.data[at+2:])
	field := tiffField{form: form, size: tiffTypeSize(form)}
	if _, twice := t.dir[tag]; twice {
		t.twice = append(t.twice, tag)
	}
	if field.size == 0 {
		t.dir[tag] = field
		return nil // TIFF 6.0: readers should skip fields of a type that they do not know
	}
	at += 4
	var err error
	if field.count, err = t.number(at, t.placeSize(), "an entry"); err != nil {
		return err
	}
	field.at = at + t.placeSize()
	// Division keeps a count of up to 2⁶⁴ from overflowing.
	if field.count > t.placeSize()/field.size {
		if field.at, err = t.number(field.at, t.placeSize(), "an entry"); err != nil {
			return err
		}
	}
	if field.count > uint64(len(t.data)) || !t.inside(field.at, field.count*field.size) {
		return refuse(Truncated, "TIFF of %d bytes ends before the %d values of tag %d at byte %d do",
			len(t.data), field.count, tag, field.at)
	}
	t.dir[tag] = field
	return nil
}

// TIFF types of values (TIFF 6.0, section 2; LONG8 of BigTIFF).
const (
	tiffShort = 3
	tiffLong  = 4
	tiffLong8 = 16
)

// tiffTypeSize returns the bytes of one value of a field type, 0 if unknown.
func tiffTypeSize(fieldType uint16) uint64 {
	switch fieldType {
	case 1, 2, 6, 7: // BYTE, ASCII, SBYTE, UNDEFINED
		return 1
	case tiffShort, 8: // SSHORT
		return 2
	case tiffLong, 9, 11, 13: // SLONG, FLOAT, IFD
		return 4
	case 5, 10, 12, tiffLong8, 17, 18: // RATIONAL, SRATIONAL, DOUBLE, SLONG8, IFD8
		return 8
	}
	return 0
}

// value returns a value of a field, which must have so many.
func (t *tiffWalk) value(field tiffField, index uint64) (uint64, error) {
	return t.number(field.at+index*field.size, field.size, "a value")
}

// scalar returns the first value of a tag, or a default where the tag is missing.
func (t *tiffWalk) scalar(tag uint16, missing uint64) (uint64, error) {
	field, ok := t.dir[tag]
	if !ok || field.count == 0 {
		return missing, nil
	}
	return t.value(field, 0)
}

func (t *tiffWalk) size() (width, height uint64, err error) {
	if width, err = t.scalar(tiffWidth, 0); err != nil {
		return 0, 0, err
	}
	if height, err = t.scalar(tiffLength, 0); err != nil {
		return 0, 0, err
	}
	if width == 0 || height == 0 || width > 1<<31-1 || height > 1<<31-1 {
		return 0, 0, refuse(Malformed, "TIFF says that it is %d × %d pixels", width, height)
	}
	return width, height, nil
}

// pixels checks that the strips or tiles of the directory are in the file.
func (t *tiffWalk) pixels(required bool) error {
	offsets, tiled := t.dir[tiffTileOffsets]
	counts := t.dir[tiffTileByteCounts]
	if !tiled {
		offsets, counts = t.dir[tiffStripOffsets], t.dir[tiffStripByteCounts]
	}
	if offsets.count == 0 && !required {
		return nil
	}
	if offsets.count == 0 || counts.count < offsets.count {
		return refuse(Malformed, "TIFF has %d strips or tiles and the lengths of %d", offsets.count, counts.count)
	}
	if required {
		wanted, err := t.segments(tiled)
		if err != nil {
			return err
		}
		if offsets.count < wanted {
			return refuse(Malformed, "TIFF has %d strips or tiles, its size needs %d", offsets.count, wanted)
		}
	}
	return t.extents(offsets, counts, required)
}

// extents checks that each strip or tile is in the file and, if required, has bytes of its own: thousands that are the
// same megabytes would keep a decoder busy for hours.
func (t *tiffWalk) extents(offsets, counts tiffField, required bool) error {
	if err := t.spend(offsets.count); err != nil {
		return err
	}
	together := uint64(0) // at most tiffMaxItems times the file
	for i := range offsets.count {
		at, err := t.value(offsets, i)
		if err != nil {
			return err
		}
		length, err := t.value(counts, i)
		if err != nil {
			return err
		}
		if !t.inside(at, length) {
			return refuse(Truncated, "TIFF of %d bytes ends before strip or tile %d of %d does", len(t.data), i+1, offsets.count)
		}
		if length == 0 && required {
			return refuse(Malformed, "TIFF has no bytes for strip or tile %d of %d", i+1, offsets.count)
		}
		together += length
	}
	if required && together > uint64(len(t.data)) {
		return refuse(Malformed, "TIFF of %d bytes has strips or tiles of %d bytes together: they overlap",
			len(t.data), together)
	}
	return nil
}

// segmentSize returns the pixels of a strip or tile, as the directory says them: a strip may have more rows than the
// picture.
func (t *tiffWalk) segmentSize(tiled bool) (across, down uint64, err error) {
	width, height, err := t.size()
	if err != nil {
		return 0, 0, err
	}
	acrossTag, downTag := uint16(0), uint16(tiffRowsPerStrip)
	if tiled {
		acrossTag, downTag = tiffTileWidth, tiffTileLength
	}
	if across, err = t.scalar(acrossTag, width); err != nil {
		return 0, 0, err
	}
	down, err = t.scalar(downTag, height)
	return across, down, err
}

// segments returns how many strips or tiles a picture has by its size.
func (t *tiffWalk) segments(tiled bool) (uint64, error) {
	width, height, err := t.size()
	if err != nil {
		return 0, err
	}
	across, down, err := t.segmentSize(tiled)
	if err != nil {
		return 0, err
	}
	if tiled && min(across, down) < tiffTileSide {
		// Tiles of a pixel are valid to libtiff; what looks at millions of them takes half a minute.
		return 0, refuse(Malformed, "TIFF has tiles of %d × %d pixels, want sides of at least %d", across, down, tiffTileSide)
	}
	planar, err := t.scalar(tiffPlanar, 1)
	if err != nil {
		return 0, err
	}
	planes := uint64(1)
	if planar == 2 { // each sample has strips or tiles of its own
		if planes, err = t.scalar(tiffSamplesPerPixel, 1); err != nil {
			return 0, err
		}
	}
	if across == 0 || down == 0 || planes == 0 || planes > 1<<16 {
		return 0, refuse(Malformed, "TIFF has strips or tiles of %d × %d pixels in %d planes", across, down, planes)
	}
	// More than tiffMaxItems are refused anyway; capping each factor keeps the product from overflowing.
	columns := min((width-1)/across+1, tiffMaxItems)
	rows := min((height-1)/down+1, tiffMaxItems)
	return columns * rows * planes, nil
}

// children appends the places of the directories that the directory points to.
func (t *tiffWalk) children(pending []uint64) ([]uint64, error) {
	for _, tag := range []uint16{tiffSubIFDs, tiffEXIF, tiffGPS} {
		field := t.dir[tag]
		for i := range field.count {
			at, err := t.value(field, i)
			if err != nil {
				return nil, err
			}
			if pending, err = t.enqueue(pending, at); err != nil {
				return nil, err
			}
		}
	}
	return pending, nil
}

// enqueue appends the place of a directory.
func (t *tiffWalk) enqueue(pending []uint64, at uint64) ([]uint64, error) {
	if t.found++; t.found > tiffMaxDirectories {
		return nil, refuse(Malformed, "TIFF has more than %d directories, or one that names itself", tiffMaxDirectories)
	}
	return append(pending, at), nil
}
