// Package result names what the steps of a run find out: each result has a name, a type and one JSON form, which events
// and reports share. docs/events.md lists them for those who read the JSON.
package result

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"

	"github.com/dalirun/dalirun/internal/parity"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// The results of a run.
const (
	Engine      Name[trtexec.Engine] = "engine"        // what was proven of the TensorRT engine that the run uses
	Repository  Name[string]         = "repository"    // path of the model repository in the workspace
	Serving     Name[Server]         = "server"        // the server that was started, before it is ready
	GPUs        Name[[]string]       = "gpus"          // what the server's container sees: the lines of nvidia-smi -L
	TimeToReady Name[float64]        = "time_to_ready" // seconds from the container's start to the ensemble's first answer
	Parity      Name[parity.Report]  = "parity"        // the comparisons with PyTorch's answers
	Top         Name[[]Class]        = "top"           // the best classes of the ensemble's answer, the best first
	Pull        Name[[]Pulled]       = "pulled"        // what a pull got, or found: both images and the weights
)

// A Name is the name of a result whose value is a T.
type Name[T any] string

// New returns the result with a value, for an event.
func (n Name[T]) New(value T) pipeline.Result { return pipeline.Result{Name: string(n), Value: value} }

// Value returns the value of a result of this name. The error says that it holds another type.
func (n Name[T]) Value(r pipeline.Result) (T, error) {
	value, ok := r.Value.(T)
	if !ok {
		return value, fmt.Errorf("it holds a %T, not a %T", r.Value, value)
	}
	return value, nil
}

// A Class is one class of an answer.
type Class struct {
	Index int    `json:"index"` // in the model's output, from 0
	Label string `json:"label,omitempty"`
	// Score is the model's own figure: a logit, unless the model ends in a softmax.
	Score Score `json:"score"`
	// Probability is the softmax of the scores of all classes, 0 to 1.
	Probability float32 `json:"probability"`
}

// Classes are those of a server's answer, in the same order.
func Classes(scored []triton.Scored) []Class {
	classes := make([]Class, len(scored))
	for i, s := range scored {
		classes[i] = Class{Index: s.Index, Label: s.Label, Score: Score(s.Value), Probability: s.Probability}
	}
	return classes
}

// A Score is a figure that may be infinite or NaN, for which JSON has no number: it is null there.
type Score float32

// MarshalJSON implements [json.Marshaler].
func (s Score) MarshalJSON() ([]byte, error) {
	if f := float64(s); math.IsInf(f, 0) || math.IsNaN(f) {
		return []byte("null"), nil
	}
	return json.Marshal(float32(s))
}

// A Server is a Triton server that a run started.
type Server struct {
	Container  string         `json:"container"` // ID
	Name       string         `json:"name"`      // of the container
	GRPC       netip.AddrPort `json:"grpc"`
	HTTP       netip.AddrPort `json:"http"`
	Metrics    netip.AddrPort `json:"metrics"`
	Models     []string       `json:"models"`
	Image      string         `json:"image,omitempty"` // digest of its image; of a local one a hash of its build
	Repository string         `json:"repository"`      // path of the model repository on this host
}

// Pulled is an image or a file that runs need first, and that is here.
type Pulled struct {
	Step pipeline.ID `json:"step"` // that gets it
	Name string      `json:"name"` // reference of the image; of weights as on the reports
	// Digest identifies it as in fingerprints: the registry's; of a local image a hash of its build and of its packages'
	// versions; of a file that of its content.
	Digest string `json:"digest"`
	Image  string `json:"image,omitempty"` // ID in the container engine
	Bytes  int64  `json:"bytes"`           // on the disk; images may share some of them
}
