package pipeline_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

var (
	errBroken  = errors.New("out of memory")
	errStopped = errors.New("stopped by interrupt")
)

// untilCancelled is the work of a step that ends when it must, in its own words.
func untilCancelled(ctx context.Context, _ *pipeline.Work) error {
	<-ctx.Done()
	return errors.New("killed")
}

// TestExplain lets whoever runs steps say what to do about an error, be it a step's or the store's: in the event and in what Run returns.
func TestExplain(t *testing.T) {
	t.Parallel()
	for name, work := range map[string]func(context.Context, *pipeline.Work) error{
		"a step's":  fails(errBroken),
		"the store": func(_ context.Context, w *pipeline.Work) error { return os.Remove(w.Dir) }, // nothing is there to be stored
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.runner.Explain = func(err error) error { return pipeline.Faultf(pipeline.Environment, "do this", "explained: %w", err) }
			err := r.run(t.Context(), &builder{plain: plain{id: "bad", outs: []string{"x"}, do: work}})
			f, ok := errors.AsType[*pipeline.Fault](err)
			if !ok || f.Hint != "do this" || !strings.HasPrefix(err.Error(), "bad: explained: ") {
				t.Errorf("Run returned %v", err)
			}
			if ended := emitted[pipeline.Ended](r.sink, "bad"); len(ended) != 1 || !strings.HasPrefix(ended[0].Err.Error(), "explained: ") {
				t.Errorf("it ended as %+v", ended)
			}
		})
	}
}

// TestExplainOnce counts the errors of one run that are explained: the step's, Then's and what undoing met, each once, and no cause of the context's end.
func TestExplainOnce(t *testing.T) {
	t.Parallel()
	errUndo, errThen := errors.New("cannot undo"), errors.New("cannot show")
	undone := func(_ context.Context, w *pipeline.Work) error {
		w.Defer("it", func(context.Context) error { return errUndo })
		return nil
	}
	for name, c := range map[string]struct {
		work func(context.Context, *pipeline.Work) error
		then error
		want []error
	}{
		"nothing fails": {func(context.Context, *pipeline.Work) error { return nil }, nil, nil},
		"a step":        {fails(errBroken), nil, []error{errBroken}},
		"Then":          {undone, errThen, []error{errThen, errUndo}},
		"the clean-up":  {undone, nil, []error{errUndo}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var explained []error
			r.runner.Explain = func(err error) error {
				explained = append(explained, err)
				return err
			}
			r.runner.Then = func(context.Context, pipeline.Values) error { return c.then }
			err := r.run(t.Context(), &plain{id: "goal", do: c.work})
			if len(explained) != len(c.want) || (err == nil) != (len(c.want) == 0) {
				t.Fatalf("explained were %q, and the run ended with %v", explained, err)
			}
			for i, want := range c.want {
				if !errors.Is(explained[i], want) || !errors.Is(err, want) {
					t.Errorf("explained was %v, want %v; the run ended with %v", explained[i], want, err)
				}
			}
		})
	}
	r := newRig(t)
	r.runner.Explain = func(err error) error { t.Errorf("explained was %v", err); return err }
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStopped)
	if err := r.run(ctx, &plain{id: "goal", do: untilCancelled}); !errors.Is(err, errStopped) {
		t.Errorf("a cancelled run ended with %v", err)
	}
}

// TestFailureCancelsTheOthers also shows that the failure is what Run returns, though the goal hears of others first.
func TestFailureCancelsTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		slow := &builder{plain: plain{id: "slow", outs: []string{"x"}, do: func(ctx context.Context, w *pipeline.Work) error {
			err := untilCancelled(ctx, w)
			wantStepError(t, context.Cause(ctx), "bad", errBroken)
			return err
		}}}
		bad := &builder{plain: plain{id: "bad", outs: []string{"x"}, do: func(context.Context, *pipeline.Work) error {
			time.Sleep(3 * time.Second)
			return errBroken
		}}}
		next := &plain{id: "next", in: []pipeline.Output{out("bad", "x")}, outs: []string{"x"}}
		goal := &plain{id: "goal", in: []pipeline.Output{out("slow", "x"), out("next", "x")}}
		r.runner.Then = func(context.Context, pipeline.Values) error {
			t.Error("Then was called after a failure")
			return nil
		}
		err := r.run(t.Context(), slow, bad, next, goal)
		wantStepError(t, err, "bad", errBroken)
		if err.Error() != "bad: out of memory" {
			t.Errorf("got %q", err)
		}
		if failed, _ := errors.AsType[*pipeline.StepError](err); failed != nil && failed.Elapsed != 3*time.Second {
			t.Errorf("it failed after %v", failed.Elapsed)
		}
		r.wantEnds(ends{"slow": pipeline.Cancelled, "bad": pipeline.Failed, "next": pipeline.Skipped, "goal": pipeline.Skipped})
		if got := emitted[pipeline.Ended](r.sink, "bad")[0]; !errors.Is(got.Err, errBroken) || got.Elapsed != 3*time.Second {
			t.Errorf("the failed step ended as %+v", got)
		}
		if got := emitted[pipeline.Ended](r.sink, "slow")[0]; got.Err != nil || got.Elapsed != 3*time.Second {
			t.Errorf("the cancelled step ended as %+v", got)
		}
		if got := emitted[pipeline.Ended](r.sink, "next")[0].Reason; got != "the run ended before it" {
			t.Errorf("skipped because %q", got)
		}
		for _, id := range []pipeline.ID{"slow", "bad"} {
			if len(r.store.Fingerprints(id)) > 0 {
				t.Errorf("something was committed for %s", id)
			}
		}
	})
}

func TestFailureInEachPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(w *world)
		id    pipeline.ID
		ends  ends
	}{
		"observe": {func(w *world) { w.image.err = errBroken }, "exporter-image", ends{"exporter-image": pipeline.Failed, "export-onnx": pipeline.Skipped, "assemble-repository": pipeline.Skipped}},
		"pull":    {func(w *world) { w.image.do = fails(errBroken) }, "exporter-image", ends{"exporter-image": pipeline.Failed, "export-onnx": pipeline.Skipped, "assemble-repository": pipeline.Skipped}},
		"facts": {func(w *world) {
			w.model.facts = func(context.Context, pipeline.Inputs) (pipeline.Facts, error) { return nil, errBroken }
		}, "export-onnx", ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Failed, "assemble-repository": pipeline.Skipped}},
		"build": {func(w *world) { w.model.do = fails(errBroken) }, "export-onnx", ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Failed, "assemble-repository": pipeline.Skipped}},
		"goal":  {func(w *world) { w.folder.do = fails(errBroken) }, "assemble-repository", ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Done, "assemble-repository": pipeline.Failed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w := newRig(t), newWorld()
			c.spoil(w)
			wantStepError(t, r.run(t.Context(), w.steps()...), c.id, errBroken)
			r.wantEnds(c.ends)
			if len(r.store.Fingerprints(c.id)) > 0 {
				t.Error("something was committed")
			}
			fresh := newWorld()
			fresh.image.present = "sha256:1"
			if err := r.run(t.Context(), fresh.steps()...); err != nil {
				t.Errorf("the run after it: %v", err)
			}
		})
	}
}

// What a failed builder wrote is not committed, though all of its outputs are there.
func TestNoCommitAfterFailure(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	var dir string
	w.model.do = func(ctx context.Context, work *pipeline.Work) error {
		dir = work.Dir
		return errors.Join(w.model.write(ctx, work), errBroken)
	}
	wantStepError(t, r.run(t.Context(), w.steps()...), "export-onnx", errBroken)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
	w.model.do = nil
	if got, want := r.plan(w.steps()...)["export-onnx"], "will run, because it has not run in this workspace"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMissingOutputs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step pipeline.Step
		want string
	}{
		"builder": {&builder{plain: plain{id: "s", outs: []string{"model.onnx", "labels.txt"}, do: func(_ context.Context, w *pipeline.Work) error {
			return os.WriteFile(w.Path("labels.txt"), nil, 0o600)
		}}}, "s: it did not make model.onnx"},
		"other": {&plain{id: "s", outs: []string{"url", "container"}, do: func(_ context.Context, w *pipeline.Work) error {
			w.Set("url", pipeline.Value{Ref: "x"})
			return nil
		}}, "s: it ended without making container"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			if err := r.run(t.Context(), c.step); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			r.wantEnds(ends{"s": pipeline.Failed})
		})
	}
}

func TestTwoFailuresAtOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		r := newRig(t)
		met := meet(2)
		failing := func(id pipeline.ID) *plain {
			return &plain{id: id, outs: []string{"x"}, do: func(ctx context.Context, w *pipeline.Work) error {
				_ = met(ctx, w)
				return errors.New(string(id) + " is broken")
			}}
		}
		goal := &plain{id: "goal", in: []pipeline.Output{out("a", "x"), out("b", "x")}}
		err := r.run(t.Context(), failing("a"), failing("b"), goal)
		failed, ok := errors.AsType[*pipeline.StepError](err)
		if !ok || !strings.HasSuffix(err.Error(), "is broken") {
			t.Fatalf("got %v", err)
		}
		if got := emitted[pipeline.Ended](r.sink, failed.Step)[0].State; got != pipeline.Failed {
			t.Errorf("%s is said to have failed, but ended as %s", failed.Step, got)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := newRig(t), newWorld()
		ctx, cancel := context.WithCancelCause(t.Context())
		w.model.do = untilCancelled
		time.AfterFunc(5*time.Second, func() { cancel(errStopped) })
		err := r.run(ctx, w.steps()...)
		if !errors.Is(err, errStopped) || err.Error() != errStopped.Error() {
			t.Errorf("got %v, want the cause alone", err)
		}
		r.wantEnds(ends{"exporter-image": pipeline.Done, "export-onnx": pipeline.Cancelled, "assemble-repository": pipeline.Skipped})
		if got := emitted[pipeline.Ended](r.sink, "export-onnx")[0]; got.Elapsed != 5*time.Second || got.Err != nil {
			t.Errorf("the cancelled step ended as %+v", got)
		}
	})
}

func TestCancelledBeforeItBegan(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), newWorld()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStopped)
	if err := r.run(ctx, w.steps()...); !errors.Is(err, errStopped) {
		t.Errorf("got %v, want the cause", err)
	}
	r.wantEnds(ends{"exporter-image": pipeline.Skipped, "export-onnx": pipeline.Skipped, "assemble-repository": pipeline.Skipped})
}

// A step that is cancelled while it is looked at, or while it waits for another process, has not started.
func TestCancelledBeforeAStepStarted(t *testing.T) {
	t.Parallel()
	t.Run("observe", func(t *testing.T) {
		t.Parallel()
		r, w := newRig(t), newWorld()
		ctx, cancel := context.WithCancelCause(t.Context())
		w.image.err = context.Canceled
		w.image.present = "x"
		observed := &cancelling{w.image, func() { cancel(errStopped) }}
		if err := r.run(ctx, observed, w.model, w.folder); !errors.Is(err, errStopped) {
			t.Errorf("got %v, want the cause", err)
		}
		r.wantEnds(ends{"exporter-image": pipeline.Skipped, "export-onnx": pipeline.Skipped, "assemble-repository": pipeline.Skipped})
	})
	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			model := &builder{plain: plain{id: "model", outs: []string{"file"}}}
			r.mustRun(ends{"model": pipeline.Done}, model)
			fp := r.store.Fingerprints("model")[0]
			r.store.Evict(fp)
			tx, err := r.store.Begin(t.Context(), fp, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Minute, func() { cancel(errStopped) })
			if err := r.run(ctx, model); !errors.Is(err, errStopped) {
				t.Errorf("got %v, want the cause", err)
			}
			r.wantEnds(ends{"model": pipeline.Skipped})
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
		})
	})
}

// cancelling cancels the run when it is observed.
type cancelling struct {
	*image
	cancel func()
}

func (c *cancelling) Observe(ctx context.Context, in pipeline.Inputs) (pipeline.State, pipeline.Values, error) {
	c.cancel()
	return c.image.Observe(ctx, in)
}

// A failure that comes first is the one that counts, though Ctrl-C follows while the others end.
func TestFailureThenCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRig(t)
	slow := &plain{id: "slow", outs: []string{"x"}, do: func(ctx context.Context, _ *pipeline.Work) error {
		<-ctx.Done()
		cancel(errStopped)
		return ctx.Err()
	}}
	bad := &plain{id: "bad", outs: []string{"x"}, do: fails(errBroken)}
	goal := &plain{id: "goal", in: []pipeline.Output{out("slow", "x"), out("bad", "x")}}
	err := r.run(ctx, slow, bad, goal)
	if errors.Is(err, errStopped) {
		t.Errorf("got %v", err)
	}
	wantStepError(t, err, "bad", errBroken)
}

func TestCancelWhileThen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		then, want error
	}{
		"it drains":    {nil, nil},
		"it breaks up": {errors.New("rpc error: code = Canceled"), errStopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			r.runner.Then = func(ctx context.Context, _ pipeline.Values) error {
				cancel(errStopped)
				<-ctx.Done()
				return c.then
			}
			if err := r.run(ctx, &plain{id: "serve"}); !errors.Is(err, c.want) || errors.Is(err, c.then) != (c.then == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			r.wantEnds(ends{"serve": pipeline.Done})
		})
	}
}

