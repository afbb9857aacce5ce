package record_test

import (
	"encoding/json"
	"flag"
	"testing"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/schematest"
	"github.com/dalirun/dalirun/pipeline"
)

var update = flag.Bool("update", false, "write the schemas anew")

// What show, diff and reproduce print as JSON has a schema.
func TestSchemas(t *testing.T) {
	t.Parallel()
	words := schematest.Words{}
	schematest.Add(words, record.Passed, record.Failed, record.Killed, record.Unknown)
	schematest.Add(words, cause.Product, cause.Environment, cause.Infrastructure, cause.Unknown)
	schematest.Add(words, pipeline.Done, pipeline.Cached, pipeline.Skipped, pipeline.Failed, pipeline.Cancelled)
	schematest.Add(words, parity.Preprocessing, parity.Model, parity.Ensemble)
	schematest.Add(words, record.Asked, record.Program, record.Machine, record.Images, record.Inputs, record.Made, record.Came)
	schematest.Add(words, record.Levels()...)
	red := made(t, func(w *record.Writer) {
		story(w)
		w.AddJSON(record.FailureFile, cause.Failure{Text: "x", Kind: pipeline.ContainerFailed, Step: "build-engine", ExitCode: 4})
	})
	example := func(value any) []byte {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const schemas = "../../docs/schemas/"
	schematest.Check[record.Summary](t, schemas+"show.schema.json", "What dalirun show says of a run", words, example(record.Summarize(red)), *update)
	none := func(pipeline.ID, pipeline.Facts, pipeline.Facts) []pipeline.Change { return nil }
	schematest.Check[record.Comparison](t, schemas+"diff.schema.json", "What dalirun diff says of two runs", words, example(record.Diff(red, red, none)), *update)
	done, err := red.Diagnose()
	if err != nil {
		t.Fatal(err)
	}
	schematest.Check[[]record.Reproduction](t, schemas+"reproduce.schema.json", "What dalirun reproduce says of a run", words, example([]record.Reproduction{done}), *update)
}
