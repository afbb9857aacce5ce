// Package report makes the result of a run from its events, and writes it as JSON, as text, as JUnit XML and as a page.
package report

import (
	"encoding/json"
	"time"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/pipeline"
)

// Version is the version of the report's JSON form. It grows when a reader of the old form would go wrong.
const Version = 1

// The facts of [pipeline.RunStarted] that a report takes over.
const (
	FactLane      = "lane" // gpu or cpu
	FactReason    = "lane_reason"
	FactImages    = "images"    // ngc or local
	FactRelease   = "release"   // YY.MM; absent with local images
	FactPrecision = "precision" // fp16 or fp32
	FactWeights   = "weights"   // pretrained, random:SEED or a path
)

// The results that a report takes over, by name. What they hold is read by its JSON form, so that those who tell of them
// need not know this package. One of another form becomes a warning in the report.
const (
	ResultTop         = "top"           // list of {"index", "label", "score" or "value", "probability"}, the best first
	ResultParity      = "parity"        // a parity.Report
	ResultTimeToReady = "time_to_ready" // seconds
	ResultGPUs        = "gpus"          // list of the lines of nvidia-smi -L in the server's container
	ResultRepository  = "repository"    // path of the model repository
	ResultEngine      = "engine"        // object that says what was proven of an engine that was built; its String, if it has one, is for people
)

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
	Weights            string            `json:"weights,omitempty"`
	Warnings           []string          `json:"warnings"`
	Digests            map[string]string `json:"digests,omitempty"`
	Top                []Class           `json:"top,omitempty"`
	Parity             *parity.Report    `json:"parity,omitempty"`
	TimeToReadySeconds float64           `json:"time_to_ready_seconds,omitempty"`
	GPUs               []string          `json:"gpus,omitempty"`       // that the server's container saw
	Repository         string            `json:"repository,omitempty"` // path of the model repository
	Engine             json.RawMessage   `json:"engine,omitempty"`     // what was proven of the engine, if this run built it
	EngineText         string            `json:"-"`                    // the same for people
	Steps              []Step            `json:"steps"`
}

// Class is one class of the answer.
type Class struct {
	Index int    `json:"index"` // in the model's output, from 0
	Label string `json:"label,omitempty"`
	// Score is the model's own figure: a logit, unless the model ends in a softmax.
	Score float64 `json:"score"`
	// Probability is the softmax of the scores of all classes, 0 to 1. Nil if it is not known.
	Probability *float64 `json:"probability,omitempty"`
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
