package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/pipeline/pipelinetest"
)

var allDone = ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Done}

func TestPlanOfAColdHost(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	r.wantPlan(map[pipeline.ID]string{
		"exporter-image":      "will run, because there is no local image",
		"export-onnx":         "depends on exporter-image",
		"assemble-repository": "depends on export-onnx",
	}, w.steps()...)
	w.image.present = "sha256:1"
	r.wantPlan(map[pipeline.ID]string{
		"exporter-image":      "present",
		"export-onnx":         "will run, because it has not run in this workspace",
		"assemble-repository": "depends on export-onnx",
	}, w.steps()...)
	if len(r.store.Fingerprints("export-onnx")) > 0 || len(r.sink.events) > 0 || w.image.present != "sha256:1" {
		t.Error("the plan changed something")
	}
}

func TestPlanNamesEachPendingStepOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := &builder{plain: plain{id: "a", outs: []string{"x", "y"}}}
	b := &builder{plain: plain{id: "b", outs: []string{"x"}}}
	c := &builder{plain: plain{id: "c", in: []pipeline.Output{out("a", "x"), out("b", "x"), out("a", "y")}, outs: []string{"x"}}}
	d := &plain{id: "d", in: []pipeline.Output{out("c", "x")}, outs: []string{"x"}}
	e := &image{plain: plain{id: "e", in: []pipeline.Output{out("d", "x")}}, known: "1"}
	r.wantPlan(map[pipeline.ID]string{
		"a": "will run, because it has not run in this workspace", "b": "will run, because it has not run in this workspace",
		"c": "depends on a, b", "d": "runs", "e": "depends on d",
	}, a, b, c, d, e)
}

// warm returns a rig on which the world has run once.
func warm(t *testing.T) (*rig, *world) {
	t.Helper()
	r, w := newRig(t), newWorld()
	r.mustRun(allDone, w.steps()...)
	return r, w
}

func TestBecause(t *testing.T) {
	t.Parallel()
	const model = "export-onnx"
	for name, c := range map[string]struct {
		change func(r *rig, w *world)
		want   string
	}{
		"nothing":       {func(*rig, *world) {}, "cached"},
		"changed":       {func(_ *rig, w *world) { w.options["argv"] = "export --opset 18" }, "will run, because argv: export --opset 17 → export --opset 18"},
		"added":         {func(_ *rig, w *world) { w.options["precision"] = "fp16" }, "will run, because precision is new: fp16"},
		"gone":          {func(_ *rig, w *world) { delete(w.options, "seed") }, "will run, because seed is gone"},
		"several":       {func(_ *rig, w *world) { w.options = pipeline.Facts{"argv": "e", "a": "b"} }, "will run, because a is new: b; argv: export --opset 17 → e; seed is gone"},
		"other image":   {func(_ *rig, w *world) { w.image.present = "sha256:2" }, "will run, because input exporter-image/image: sha256:1 → sha256:2"},
		"other outputs": {func(_ *rig, w *world) { w.model.outs = append(w.model.outs, "labels.txt") }, "will run, because outputs: model.onnx → model.onnx, labels.txt"},
		"evicted":       {func(r *rig, _ *world) { r.store.Evict(r.store.Fingerprints(model)[0]) }, "will run, because its result is no longer in the cache"},
		"damaged":       {func(r *rig, _ *world) { pipelinetest.Truncate(r.t, r.path(model, "model.onnx")) }, "will run, because cache entry is damaged: model.onnx was changed"},
		"forced":        {func(r *rig, _ *world) { r.runner.Force = map[pipeline.ID]bool{model: true} }, "will run, because it was asked for"},
		"workspace":     {func(r *rig, _ *world) { r.runner.Workspace = "other" }, "cached"},
		"new workspace": {func(r *rig, w *world) {
			r.runner.Workspace = "other"
			w.options["argv"] = "e"
		}, "will run, because it has not run in this workspace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := warm(t)
			c.change(r, w)
			want := map[pipeline.ID]string{"exporter-image": "present", model: c.want, "assemble-repository": "cached"}
			if c.want != "cached" {
				want["assemble-repository"] = "depends on export-onnx"
			}
			r.wantPlan(want, w.steps()...)
			if name == "other outputs" {
				return // the tests above run what was planned
			}
			if err := r.run(t.Context(), w.steps()...); err != nil {
				t.Fatal(err)
			}
			if got := r.decided(model); got != c.want {
				t.Errorf("the run decided %q, the plan %q", got, c.want)
			}
			r.runner.Force = nil
			r.wantPlan(map[pipeline.ID]string{"exporter-image": "present", model: "cached", "assemble-repository": "cached"}, w.steps()...)
		})
	}
}

