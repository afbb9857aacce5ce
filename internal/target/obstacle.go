package target

import (
	"encoding/json"
	"errors"

	"github.com/dalirun/dalirun/pipeline"
)

// CheckID names a check of doctor.
type CheckID string

// The checks that show an obstacle of [Resolve]. Doctor has more checks, of what a run finds out as it goes.
const (
	CheckEngine       CheckID = "container engine"
	CheckGPU          CheckID = "gpu"
	CheckRelease      CheckID = "release"
	CheckContainerGPU CheckID = "container gpu"
	CheckImages       CheckID = "images"
	CheckImageDisk    CheckID = "image disk"
	CheckPorts        CheckID = "ports"
	CheckWeights      CheckID = "weights"
	CheckLock         CheckID = "lock"
	CheckFlags        CheckID = "flags"
)

// Checks returns the checks of doctor that obstacles name.
func Checks() []CheckID {
	return []CheckID{
		CheckEngine, CheckGPU, CheckRelease, CheckContainerGPU, CheckImages, CheckImageDisk,
		CheckPorts, CheckWeights, CheckLock, CheckFlags,
	}
}

// Obstacle is why a Target cannot be run or, as a doubt, why its run may differ from what the user wants.
type Obstacle struct {
	Check  CheckID // of doctor, which shows it
	Err    error   // what is in the way; for a refused run, the fault that ends it
	Remedy string  // what to do, for people; may be empty
	Doubt  bool    // a run begins nevertheless, and warns of it
}

// MarshalJSON writes the error as its text and its kind.
func (o Obstacle) MarshalJSON() ([]byte, error) {
	plain := struct {
		Check  CheckID `json:"check"`
		Error  string  `json:"error"`
		Kind   string  `json:"kind,omitempty"`
		Remedy string  `json:"remedy,omitempty"`
		Doubt  bool    `json:"doubt,omitempty"`
	}{Check: o.Check, Error: o.Err.Error(), Remedy: o.Remedy, Doubt: o.Doubt}
	if fault, ok := errors.AsType[*pipeline.Fault](o.Err); ok {
		plain.Kind = fault.Kind.String()
	}
	return json.Marshal(plain)
}

// Refusal is the error of the first obstacle that is no doubt; nil if a run begins.
func Refusal(obstacles []Obstacle) error {
	for _, o := range obstacles {
		if !o.Doubt {
			return o.Err
		}
	}
	return nil
}
