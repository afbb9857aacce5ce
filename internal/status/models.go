package status

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/triton"
)

// accountWithin bounds all that a server is asked for its models, besides the window. Each answer takes a millisecond,
// or more on a busy machine.
const accountWithin = 10 * time.Second

// Model is a model of the server's repository.
type Model struct {
	Name string `json:"name"`
	// Version is that which is loaded, or was; several that are loaded have a comma in between.
	Version string `json:"version,omitempty"`
	// State is empty for a model that the server was not asked to load since it started.
	State  triton.State `json:"state,omitempty" jsonschema:"Triton's word; absent if it was never asked to load it"`
	Reason string       `json:"reason,omitempty" jsonschema:"why the model is not ready, in Triton's words"`
	// Figures is nil for a model that is not ready, and where FiguresMissing says why.
	Figures        *Figures `json:"figures,omitempty"`
	FiguresMissing string   `json:"figures_missing,omitempty" jsonschema:"why a model that is ready has none"`
}

// Figures are what the server says of a model. Dalirun's own requests, by which it judges servers, are among those that
// are counted.
type Figures struct {
	Ensemble  bool `json:"ensemble" jsonschema:"executes nothing itself"`
	Instances int  `json:"instances" jsonschema:"executions at a time; 0 for an ensemble"`
	MaxBatch  int  `json:"max_batch" jsonschema:"the most pictures of a request"`

	// Since the model was loaded. The times are means of a request, in seconds; it may share its execution with others.
	// An ensemble's are sums over its models.
	Requests       uint64    `json:"requests" jsonschema:"answered since the model was loaded"`
	Failures       uint64    `json:"failures" jsonschema:"requests that failed since the model was loaded"`
	Pictures       uint64    `json:"pictures" jsonschema:"since the model was loaded"`
	Executions     uint64    `json:"executions" jsonschema:"since the model was loaded"`
	AverageBatch   float64   `json:"average_batch" jsonschema:"pictures in an execution"`
	QueueSeconds   float64   `json:"queue_seconds" jsonschema:"mean of a request in the queue"`
	InputSeconds   float64   `json:"input_seconds" jsonschema:"mean of a request: preparing inputs"`
	ComputeSeconds float64   `json:"compute_seconds" jsonschema:"mean of a request: the model itself"`
	OutputSeconds  float64   `json:"output_seconds" jsonschema:"mean of a request: extracting outputs"`
	LastInference  time.Time `json:"last_inference,omitzero" jsonschema:"absent if there was none"`

	// In the window. A request and an execution count when they end, so that Busy may be above 1.
	RequestsPerSecond float64 `json:"requests_per_second" jsonschema:"answered in the window"`
	PicturesPerSecond float64 `json:"pictures_per_second" jsonschema:"in the window"`
	Busy              float64 `json:"busy" jsonschema:"share of the window that the instances were executing"`
}

// addModels adds the models of a server, and what they did in the window.
func (p Place) addModels(ctx context.Context, c serving.Container, s *Status) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.Window+accountWithin,
		fmt.Errorf("the server did not say it within %s", accountWithin))
	defer cancel()
	if err := p.askModels(ctx, c, s); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		s.ModelsMissing = err.Error()
	}
}

func (p Place) askModels(ctx context.Context, c serving.Container, s *Status) error {
	client, err := triton.DialIn(p.Servers.Host(c))
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	index, err := client.RepositoryIndex(ctx)
	if err != nil {
		return err
	}
	s.Models = listed(index)
	first := slices.IndexFunc(s.Models, func(m Model) bool { return m.Name == p.Servers.ModelOf(c) })
	if first > 0 { // whose steps come next, in the order of the account
		s.Models = slices.Concat(s.Models[first:first+1], s.Models[:first], s.Models[first+1:])
	}
	names := ready(s.Models)
	if len(names) == 0 {
		return nil // nothing is counted
	}
	account, err := bench.NewTriton(ctx, client, names...)
	if err != nil {
		return err
	}
	models := account.Models()
	slices.SortStableFunc(s.Models, func(a, b Model) int { return place(models, a.Name) - place(models, b.Name) })
	before, err := account.Snapshot(ctx)
	if err != nil {
		return err
	}
	select {
	case <-time.After(p.Window):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	after, err := account.Snapshot(ctx)
	if err != nil {
		return err
	}
	s.WindowSeconds = after.Taken.Sub(before.Taken).Seconds()
	for i := range s.Models {
		at := place(models, s.Models[i].Name)
		if at == len(models) {
			continue
		}
		// Each by itself: one that is loaded anew meanwhile, as by a reload, takes the figures of no other away.
		figures, err := figuresOf(models[at], before, after)
		if err != nil {
			s.Models[i].FiguresMissing = err.Error()
			continue
		}
		s.Models[i].Figures = &figures
		if s.Models[i].Name == p.Servers.ModelOf(c) {
			s.Served.MaxBatch = figures.MaxBatch
		}
	}
	return nil
}

// listed returns a model for each name of an index, whose entries are by name. Of its versions the loaded ones are
// told, or else the last one.
func listed(index []triton.IndexEntry) []Model {
	all := []Model{}
	for _, e := range index {
		m := Model{Name: e.Name, Version: e.Version, State: e.State, Reason: e.Reason}
		last := len(all) - 1
		switch {
		case last < 0 || all[last].Name != e.Name:
			all = append(all, m)
		case all[last].State != triton.StateReady:
			all[last] = m
		case e.State == triton.StateReady:
			all[last].Version += "," + e.Version
		}
	}
	return all
}

// ready returns the names of the models that answer.
func ready(models []Model) []string {
	var names []string
	for _, m := range models {
		if m.State == triton.StateReady {
			names = append(names, m.Name)
		}
	}
	return names
}

// place is where a model is in a list, or behind its end.
func place(models []bench.Model, name string) int {
	for i, m := range models {
		if m.Name == name {
			return i
		}
	}
	return len(models)
}

func figuresOf(m bench.Model, before, after bench.Snapshot) (Figures, error) {
	window, err := bench.SplitOf([]bench.Model{m}, before, after)
	if err != nil {
		return Figures{}, err
	}
	loaded, err := bench.SinceLoad([]bench.Model{m}, after)
	if err != nil {
		return Figures{}, err
	}
	seconds := after.Taken.Sub(before.Taken).Seconds()
	f := Figures{
		Ensemble: m.Ensemble, Instances: m.Instances, MaxBatch: m.MaxBatch,
		Requests: loaded[0].Requests, Failures: loaded[0].Failures, Pictures: loaded[0].Pictures,
		Executions: loaded[0].Executions, AverageBatch: loaded[0].AverageBatch, QueueSeconds: loaded[0].QueueSeconds,
		InputSeconds: loaded[0].InputSeconds, ComputeSeconds: loaded[0].ComputeSeconds,
		OutputSeconds:     loaded[0].OutputSeconds,
		RequestsPerSecond: float64(window[0].Requests) / seconds, PicturesPerSecond: float64(window[0].Pictures) / seconds,
		Busy: window[0].Busy,
	}
	for _, v := range after.Models {
		if v.Model == m.Name && v.LastInference.After(f.LastInference) {
			f.LastInference = v.LastInference.UTC()
		}
	}
	return f, nil
}
