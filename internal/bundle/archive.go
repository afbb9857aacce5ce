package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// fileLimit and totalLimit bound what goes in, in bytes: logs compress tenfold, and a bug tracker takes 10 MB at
	// least.
	fileLimit  = 256 << 10
	totalLimit = 4 << 20
)

// File is one file of an archive.
type File struct {
	Name  string // slash path inside the archive's folder
	Bytes int    // as it went in, redacted
	Note  string // what is to be known of it: that it was cut, or why it is empty
}

// Archive writes a tar.gz with one folder. Everything that goes in is redacted first.
type Archive struct {
	redactor *Redactor
	zip      *gzip.Writer
	tar      *tar.Writer
	folder   string
	at       time.Time
	total    int
	files    []File
}

// NewArchive returns an archive that is written to w, whose files lie in folder and have the time at.
func NewArchive(w io.Writer, r *Redactor, folder string, at time.Time) *Archive {
	zip := gzip.NewWriter(w)
	return &Archive{redactor: r, zip: zip, tar: tar.NewWriter(zip), folder: folder, at: at}
}

// Add puts text into a file. Of a long one the end is kept, from a line's begin: that is where errors are. Beyond the
// limit of all files together, nothing is.
func (a *Archive) Add(name, text, note string) error {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	text = a.redactor.Text(text) // before it is cut: half a secret is not recognized
	if room := min(fileLimit, totalLimit-a.total); len(text) > room {
		note = join(note, fmt.Sprintf("the last %d of %d bytes", room, len(text)))
		text = text[len(text)-room:]
		if _, whole, ok := strings.Cut(text, "\n"); ok {
			text = whole
		}
	}
	// The name of a file is text as well.
	return a.write(File{Name: path.Clean("/" + a.redactor.Text(name))[1:], Bytes: len(text), Note: note}, text)
}

// Missing notes a file that could not be had.
func (a *Archive) Missing(name string, why error) {
	a.files = append(a.files, File{Name: name, Note: "left out: " + a.redactor.Text(why.Error())})
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func (a *Archive) write(f File, text string) error {
	const private = 0o600
	err := a.tar.WriteHeader(&tar.Header{
		Name: path.Join(a.folder, f.Name), Mode: private, Size: int64(len(text)), ModTime: a.at,
	})
	if err == nil {
		_, err = io.WriteString(a.tar, text)
	}
	if err != nil {
		return fmt.Errorf("write %s into the archive: %w", f.Name, err)
	}
	a.total += len(text)
	a.files = append(a.files, f)
	return nil
}

// Files are those that went in, and those that could not.
func (a *Archive) Files() []File { return a.files }

// Close ends the archive with a list of what is in it.
func (a *Archive) Close() error {
	var list bytes.Buffer
	fmt.Fprintln(&list, "What is in this archive. User names, home folders, credentials, tokens, "+
		"and the serial numbers and identifiers of GPUs were taken out.")
	for _, f := range a.files {
		fmt.Fprintln(&list, f)
	}
	err := a.write(File{Name: "CONTENTS.txt", Bytes: list.Len()}, list.String())
	return errors.Join(err, a.tar.Close(), a.zip.Close())
}

// String is one line: name, size and note.
func (f File) String() string {
	s := f.Name
	if f.Bytes > 0 || f.Note == "" {
		s += fmt.Sprintf(" (%d bytes)", f.Bytes)
	}
	if f.Note != "" {
		s += ": " + f.Note
	}
	return s
}
