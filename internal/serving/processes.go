package serving

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// LabelsMeanNothing is what seeded weights come to, for people.
const LabelsMeanNothing = "labels mean nothing"

// ServedBy is what a server file says of the server's answers.
func ServedBy(file owner.ServerFile) owner.Served {
	served := file.Served
	if len(file.Reloading) > 0 {
		var weights []string
		for _, w := range append([]string{served.Weights}, file.Reloading...) {
			if w != "" && !slices.Contains(weights, w) {
				weights = append(weights, w)
			}
		}
		served.Weights = strings.Join(weights, ", or ") + ": a reload has not ended"
	}
	return served
}

// Process is a container of dalirun, and how the server in it is.
type Process struct {
	Name      string    `json:"name"`
	Step      string    `json:"step"`
	Run       string    `json:"run"`
	Workspace string    `json:"workspace"`
	Running   bool      `json:"running"`
	Paused    bool      `json:"paused,omitempty"`
	Owner     string    `json:"owner"` // an owner.State
	Why       string    `json:"why"`
	GRPC      string    `json:"grpc,omitempty"`
	Created   time.Time `json:"created"`

	// Health is that of a server of this host. What it serves is empty where nobody noted it, as before it is ready.
	Health *Health `json:"health,omitempty"`
	owner.Served
}

// Processes returns all containers of dalirun, of all workspaces. The servers of this host are judged, all at a time.
func (s Servers) Processes(ctx context.Context) ([]Process, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]Process, len(all))
	var judged sync.WaitGroup
	for i, c := range all {
		rows[i] = Process{
			Name: c.Name, Step: c.Labels[container.LabelStep], Run: c.Run(), Workspace: c.Workspace(), Running: c.Running,
			Paused: c.Paused,
			Owner:  string(c.Owner), Why: c.Why, GRPC: s.Address(c), Created: c.Created,
		}
		if !s.RunsTriton(c) || c.Owner == owner.Foreign { // whose loopback address is another one
			continue
		}
		if file, err := c.File(); err == nil {
			rows[i].Served = ServedBy(file)
		}
		judged.Go(func() {
			h, err := s.Judge(ctx, c)
			if err != nil {
				h = Health{State: NotJudged, Reason: err.Error()}
			}
			rows[i].Health = &h
		})
	}
	judged.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return rows, nil
}

// WithHealth adds to an error of an inference what is wrong with the server at an address of [Servers.At], if there is
// one and it is not healthy. Any other error than a fault of [pipeline.NotReady] stays as it is.
func (s Servers) WithHealth(ctx context.Context, addr string, failed error) error {
	fault, ok := errors.AsType[*pipeline.Fault](failed)
	if !ok || fault.Kind != pipeline.NotReady || ctx.Err() != nil {
		return failed
	}
	c, found, err := s.At(ctx, addr)
	if err != nil || !found {
		return failed // whoever asks has an error already
	}
	h, err := s.Judge(ctx, c)
	if err != nil || h.State.Word() != NotHealthy {
		return failed
	}
	if strings.Contains(fault.Error(), h.Reason) {
		h.Model, h.Reason = "", "" // it is said once
	}
	return pipeline.Faultf(pipeline.NotReady, h.Hint(), "%w (the server %s is %s)", fault.Err, c.Name, h)
}