func TestUndo(t *testing.T) {
	t.Parallel()
	errFirst, errSecond := errors.New("no such container"), errors.New("busy")
	for name, c := range map[string]struct {
		do   func(ctx context.Context, cancel func()) error // the last step's work
		want error
	}{
		"success": {func(context.Context, func()) error { return nil }, nil},
		"failure": {func(context.Context, func()) error { return errBroken }, errBroken},
		"cancel": {func(_ context.Context, cancel func()) error {
			cancel()
			return errBroken
		}, errStopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.runner.Cleanup = time.Minute
			ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), keyOfTest{}, "kept"))
			var order []string
			register := func(w *pipeline.Work, name string, err error) {
				w.Defer(name, func(ctx context.Context) error {
					order = append(order, name)
					if deadline, ok := ctx.Deadline(); ctx.Err() != nil || !ok || time.Until(deadline) > time.Minute || ctx.Value(keyOfTest{}) != "kept" {
						t.Errorf("%s is undone with %v", name, ctx)
					}
					if ended := emitted[pipeline.RunEnded](r.sink, ""); len(ended) > 0 {
						t.Errorf("%s is undone after the run's end", name)
					}
					return err
				})
			}
			a := &plain{id: "a", outs: []string{"x"}, do: func(_ context.Context, w *pipeline.Work) error {
				register(w, "remove a", errFirst)
				register(w, "stop a", nil)
				w.Set("x", pipeline.Value{})
				return nil
			}}
			b := &plain{id: "b", in: []pipeline.Output{out("a", "x")}, do: func(ctx context.Context, w *pipeline.Work) error {
				register(w, "remove b", errSecond)
				return c.do(ctx, func() { cancel(errStopped) })
			}}
			err := r.run(ctx, a, b)
			if diff := cmp.Diff([]string{"remove b", "stop a", "remove a"}, order); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			for _, want := range []error{errFirst, errSecond} {
				if !errors.Is(err, want) {
					t.Errorf("%v does not tell that %v", err, want)
				}
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			lines := strings.Split(err.Error(), "\n")
			if want := []string{"remove b: busy", "remove a: no such container"}; !slices.Equal(lines[len(lines)-2:], want) {
				t.Errorf("got %q, want %q at the end", lines, want)
			}
		})
	}
}

type keyOfTest struct{}

// The undos share one deadline. Those after one that hangs are still called, for what they can do at once.
func TestUndoEndsInTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ cleanup, want time.Duration }{
		"set":      {45 * time.Second, 45 * time.Second},
		"zero":     {0, 10 * time.Second},
		"a second": {time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.runner.Cleanup = c.cleanup
				last := false
				began := time.Now()
				err := r.run(t.Context(), &plain{id: "s", do: func(_ context.Context, w *pipeline.Work) error {
					w.Defer("remove the folder", func(context.Context) error {
						last = true
						return nil
					})
					w.Defer("remove the container", func(ctx context.Context) error {
						<-ctx.Done()
						return ctx.Err()
					})
					return nil
				}})
				if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "remove the container: ") {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("it took %v, want %v", took, c.want)
				}
				if !last {
					t.Error("the undo after the one that hung was not called")
				}
				r.wantEnds(ends{"s": pipeline.Done})
			})
		})
	}
}

// An undo that failed does not make the steps that were not needed look as if the run had broken off.
func TestUndoErrorIsNoReasonToSkip(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	err := r.run(t.Context(), &plain{id: "unread"}, &plain{id: "s", do: func(_ context.Context, w *pipeline.Work) error {
		w.Defer("remove", func(context.Context) error { return errBroken })
		return nil
	}})
	if !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	if got := emitted[pipeline.Ended](r.sink, "unread")[0].Reason; got != "nothing that ran reads it" {
		t.Errorf("skipped because %q", got)
	}
}

// No goroutine of a run outlives it: synctest fails a test that leaves one, and undoing comes after all have ended.
func TestRunWaitsForCancelledSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ended := false
		slow := &plain{id: "slow", outs: []string{"x"}, do: func(ctx context.Context, w *pipeline.Work) error {
			w.Defer("remove", func(context.Context) error {
				if !ended {
					t.Error("it is undone while the step is at work")
				}
				return nil
			})
			<-ctx.Done()
			time.Sleep(8 * time.Second) // a container takes its time to end
			ended = true
			return ctx.Err()
		}}
		bad := &plain{id: "bad", outs: []string{"x"}, do: func(context.Context, *pipeline.Work) error {
			time.Sleep(time.Second) // until slow is at work
			return errBroken
		}}
		goal := &plain{id: "goal", in: []pipeline.Output{out("slow", "x"), out("bad", "x")}}
		wantStepError(t, r.run(t.Context(), slow, bad, goal), "bad", errBroken)
		if !ended {
			t.Error("Run returned before a step did")
		}
		r.wantEnds(ends{"slow": pipeline.Cancelled, "bad": pipeline.Failed, "goal": pipeline.Skipped})
	})
}
