package pipeline_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/pipeline/pipelinetest"
)

var allCached = ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Cached, "assemble-repository": pipeline.Cached}

func TestRunMakesAndReuses(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	var got pipeline.Values
	r.runner.Then = func(_ context.Context, v pipeline.Values) error {
		got = v
		return nil
	}
	r.mustRun(allDone, w.steps()...)
	content, err := os.ReadFile(got["repository"].Path)
	const want = `export-onnx/model.onnx(exporter-image/image(registry/exporter-image sha256:1) export-onnx map[argv:export --opset 17 seed:1]) assemble-repository map[]`
	if diff := cmp.Diff(want, string(content)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	first := got
	r.mustRun(allCached, w.steps()...)
	if diff := cmp.Diff(first, got); diff != "" {
		t.Errorf("the warm run has other values (-cold +warm):\n%s", diff)
	}
}

func TestEventsTellOfTheRun(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	r.runner.Facts = map[string]string{"lane": "cpu"}
	r.mustRun(allDone, w.steps()...)
	want := pipeline.RunStarted{Steps: []pipeline.ID{"exporter-image", "export-onnx", "assemble-repository"}, Facts: map[string]string{"lane": "cpu"}}
	if diff := cmp.Diff([]pipeline.RunStarted{want}, emitted[pipeline.RunStarted](r.sink, "")); diff != "" {
		t.Errorf("start (-want +got):\n%s", diff)
	}
	cold := emitted[pipeline.Ended](r.sink, "export-onnx")[0]
	if cold.Elapsed <= 0 || len(cold.Digests) != 1 || cold.Digests["model.onnx"] == "" || cold.Reason != "" || cold.Err != nil {
		t.Errorf("the end of a builder is %+v", cold)
	}
	if got := emitted[pipeline.Ended](r.sink, "exporter-image")[0].Digests["image"]; got != "sha256:1" {
		t.Errorf("the image ended with the digest %q", got)
	}
	r.mustRun(allCached, w.steps()...)
	again := emitted[pipeline.Ended](r.sink, "export-onnx")[0]
	if diff := cmp.Diff(cold.Digests, again.Digests); diff != "" || again.Elapsed != 0 {
		t.Errorf("cached after %v, digests (-cold +warm):\n%s", again.Elapsed, diff)
	}
}

// A warm run after an image prune pulls nothing.
func TestWarmRunAfterImagePrune(t *testing.T) {
	t.Parallel()
	r, w := warm(t)
	w.image.present = ""
	r.mustRun(ends{"exporter-image": pipeline.Skipped, "export-onnx": pipeline.Cached, "assemble-repository": pipeline.Cached}, w.steps()...)
	if w.image.present != "" {
		t.Error("it was pulled")
	}
	if got, want := emitted[pipeline.Ended](r.sink, "exporter-image")[0].Reason, "nothing that ran reads it"; got != want {
		t.Errorf("skipped because %q, want %q", got, want)
	}
}

// An absent image is identified by its old digest. If it is needed and comes back as another one, that one counts.
func TestRebuiltImage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pulled string
		before func(r *rig, w *world)
		ends   ends
		model  string // the verdict on it, which was found by the old digest
		digest string // of the image that the model's content names
	}{
		"the same": {"sha256:1", nil, ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Done}, "seed: 1 → 2", "sha256:1"},
		"another":  {"sha256:2", nil, ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Done}, "seed: 1 → 2", "sha256:2"},
		"another that was used before": {
			"sha256:2",
			func(r *rig, w *world) {
				w.image.present = "sha256:2"
				w.options["seed"] = "2"
				r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Done}, w.steps()...)
			},
			ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Cached, "assemble-repository": pipeline.Cached},
			"input exporter-image/image: sha256:2 → sha256:1", "sha256:2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := warm(t)
			if c.before != nil {
				c.before(r, w)
			}
			w.image.present, w.image.known, w.image.pulled = "", "sha256:1", c.pulled
			w.options["seed"] = "2"
			var read pipeline.Values
			r.runner.Then = func(_ context.Context, v pipeline.Values) error {
				read = v
				return nil
			}
			r.mustRun(c.ends, w.steps()...)
			if got, want := r.decided("export-onnx"), "will run, because "+c.model; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			// The facts are told by each image by which the step was identified, and the last are those of the result.
			told := emitted[pipeline.Fingerprinted](r.sink, "export-onnx")
			if want := map[string]int{"sha256:1": 1, "sha256:2": 2}[c.digest]; len(told) != want || told[len(told)-1].Facts["input exporter-image/image"] != c.digest {
				t.Errorf("the facts that were told: %+v", told)
			}
			content, err := os.ReadFile(read["repository"].Path)
			want := "export-onnx/model.onnx(exporter-image/image(registry/exporter-image " + c.digest + ") export-onnx map[argv:export --opset 17 seed:2]) assemble-repository map[]"
			if diff := cmp.Diff(want, string(content)); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			r.wantPlan(map[pipeline.ID]string{"exporter-image": "present", "export-onnx": "cached", "assemble-repository": "cached"}, w.steps()...)
		})
	}
}

