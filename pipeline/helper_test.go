package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/pipeline/pipelinetest"
)

// plain is a step that always runs. It sets each of its outputs to its ID, unless do says otherwise.
type plain struct {
	id   pipeline.ID
	in   []pipeline.Output
	outs []string
	do   func(ctx context.Context, w *pipeline.Work) error
}

func (s *plain) ID() pipeline.ID           { return s.id }
func (s *plain) Inputs() []pipeline.Output { return s.in }
func (s *plain) Outputs() []pipeline.Output {
	outputs := make([]pipeline.Output, len(s.outs))
	for i, name := range s.outs {
		outputs[i] = pipeline.Output{Step: s.id, Name: name}
	}
	return outputs
}

func (s *plain) Run(ctx context.Context, w *pipeline.Work) error {
	if s.do != nil {
		return s.do(ctx, w)
	}
	for _, name := range s.outs {
		w.Set(name, pipeline.Value{Ref: string(s.id), Digest: string(s.id)})
	}
	return nil
}

// builder writes its facts and what it reads into each of its outputs, unless do says otherwise.
type builder struct {
	plain
	facts func(ctx context.Context, in pipeline.Inputs) (pipeline.Facts, error)
}

func (b *builder) Facts(ctx context.Context, in pipeline.Inputs) (pipeline.Facts, error) {
	if b.facts == nil {
		return nil, nil
	}
	return b.facts(ctx, in)
}

func (b *builder) Run(ctx context.Context, w *pipeline.Work) error {
	if b.do != nil {
		return b.do(ctx, w)
	}
	return b.write(ctx, w)
}

