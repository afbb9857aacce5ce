package ui

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// jsonLines writes each event as a line of JSON.
type jsonLines struct{ out *bytes.Buffer }

func (j jsonLines) draw(e pipeline.Event) { j.out.Write(line(e)) }
func (jsonLines) refresh(time.Time)       {}
func (jsonLines) end()                    {}

// line returns e in JSON, with a line feed. A result that JSON cannot hold, such as NaN, becomes a warning that says
// so.
func line(e pipeline.Event) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		e.Payload = pipeline.Warning{Text: "an event has no JSON form: " + err.Error()}
		if b, err = json.Marshal(e); err != nil {
			return nil // cannot be: the rest is text and a time of this century
		}
	}
	return append(printable.JSON(b), '\n')
}