// A result with the digest that it had before changes nothing for its readers.
func TestReadersGoByDigest(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	w.model.do = func(_ context.Context, work *pipeline.Work) error {
		return os.WriteFile(work.Path("model.onnx"), []byte("the same"), 0o600)
	}
	r.mustRun(allDone, w.steps()...)
	w.options["seed"] = "2"
	r.mustRun(ends{"exporter-image": pipeline.Cached, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Cached}, w.steps()...)
}

// meet returns a step's work that ends when the others of its group are at work too.
func meet(n int) func(context.Context, *pipeline.Work) error {
	arrived, all := make(chan struct{}, n), make(chan struct{})
	return func(ctx context.Context, _ *pipeline.Work) error {
		arrived <- struct{}{}
		if len(arrived) == n {
			close(all)
		}
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Second):
			return errors.New("the other step does not run at the same time")
		}
	}
}

func TestIndependentStepsOverlap(t *testing.T) {
	t.Parallel()
	both := []pipeline.Output{out("a", "x"), out("b", "x")}
	builderOf := func(id pipeline.ID, met func(context.Context, *pipeline.Work) error) pipeline.Step {
		b := &builder{plain: plain{id: id, outs: []string{"x"}}}
		b.do = func(ctx context.Context, w *pipeline.Work) error { return errors.Join(met(ctx, w), b.write(ctx, w)) }
		return b
	}
	imageOf := func(known string, met func(context.Context, *pipeline.Work) error) pipeline.Step {
		i := &image{plain: plain{id: "b", outs: []string{"x"}}, known: known}
		i.do = func(ctx context.Context, w *pipeline.Work) error {
			w.Set("x", pipeline.Value{Digest: "2"})
			return met(ctx, w)
		}
		return i
	}
	for name, steps := range map[string]func(met func(context.Context, *pipeline.Work) error) []pipeline.Step{
		"two builders": func(met func(context.Context, *pipeline.Work) error) []pipeline.Step {
			return []pipeline.Step{builderOf("a", met), builderOf("b", met), &plain{id: "goal", in: both}}
		},
		"for a builder": func(met func(context.Context, *pipeline.Work) error) []pipeline.Step {
			return []pipeline.Step{builderOf("a", met), builderOf("b", met), &builder{plain: plain{id: "goal", in: both}}}
		},
		"builder and image": func(met func(context.Context, *pipeline.Work) error) []pipeline.Step {
			return []pipeline.Step{builderOf("a", met), imageOf("", met), &builder{plain: plain{id: "goal", in: both}}}
		},
		"builder and pruned image for a step that runs anyway": func(met func(context.Context, *pipeline.Work) error) []pipeline.Step {
			return []pipeline.Step{builderOf("a", met), imageOf("1", met), &plain{id: "goal", in: both}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				newRig(t).mustRun(ends{"a": pipeline.Done, "b": pipeline.Done, "goal": pipeline.Done}, steps(meet(2))...)
			})
		})
	}
}

// A result that many steps read is made once.
func TestDiamond(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	runs := make(chan struct{}, 10)
	top := &plain{id: "top", outs: []string{"x", "y"}}
	top.do = func(_ context.Context, w *pipeline.Work) error {
		runs <- struct{}{}
		w.Set("x", pipeline.Value{Digest: "1"})
		w.Set("y", pipeline.Value{Digest: "2"})
		return nil
	}
	left := &builder{plain: plain{id: "left", in: []pipeline.Output{out("top", "x")}, outs: []string{"x"}}}
	right := &builder{plain: plain{id: "right", in: []pipeline.Output{out("top", "x"), out("top", "y")}, outs: []string{"x"}}}
	goal := &plain{id: "goal", in: []pipeline.Output{out("left", "x"), out("right", "x"), out("top", "y")}}
	r.mustRun(ends{"top": pipeline.Done, "left": pipeline.Done, "right": pipeline.Done, "goal": pipeline.Done}, top, left, right, goal)
	if len(runs) != 1 {
		t.Errorf("top ran %d times", len(runs))
	}
}

func TestStepsGetWhatTheyRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	model := &builder{plain: plain{id: "model", outs: []string{"file"}}}
	server := &plain{id: "server", in: []pipeline.Output{out("model", "file")}, outs: []string{"url"}}
	server.do = func(_ context.Context, w *pipeline.Work) error {
		v := w.Input(out("model", "file"))
		if content, err := os.ReadFile(v.Path); err != nil || string(content) != "model map[]" || v.Digest == "" || v.Ref != "" {
			t.Errorf("the server reads %q, %v from %+v", content, err, v)
		}
		if w.Dir != "" {
			t.Errorf("the server has the folder %q", w.Dir)
		}
		w.Set("url", pipeline.Value{Ref: "127.0.0.1:8001"})
		return nil
	}
	goal := &plain{id: "goal", in: []pipeline.Output{out("server", "url")}, do: func(_ context.Context, w *pipeline.Work) error {
		if got := w.Input(out("server", "url")).Ref; got != "127.0.0.1:8001" {
			t.Errorf("the goal reads %q", got)
		}
		if got := w.Input(out("model", "file")); got != (pipeline.Value{}) {
			t.Errorf("the goal reads %v, which it does not name", got)
		}
		return nil
	}}
	r.mustRun(ends{"model": pipeline.Done, "server": pipeline.Done, "goal": pipeline.Done}, model, server, goal)
}

