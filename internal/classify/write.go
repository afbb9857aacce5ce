package classify

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/userfile"
)

// Format is the form of records on stdout.
type Format string

// The formats.
const (
	Text      Format = "text"
	JSON      Format = "json"  // one list of all records
	JSONLines Format = "jsonl" // a record a line
	CSV       Format = "csv"   // a row for each class of a picture, and one for a picture without classes
)

// Formats returns all formats, the default first.
func Formats() []Format { return []Format{Text, JSON, JSONLines, CSV} }

// HasSource says whether the records tell in this form which server was asked, with which warnings.
func (f Format) HasSource() bool { return f == JSON || f == JSONLines }

// Writer writes records, each at once. Their errors are those of writing.
type Writer interface {
	// Write writes what is known of a picture. Text has none for a picture without an answer.
	Write(r Record) error
	// Close writes what ends the records. After it all is written, also without a record.
	Close() error
}

// NewWriter returns a Writer of a format to w.
func NewWriter(format Format, w io.Writer) Writer {
	switch format {
	case JSON:
		return jsonWriter{stdout.NewList(w)}
	case JSONLines:
		return lineWriter{w}
	case CSV:
		return &csvWriter{out: csv.NewWriter(w)}
	case Text:
	}
	return textWriter{w}
}

// named returns the record with a name that is text. A file's name is bytes, and JSON, CSV and what they are read with
// have UTF-8 alone: encoding/json makes one U+FFFD of all other bytes, and so one name of two.
func (r Record) named() Record {
	if !utf8.ValidString(r.Image) {
		r.Image, r.ImageBytes = userfile.Shown(r.Image), []byte(r.Image)
	}
	return r
}

type textWriter struct{ out io.Writer }

// Write writes the picture and its classes, a line each.
func (w textWriter) Write(r Record) error {
	if r.Error != "" {
		return nil
	}
	if _, err := fmt.Fprintf(w.out, "%s  (%.1f ms)\n", userfile.Shown(r.Image), r.Milliseconds); err != nil {
		return err
	}
	for _, class := range r.Classes {
		_, err := fmt.Fprintf(w.out, "  %5.1f %%  %4d  %s\n",
			100*class.Probability, class.Index, printable.Line(class.Label))
		if err != nil {
			return err
		}
	}
	return nil
}

// Close does nothing.
func (textWriter) Close() error { return nil }

type jsonWriter struct{ list *stdout.List }

// Write adds the record to the list.
func (w jsonWriter) Write(r Record) error { return w.list.Add(r.named()) }

// Close ends the list.
func (w jsonWriter) Close() error { return w.list.Close() }

type lineWriter struct{ out io.Writer }

// Write writes the record.
func (w lineWriter) Write(r Record) error { return stdout.WriteJSONLine(w.out, r.named()) }

// Close does nothing.
func (lineWriter) Close() error { return nil }

type csvWriter struct {
	out   *csv.Writer
	begun bool
}

// Columns are those of CSV, for people with a spreadsheet: one figure a cell, and the picture in each row, so that rows
// can be sorted and filtered.
func Columns() []string {
	return []string{
		"image", "rank", "index", "label", "probability", "score", "milliseconds", "model", "error", "error_class", "hint",
	}
}

// Write writes a row for each class, or one for the error.
func (w *csvWriter) Write(r Record) error {
	if err := w.begin(); err != nil {
		return err
	}
	r = r.named()
	if r.Error != "" {
		row := []string{
			r.Image, "", "", "", "", "", "", r.Model, printable.Line(r.Error), r.ErrorClass, printable.Line(r.Hint),
		}
		if err := w.out.Write(row); err != nil {
			return err
		}
	}
	for i, class := range r.Classes {
		row := []string{
			r.Image, strconv.Itoa(i + 1), strconv.Itoa(class.Index), printable.Line(class.Label),
			decimal(float64(class.Probability), 32), decimal(float64(class.Score), 32), decimal(r.Milliseconds, 64),
			r.Model, "", "", "",
		}
		if err := w.out.Write(row); err != nil {
			return err
		}
	}
	w.out.Flush()
	return w.out.Error()
}

// begin writes the header, once.
func (w *csvWriter) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	return w.out.Write(Columns())
}

// Close writes the header where there was no record.
func (w *csvWriter) Close() error {
	if err := w.begin(); err != nil {
		return err
	}
	w.out.Flush()
	return w.out.Error()
}

// decimal is a figure of some bits as each spreadsheet reads it, without an exponent; nothing for one that is infinite.
func decimal(f float64, bits int) string {
	if math.IsInf(f, 0) {
		return ""
	}
	return strconv.FormatFloat(f, 'f', -1, bits)
}
