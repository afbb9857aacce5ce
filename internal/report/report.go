// Package report makes the result of a run from its events, and writes it as JSON, as text, as JUnit XML and as a page.
package report

import (
	"time"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

// Version is the version of the report's JSON form. It grows when a reader of the old form would go wrong.
const Version = 2

// Verdict is the outcome of a run.
type Verdict string

// The verdicts.
const (
	Passed    Verdict = "passed"
	Failed    Verdict = "failed"
	Cancelled Verdict = "cancelled"
)

// Report is the result of a run. It has no address of a server: when it is written, the run has removed its server.
type Report struct {
	Version            int               `json:"version"`
	Program            string            `json:"dalirun,omitempty"` // version of the program
	Verdict            Verdict           `json:"verdict"`
	Error              string            `json:"error,omitempty"`
	Hint               string            `json:"hint,omitempty"` // what to do about Error
	ExitCode           int               `json:"exit_code"`
	Run                string            `json:"run"`
	Started            time.Time         `json:"started"`
	DurationSeconds    float64           `json:"duration_seconds"`
	Lane               string            `json:"lane,omitempty"`
	LaneReason         string            `json:"lane_reason,omitempty"` // why this lane was taken
	ImageSource        string            `json:"image_source,omitempty"`
	Release            string            `json:"release,omitempty"`
	Precision          string            `json:"precision,omitempty"`
	Model              string            `json:"model,omitempty"` // the recipe; empty for the default one
	Weights            string            `json:"weights,omitempty"`
	Warnings           []string          `json:"warnings"`
	Digests            map[string]string `json:"digests,omitempty"`
	Top                []result.Class    `json:"top,omitempty"`
	Parity             *parity.Report    `json:"parity,omitempty"`
	TimeToReadySeconds float64           `json:"time_to_ready_seconds,omitempty"`
	GPUs               []string          `json:"gpus,omitempty"`       // that the server's container saw
	Repository         string            `json:"repository,omitempty"` // path of the model repository
	Engine             *trtexec.Engine   `json:"engine,omitempty"`     // what was proven of the engine that the run used
	Pulled             []result.Pulled   `json:"pulled,omitempty"`     // both images and the weights, of a pull
	Steps              []Step            `json:"steps"`
}

// Step is what became of a step.
type Step struct {
	ID    pipeline.ID       `json:"id"`
	State pipeline.EndState `json:"state"`
	// StartSeconds is when it began to work, in seconds from the run's start. 0 if it never did.
	StartSeconds float64 `json:"start_seconds"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
	// Because says why it ran, a clause for each change.
	Because []string `json:"because,omitempty"`
	// Reason says why it was skipped.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
	Hint   string `json:"hint,omitempty"`
	// LastOutput holds the last lines of a step that failed.
	LastOutput []string `json:"last_output,omitempty"`
}