func TestThenSeesEverythingStanding(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var order []string
	model := &builder{plain: plain{id: "model", outs: []string{"file"}}}
	server := &plain{id: "server", in: []pipeline.Output{out("model", "file")}, outs: []string{"url"}}
	var path string
	server.do = func(_ context.Context, w *pipeline.Work) error {
		path = w.Input(out("model", "file")).Path
		w.Defer("stop the server", func(context.Context) error {
			order = append(order, "stopped")
			_, err := os.Stat(path) // still held when undone
			return err
		})
		w.Set("url", pipeline.Value{Ref: "here"})
		return nil
	}
	r.runner.Then = func(ctx context.Context, v pipeline.Values) error {
		order = append(order, "then at "+v["url"].Ref)
		if ended := emitted[pipeline.Ended](r.sink, "server"); len(ended) != 1 {
			t.Errorf("Then is called before the last step ended: %v", ended)
		}
		if ended := emitted[pipeline.RunEnded](r.sink, ""); len(ended) != 0 {
			t.Error("Then is called after the run ended")
		}
		return errors.Join(ctx.Err(), onlyErr(os.Stat(path)))
	}
	r.mustRun(ends{"model": pipeline.Done, "server": pipeline.Done}, model, server)
	if diff := cmp.Diff([]string{"then at here", "stopped"}, order); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func onlyErr(_ os.FileInfo, err error) error { return err }

func TestThenFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	undone := false
	broken := errors.New("the wrong answer")
	r.runner.Then = func(context.Context, pipeline.Values) error { return broken }
	err := r.run(t.Context(), &plain{id: "serve", do: func(_ context.Context, w *pipeline.Work) error {
		w.Defer("stop", func(ctx context.Context) error {
			undone = true
			return ctx.Err()
		})
		return nil
	}})
	if !errors.Is(err, broken) || !undone {
		t.Errorf("got %v, undone: %v", err, undone)
	}
	if _, ok := errors.AsType[*pipeline.StepError](err); ok {
		t.Errorf("%v is blamed on a step", err)
	}
	r.wantEnds(ends{"serve": pipeline.Done})
}

// Two processes that need the same build it once.
func TestTwoRunsBuildTheSameOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := pipelinetest.NewStore(t)
		release := make(chan struct{})
		builds := make(chan struct{}, 2)
		model := func() *builder {
			b := &builder{plain: plain{id: "model", outs: []string{"file"}}}
			b.do = func(ctx context.Context, w *pipeline.Work) error {
				builds <- struct{}{}
				<-release
				return b.write(ctx, w)
			}
			return b
		}
		first, second := rigOn(t, store), rigOn(t, store)
		second.runner.Workspace = "other"
		done := make(chan error)
		go func() { done <- first.run(t.Context(), model()) }()
		synctest.Wait() // the first builds
		go func() { done <- second.run(t.Context(), model()) }()
		synctest.Wait() // the second waits
		want := []pipeline.Warning{{Text: "waiting for another builder, which builds the same"}}
		if diff := cmp.Diff(want, emitted[pipeline.Warning](second.sink, "model")); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
		close(release)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if len(builds) != 1 {
			t.Errorf("it was built %d times", len(builds))
		}
		first.wantEnds(ends{"model": pipeline.Done})
		second.wantEnds(ends{"model": pipeline.Cached})
		if last, err := store.Last("other", "model"); err != nil || last == nil {
			t.Errorf("the facts of what another process built were not noted: %v, %v", last, err)
		}
		if got, want := second.decided("model"), "will run, because it has not run in this workspace"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestTheBuilderBeforeFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := pipelinetest.NewStore(t)
		broken := errors.New("out of memory")
		release := make(chan struct{})
		bad := &builder{plain: plain{id: "model", outs: []string{"file"}, do: func(context.Context, *pipeline.Work) error {
			<-release
			return broken
		}}}
		first, second := rigOn(t, store), rigOn(t, store)
		failed, done := make(chan error, 1), make(chan error, 1)
		go func() { failed <- first.run(t.Context(), bad) }()
		synctest.Wait()
		go func() { done <- second.run(t.Context(), &builder{plain: plain{id: "model", outs: []string{"file"}}}) }()
		synctest.Wait()
		close(release)
		wantStepError(t, <-failed, "model", broken)
		if err := <-done; err != nil {
			t.Error(err)
		}
		first.wantEnds(ends{"model": pipeline.Failed})
		second.wantEnds(ends{"model": pipeline.Done})
	})
}