// What was made with an earlier set of facts is still there when they come back, and then counts as the last.
func TestBecauseComparesWithTheLastResult(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	cached := ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Cached, "assemble-repository": pipeline.Cached}
	w.options["seed"] = "2"
	r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Done}, w.steps()...)
	w.options["seed"] = "1"
	r.mustRun(cached, w.steps()...)
	w.options["seed"] = "3"
	if got, want := r.plan(w.steps()...)["export-onnx"], "will run, because seed: 1 → 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlanAfterImagePrune(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	w.image.present = ""
	r.wantPlan(map[pipeline.ID]string{"exporter-image": "not needed", "export-onnx": "cached", "assemble-repository": "cached"}, w.steps()...)
	base := &image{plain: plain{id: "base-image", outs: []string{"image"}}, known: "sha256:0"}
	w.image.in = []pipeline.Output{out("base-image", "image")}
	r.wantPlan(map[pipeline.ID]string{
		"base-image": "not needed", "exporter-image": "not needed", "export-onnx": "cached", "assemble-repository": "cached",
	}, append([]pipeline.Step{base}, w.steps()...)...)
	w.image.in = nil
	w.options["seed"] = "2"
	r.wantPlan(map[pipeline.ID]string{
		"exporter-image":      "will run, because there is no local image",
		"export-onnx":         "will run, because seed: 1 → 2",
		"assemble-repository": "depends on export-onnx",
	}, w.steps()...)
}

// A plan says what Run would do: the last step is what the run is for, and nothing runs that does not lead to it.
func TestPlanIsOfTheLastStep(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps func(w *world) []pipeline.Step
		plan  map[pipeline.ID]string
		ends  ends
	}{
		"an absent image is the goal": {
			func(w *world) []pipeline.Step {
				w.image.known = "sha256:1"
				return []pipeline.Step{w.image}
			},
			map[pipeline.ID]string{"exporter-image": "will run, because there is no local image"},
			ends{"exporter-image": pipeline.Done},
		},
		"steps that nobody reads": {
			func(w *world) []pipeline.Step {
				return []pipeline.Step{w.image, w.model, &plain{id: "serve", outs: []string{"url"}}, &plain{id: "goal"}}
			},
			map[pipeline.ID]string{"exporter-image": "not needed", "export-onnx": "not needed", "serve": "not needed", "goal": "runs"},
			ends{"exporter-image": pipeline.Skipped, "export-onnx": pipeline.Skipped, "serve": pipeline.Skipped, "goal": pipeline.Done},
		},
		"a present image that nobody reads": {
			func(w *world) []pipeline.Step {
				w.image.present = "sha256:1"
				return []pipeline.Step{w.image, &plain{id: "goal"}}
			},
			map[pipeline.ID]string{"exporter-image": "present", "goal": "runs"},
			ends{"exporter-image": pipeline.Skipped, "goal": pipeline.Done},
		},
		"an image that only a step reads that nobody reads": {
			func(w *world) []pipeline.Step {
				w.image.known = "sha256:1"
				return []pipeline.Step{w.image, w.model, &plain{id: "goal"}}
			},
			map[pipeline.ID]string{"exporter-image": "not needed", "export-onnx": "not needed", "goal": "runs"},
			ends{"exporter-image": pipeline.Skipped, "export-onnx": pipeline.Skipped, "goal": pipeline.Done},
		},
		"an image behind an image": {
			func(w *world) []pipeline.Step {
				w.image.known = "sha256:1"
				second := &image{plain: plain{id: "server-image", in: []pipeline.Output{out("exporter-image", "image")}, outs: []string{"image"}}, known: "2", pulled: "2"}
				return []pipeline.Step{w.image, second, &plain{id: "goal", in: []pipeline.Output{out("server-image", "image")}}}
			},
			map[pipeline.ID]string{
				"exporter-image": "will run, because there is no local image", "server-image": "will run, because there is no local image", "goal": "runs",
			},
			ends{"exporter-image": pipeline.Done, "server-image": pipeline.Done, "goal": pipeline.Done},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			steps := c.steps(newWorld())
			r.wantPlan(c.plan, steps...)
			r.mustRun(c.ends, steps...)
		})
	}
}

func TestPlanErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("no container engine answers")
	t.Run("observer", func(t *testing.T) {
		t.Parallel()
		r, w := newRig(t), newWorld()
		w.image.err = broken
		_, err := r.runner.Plan(t.Context(), w.steps())
		wantStepError(t, err, "exporter-image", broken)
	})
	t.Run("facts", func(t *testing.T) {
		t.Parallel()
		r, w := warm(t) // so that entries are open when the error comes
		w.folder.facts = func(context.Context, pipeline.Inputs) (pipeline.Facts, error) { return nil, broken }
		_, err := r.runner.Plan(t.Context(), w.steps())
		wantStepError(t, err, "assemble-repository", broken)
	})
	t.Run("cause", func(t *testing.T) {
		t.Parallel()
		r, w := newRig(t), newWorld()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStopped)
		w.image.err = context.Canceled
		if _, err := r.runner.Plan(ctx, w.steps()); !errors.Is(err, errStopped) {
			t.Errorf("got %v, want the cause", err)
		}
	})
}

func wantStepError(t *testing.T, err error, id pipeline.ID, want error) {
	t.Helper()
	failed, ok := errors.AsType[*pipeline.StepError](err)
	if !ok || failed.Step != id || !errors.Is(err, want) {
		t.Errorf("got %v, want that of %s: %v", err, id, want)
	}
}

func TestObserverThatLacksAnOutput(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	w.image.present = "sha256:1"
	half := &halfObserver{w.image}
	w.model.facts = func(_ context.Context, in pipeline.Inputs) (pipeline.Facts, error) {
		if in[out("exporter-image", "image")].Digest == "" {
			t.Error("facts are asked for before the input is known")
		}
		return nil, nil
	}
	steps := []pipeline.Step{half, w.model, w.folder}
	const want = "exporter-image: it is present, but without image"
	if _, err := r.runner.Plan(t.Context(), steps); err == nil || err.Error() != want {
		t.Errorf("plan: got %v, want %s", err, want)
	}
	if err := r.run(t.Context(), steps...); err == nil || err.Error() != want {
		t.Errorf("run: got %v, want %s", err, want)
	}
	// What is absent is known by all of its digests or not at all.
	w.image.present, w.image.known = "", "sha256:0"
	if got, want := r.plan(steps...)["export-onnx"], "depends on exporter-image"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r.mustRun(allDone, steps...)
}

// halfObserver observes no values.
type halfObserver struct{ *image }

func (h *halfObserver) Observe(ctx context.Context, in pipeline.Inputs) (pipeline.State, pipeline.Values, error) {
	state, _, err := h.image.Observe(ctx, in)
	return state, pipeline.Values{}, err
}

func TestPlanJSON(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	w.options["seed"] = "2"
	rows, err := r.runner.Plan(t.Context(), w.steps())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"step":"exporter-image","verdict":{"kind":"present"}},` +
		`{"step":"export-onnx","verdict":{"kind":"will run","because":[{"fact":"seed","was":"1","is":"2"}]}},` +
		`{"step":"assemble-repository","verdict":{"kind":"depends on","pending":["export-onnx"]}}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