func (b *builder) write(ctx context.Context, w *pipeline.Work) error {
	in := pipeline.Inputs{}
	var text strings.Builder
	for _, o := range b.in {
		v := w.Input(o)
		in[o] = v
		content := []byte(v.Ref + " " + v.Digest)
		if v.Path != "" {
			var err error
			if content, err = os.ReadFile(v.Path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&text, "%s(%s) ", o, content)
	}
	facts, err := b.Facts(ctx, in)
	if err != nil {
		return err
	}
	fmt.Fprintf(&text, "%s %v", b.id, facts)
	for _, name := range b.outs {
		if err := os.WriteFile(w.Path(name), []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// image is an observer of something that lives elsewhere.
type image struct {
	plain
	present string // the digest of the present image, "" for none
	known   string // the digest of what was there last
	pulled  string // the digest that it has after it was pulled
	err     error
}

func (i *image) value(digest string) pipeline.Values {
	values := pipeline.Values{}
	for _, name := range i.outs {
		values[name] = pipeline.Value{Ref: "registry/" + string(i.id), Digest: digest}
	}
	return values
}

func (i *image) Observe(context.Context, pipeline.Inputs) (pipeline.State, pipeline.Values, error) {
	switch {
	case i.err != nil:
		return pipeline.State{}, nil, i.err
	case i.present != "":
		return pipeline.State{Present: true}, i.value(i.present), nil
	case i.known != "":
		return pipeline.State{Reason: "there is no local image"}, i.value(i.known), nil
	default:
		return pipeline.State{Reason: "there is no local image"}, nil, nil
	}
}

func (i *image) Run(ctx context.Context, w *pipeline.Work) error {
	if i.do != nil {
		return i.do(ctx, w)
	}
	i.present, i.known = i.pulled, i.pulled
	for name, v := range i.value(i.pulled) {
		w.Set(name, v)
	}
	return nil
}

func out(id pipeline.ID, name string) pipeline.Output { return pipeline.Output{Step: id, Name: name} }

// facts returns a builder's facts that never change.
func facts(f pipeline.Facts) func(context.Context, pipeline.Inputs) (pipeline.Facts, error) {
	return func(context.Context, pipeline.Inputs) (pipeline.Facts, error) { return maps.Clone(f), nil }
}

func fails(err error) func(context.Context, *pipeline.Work) error {
	return func(context.Context, *pipeline.Work) error { return err }
}

// world is a small run: an image exports a model, which is assembled into a repository.
type world struct {
	image   *image
	model   *builder
	folder  *builder
	options pipeline.Facts // of the model
}

func newWorld() *world {
	w := &world{options: pipeline.Facts{"argv": "export --opset 17", "seed": "1"}}
	w.image = &image{plain: plain{id: "exporter-image", outs: []string{"image"}}, pulled: "sha256:1"}
	w.model = &builder{plain: plain{id: "export-onnx", in: []pipeline.Output{out("exporter-image", "image")}, outs: []string{"model.onnx"}}}
	w.model.facts = func(context.Context, pipeline.Inputs) (pipeline.Facts, error) { return maps.Clone(w.options), nil }
	w.folder = &builder{plain: plain{id: "assemble-repository", in: []pipeline.Output{out("export-onnx", "model.onnx")}, outs: []string{"repository"}}}
	return w
}

func (w *world) steps() []pipeline.Step { return []pipeline.Step{w.image, w.model, w.folder} }

// sink keeps the events of a run.
type sink struct {
	mu     sync.Mutex
	events []pipeline.Event
}

func (s *sink) Emit(e pipeline.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// emitted returns the payloads of type P that step emitted.
func emitted[P pipeline.Payload](s *sink, step pipeline.ID) []P {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []P
	for _, e := range s.events {
		if p, ok := e.Payload.(P); ok && e.Step == step {
			all = append(all, p)
		}
	}
	return all
}

// rig runs steps and checks what holds for every run.
type rig struct {
	t      *testing.T
	store  *pipelinetest.Store
	runner *pipeline.Runner
	sink   *sink // of the last run
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return rigOn(t, pipelinetest.NewStore(t))
}

func rigOn(t *testing.T, store *pipelinetest.Store) *rig {
	t.Helper()
	return &rig{t: t, store: store, sink: &sink{}, runner: &pipeline.Runner{RunID: "r1", Workspace: "w", Store: store}}
}

func (r *rig) run(ctx context.Context, steps ...pipeline.Step) error {
	r.t.Helper()
	r.sink = &sink{}
	r.runner.Sink = r.sink
	err := r.runner.Run(ctx, steps)
	r.check(steps, err)
	return err
}

// mustRun runs steps and wants each of them to end as in ends, and none else to have run.
func (r *rig) mustRun(ends map[pipeline.ID]pipeline.EndState, steps ...pipeline.Step) {
	r.t.Helper()
	if err := r.run(r.t.Context(), steps...); err != nil {
		r.t.Fatalf("run: %v", err)
	}
	r.wantEnds(ends)
}

func (r *rig) wantEnds(want map[pipeline.ID]pipeline.EndState) {
	r.t.Helper()
	got := map[pipeline.ID]pipeline.EndState{}
	for _, e := range r.sink.events {
		if ended, ok := e.Payload.(pipeline.Ended); ok {
			got[e.Step] = ended.State
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("ends (-want +got):\n%s", diff)
	}
}

// check wants the events of one run to be in order.
func (r *rig) check(steps []pipeline.Step, err error) {
	r.t.Helper()
	events := r.sink.events
	if len(events) < 2 {
		r.t.Errorf("got %d events", len(events))
		return
	}
	if _, ok := events[0].Payload.(pipeline.RunStarted); !ok {
		r.t.Errorf("the first event is %T", events[0].Payload)
	}
	if last, ok := events[len(events)-1].Payload.(pipeline.RunEnded); !ok || !errors.Is(err, last.Err) {
		r.t.Errorf("the last event is %#v, want the end of the run with %v", events[len(events)-1].Payload, err)
	}
	for _, s := range steps {
		var kinds []string
		for _, e := range events {
			if e.Step == s.ID() {
				kinds = append(kinds, strings.TrimPrefix(fmt.Sprintf("%T", e.Payload), "pipeline."))
			}
			if e.Run != "r1" || e.Time.IsZero() {
				r.t.Errorf("an event has the run %q and the time %v", e.Run, e.Time)
			}
		}
		r.checkStep(s.ID(), kinds)
	}
}

func (r *rig) checkStep(id pipeline.ID, kinds []string) {
	r.t.Helper()
	count := func(kind string) int {
		return len(slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k != kind }))
	}
	decided, started := slices.Index(kinds, "Decided"), slices.Index(kinds, "Started")
	switch {
	case count("Ended") != 1, kinds[len(kinds)-1] != "Ended":
		r.t.Errorf("%s does not end once, with its last event: %v", id, kinds)
	case count("Decided") > 1 || count("Started") > 1:
		r.t.Errorf("%s was decided on or started twice: %v", id, kinds)
	case started >= 0 && (decided < 0 || decided > started):
		r.t.Errorf("%s started before it was decided on: %v", id, kinds)
	case started < 0 && (count("Line") > 0 || count("Progress") > 0):
		r.t.Errorf("%s worked without having started: %v", id, kinds)
	}
}

// plan returns each step's verdict in one line.
func (r *rig) plan(steps ...pipeline.Step) map[pipeline.ID]string {
	r.t.Helper()
	rows, err := r.runner.Plan(r.t.Context(), steps)
	if err != nil {
		r.t.Fatalf("plan: %v", err)
	}
	got := map[pipeline.ID]string{}
	for i, row := range rows {
		if row.Step != steps[i].ID() {
			r.t.Errorf("row %d is of %s, want %s", i, row.Step, steps[i].ID())
		}
		got[row.Step] = row.Verdict.String()
	}
	return got
}

func (r *rig) wantPlan(want map[pipeline.ID]string, steps ...pipeline.Step) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.plan(steps...)); diff != "" {
		r.t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// decided returns the verdict of a step in the last run.
func (r *rig) decided(id pipeline.ID) string {
	r.t.Helper()
	all := emitted[pipeline.Decided](r.sink, id)
	if len(all) != 1 {
		r.t.Fatalf("%s was decided on %d times", id, len(all))
	}
	return all[0].String()
}

// path returns where the only entry of a builder's output is.
func (r *rig) path(id pipeline.ID, name string) string {
	r.t.Helper()
	fps := r.store.Fingerprints(id)
	if len(fps) != 1 {
		r.t.Fatalf("%s has %d entries", id, len(fps))
	}
	entry, err := r.store.Get(fps[0])
	if err != nil {
		r.t.Fatal(err)
	}
	path := entry.Values()[name].Path
	if err := entry.Close(); err != nil {
		r.t.Error(err)
	}
	return path
}

type ends = map[pipeline.ID]pipeline.EndState
