package report

import (
	"encoding/json"
	"io"
)

// WriteJSON writes one JSON object, indented, with its keys in the order of [Report].
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // it is no part of a page
	return e.Encode(r)
}
