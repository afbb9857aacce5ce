package ui

import (
	"bytes"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

// quiet shows warnings.
type quiet struct{ *plain }

func newQuiet(out *bytes.Buffer, o Options) quiet { return quiet{newPlain(out, o)} }

func (q quiet) draw(e pipeline.Event) {
	if _, ok := e.Payload.(pipeline.Warning); ok {
		q.plain.draw(e)
	}
}

func (quiet) refresh(time.Time) {}
func (quiet) end()              {}
