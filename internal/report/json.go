package report

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/dalirun/dalirun/internal/printable"
)

// WriteJSON writes one JSON object, indented, with its keys in the order of [Report]. It writes all of it at once, or
// nothing.
func (r Report) WriteJSON(w io.Writer) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(text.Bytes()))
	return err
}
