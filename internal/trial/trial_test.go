package trial_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/trial"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// The workspace's server is loaded once with each load, and what is known of it stands with the figures.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		x := w.trial()
		x.Request.Concurrency, x.Request.Rates = []int{1, 2}, []float64{20}
		w.log = []string{"a line", "CNMEM_STATUS_OUT_OF_MEMORY", "CNMEM_STATUS_OUT_OF_MEMORY"}
		r, err := x.Run(t.Context())
		if err != nil || len(r.Runs) != 1 || len(r.Runs[0]) != 3 || r.Interrupted || len(r.Comparisons) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		want := bench.Environment{Lane: "cpu", Image: "sha256:1", Model: model, Pictures: r.Environment.Pictures}
		if r.Environment != want || !strings.HasPrefix(want.Pictures, "sha256:") || r.Server != "127.0.0.1:8001" || r.Program != "1.2.3" {
			t.Errorf("%+v", r)
		}
		if m := r.Runs[0]; m[0].Answered != 100 || m[1].Answered != 200 || m[2].Answered != 20 || m[2].Load.Seed == 0 {
			t.Errorf("%+v", m)
		}
		if len(r.Findings) != 1 || !strings.Contains(r.Findings[0], "pool of GPU memory is full") {
			t.Errorf("found: %q", r.Findings)
		}
		want3 := []string{"1 at a time: 100 requests/s, ", "2 at a time: 200 requests/s, ", "20/s: 20.00 requests/s, "}
		if len(w.told) != 3 || !slices.EqualFunc(w.told, want3, strings.HasPrefix) {
			t.Errorf("told: %q", w.told)
		}
	})
}

// Nothing is sent to a server before it is the turn of its GPUs, and they are given back after the last answer. Of GPUs that are not known
// nobody is asked.
func TestTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		x := w.trial()
		errBusy := errors.New("maria builds an engine")
		x.Turn = func(context.Context, string, []string) (func(), error) { return nil, errBusy }
		if _, err := x.Run(t.Context()); err != nil {
			t.Errorf("without a GPU: %v", err)
		}
		w.serve(t, owner.ServerFile{Container: "id", Run: "r1", Served: owner.Served{Lane: "gpu"}, GPUUUIDs: []string{"GPU-a", "GPU-b"}})
		sent := w.infers()
		if r, err := x.Run(t.Context()); !errors.Is(err, errBusy) || !r.Started.IsZero() || w.infers() != sent {
			t.Errorf("%v; %d requests were sent: %+v", err, w.infers()-sent, r)
		}
		var asked []string
		released := 0
		x.Turn = func(_ context.Context, workspace string, gpus []string) (func(), error) {
			asked = append(slices.Clone(gpus), workspace)
			return func() { released = w.infers() }, nil
		}
		if _, err := x.Run(t.Context()); err != nil || !slices.Equal(asked, []string{"GPU-a", "GPU-b", w.workspace}) || released != w.infers() || released == sent {
			t.Errorf("%v; asked for %q, released after %d of %d requests", err, asked, released, w.infers())
		}
	})
}

// Without a load those are run that are usual on what the models run.
func TestUsualLoads(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rates []float64
		want  []bench.Load
	}{
		"no load":     {nil, []bench.Load{{Concurrency: 1}, {Concurrency: 8}}},
		"a rate only": {[]float64{5}, []bench.Load{{Rate: 5}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := newWorld(t).trial()
				x.Request.Concurrency, x.Request.Rates = nil, test.rates
				r, err := x.Run(t.Context())
				if err != nil || len(r.Runs) != 1 {
					t.Fatalf("%+v, %v", r, err)
				}
				var got []bench.Load
				for _, m := range r.Runs[0] {
					got = append(got, bench.Load{Concurrency: m.Load.Concurrency, Rate: m.Load.Rate})
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
	if got := trial.UsualConcurrency(false); !slices.Equal(got, []int{1, 8, 64}) {
		t.Errorf("on a GPU %v", got)
	}
}

// Of a server that is not known there is its address, which it is compared by: one at --url, and one without a file.
func TestUnknownServer(t *testing.T) {
	t.Parallel()
	server := tritontest.New(t, tritontest.Classifier(model, []string{"a", "b"}, func([]byte) ([]float32, error) {
		return []float32{1, 2}, nil
	}))
	server.MustLoad(model)
	x := (&world{}).trial()
	x.Request.URL, x.Request.Duration, x.Finder = server.Addr(), 20*time.Millisecond, nobody{t: t}
	r, err := x.Run(t.Context())
	if err != nil || r.Environment.Server != server.Addr() || r.Environment.Lane != "" || r.Server != server.Addr() || r.Findings != nil {
		t.Errorf("%+v, %v", r, err)
	}
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct{ text, warning string }{
			"no file":        {"", ""},
			"a damaged file": {"{", "warning: what the server runs on is not known: "},
		} {
			w := newWorld(t)
			if err := os.Remove(owner.ServerPath(w.workspace)); err != nil {
				t.Fatal(err)
			}
			if test.text != "" {
				if err := os.WriteFile(owner.ServerPath(w.workspace), []byte(test.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r, err := w.trial().Run(t.Context())
			if err != nil || r.Environment.Server != "127.0.0.1:8001" || r.Environment.Lane != "" {
				t.Errorf("%s: %+v, %v", name, r.Environment, err)
			}
			if (test.warning != "") != w.hasTold("warning: ") || !w.hasTold(test.warning) {
				t.Errorf("%s: told %q", name, w.told)
			}
		}
	})
}

// Pictures that are named are sent in place of the sample, and another order is another environment.
func TestNamedPictures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := map[string]bool{}
		one, other := picture(t), picture(t)
		if err := os.WriteFile(other, []byte("P5 2 2 255 abcd"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, names := range [][]string{nil, {one}, {one, other}, {other, one}} {
			w := newWorld(t)
			x := w.trial()
			x.Request.Pictures = names
			r, err := x.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			seen[r.Environment.Pictures] = true
		}
		if len(seen) != 4 {
			t.Errorf("they are called %v", seen)
		}
	})
}

// What is refused is refused before a picture is sent.
func TestRefused(t *testing.T) {
	t.Parallel()
	text := write(t, "notes.txt", "no picture")
	stopped := errors.New("stopped")
	for name, test := range map[string]struct {
		change      func(*trial.Request)
		kind        pipeline.Kind
		words, hint string
	}{
		"both baselines": {
			func(r *trial.Request) { r.Save, r.Baseline = "a", "b" },
			pipeline.Usage, "--save-baseline a and --baseline b exclude each other", "drop one of them",
		},
		"no time": {
			func(r *trial.Request) { r.Duration = 0 },
			pipeline.Usage, "a duration of 0 s is not above 0", "dalirun bench --help",
		},
		"no such baseline": {
			func(r *trial.Request) { r.Baseline = "/nowhere/b" },
			pipeline.Usage, "--baseline /nowhere/b: no such file or directory", "check the name",
		},
		"no baseline": {
			func(r *trial.Request) { r.Baseline = text },
			pipeline.Usage, "--baseline " + text + ": it is no baseline: ", "name a file that `dalirun bench --save-baseline FILE` wrote",
		},
		"a damaged baseline": {
			func(r *trial.Request) {
				r.Baseline = write(t, "b.json", `{"version": 1, "levels": [{"figures": {"pictures_per_second": [-1]}}]}`)
			},
			pipeline.Usage, "it is damaged: pictures_per_second of ", "name a file that `dalirun bench --save-baseline FILE` wrote",
		},
		"no picture": {
			func(r *trial.Request) { r.Pictures = []string{text} },
			pipeline.Usage, text + ": ", "",
		},
		"no such picture": {
			func(r *trial.Request) { r.Pictures = []string{"/nowhere/p.png"} },
			pipeline.Usage, "/nowhere/p.png: no such file or directory", "check the name",
		},
		"a folder without pictures": {
			func(r *trial.Request) { r.Pictures = []string{filepath.Dir(text)} },
			pipeline.Usage, "the folder holds no picture", ".jpg",
		},
		"a folder to save in": {
			func(r *trial.Request) { r.Save = filepath.Dir(text) },
			pipeline.Usage, "is there already, and is no file", "name a file with --save-baseline",
		},
		"no folder to save in": {
			func(r *trial.Request) { r.Save = "/nowhere/b.json" },
			pipeline.Usage, "save the baseline: open /nowhere/b.json: no such file", "name a file in a folder that exists",
		},
		"no such model": {
			func(r *trial.Request) { r.Model = "another" },
			pipeline.NotReady, "another", "--model names a model that the server has loaded",
		},
		"a model that takes no picture": {
			func(r *trial.Request) { r.Model = "net" },
			pipeline.Usage, "model net has 0 inputs, not one for the picture", "as the_ensemble does",
		},
		"no address": {
			func(r *trial.Request) { r.URL = "\x7f" },
			pipeline.Usage, "--url: ", "as in --url localhost:8001",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				x := w.trial()
				test.change(&x.Request)
				r, err := x.Run(t.Context())
				wantFault(t, err, test.kind, test.words, test.hint)
				health := 0 // is one inference
				if test.kind == pipeline.NotReady {
					health = 1
				}
				if !r.Started.IsZero() || w.infers() > health {
					t.Errorf("%d pictures were sent: %+v", w.infers(), r)
				}
			})
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	for _, change := range []func(*trial.Request){
		func(r *trial.Request) { r.Baseline = text }, func(r *trial.Request) { r.Pictures = []string{text} },
	} {
		x := (&world{}).trial()
		x.Finder = nobody{t: t}
		change(&x.Request)
		if _, err := x.Run(ctx); !errors.Is(err, stopped) {
			t.Errorf("stopped: %v", err)
		}
	}
	x := (&world{}).trial()
	x.Finder = nobody{t: t, err: stopped}
	if _, err := x.Run(t.Context()); !errors.Is(err, stopped) {
		t.Errorf("no workspace: %v", err)
	}
}

// A server that is not there is told of with where it was looked for.
func TestNoServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	x := (&world{}).trial()
	x.Request.URL, x.Finder = address, nobody{t: t}
	_, err = x.Run(t.Context())
	wantFault(t, err, pipeline.NotReady, address, "is a server at "+address+"? `dalirun ps` lists those of dalirun")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.server.Stop()
		_, err := w.trial().Run(t.Context())
		wantFault(t, err, pipeline.NotReady, "the server server is not healthy: ", "` mends it")
	})
}

// A baseline is saved of five runs, and a server that is as fast holds against it in one.
func TestBaseline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		file := filepath.Join(t.TempDir(), "b.json")
		save(t, w, file)
		if !w.hasTold("run 1 of 5, 1 at a time: ") || !w.hasTold("run 5 of 5, ") || !w.hasTold("saved the baseline "+file) {
			t.Errorf("told %q", w.told)
		}
		w.told = nil
		x := w.trial()
		x.Request.Baseline = file
		r, err := x.Run(t.Context())
		if err != nil || len(r.Runs) != 1 || len(r.Comparisons) != 4 || bench.Worst(r.Comparisons) != bench.Held {
			t.Errorf("%+v, %v", r, err)
		}
		if !w.hasTold("run 1 of 1 to 5, 1 at a time: ") {
			t.Errorf("told %q", w.told)
		}
	})
}

// save saves a baseline of a world.
func save(t *testing.T, w *world, file string) {
	t.Helper()
	x := w.trial()
	x.Request.Save = file
	r, err := x.Run(t.Context())
	if err != nil || len(r.Runs) != bench.RunsToConfirm {
		t.Fatalf("%+v, %v", r, err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("%v is left: %v", left, err)
	}
}

// A server that became slower is run again: what all five runs show is the gate's fault, and what one of them does not
// is none.
func TestRegression(t *testing.T) {
	t.Parallel()
	const fast, slow = 10 * time.Millisecond, 20 * time.Millisecond
	for name, test := range map[string]struct {
		takes   []time.Duration // of a request in each run
		verdict bench.Verdict
	}{
		"confirmed":   {[]time.Duration{slow, slow, slow, slow, slow}, bench.Confirmed},
		"unconfirmed": {[]time.Duration{slow, slow, fast, slow, slow}, bench.Unconfirmed},
		"a stray run": {[]time.Duration{slow, fast, fast, fast, fast}, bench.Held},
		"after three": {[]time.Duration{slow, fast / 2, fast / 2}, bench.Held},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				file := filepath.Join(t.TempDir(), "b.json")
				save(t, w, file)
				x := w.trial()
				x.Request.Baseline = file
				runs := 0
				w.takes.Store(int64(test.takes[0]))
				x.Notice = func(string) { // a load was measured
					if runs++; runs < len(test.takes) {
						w.takes.Store(int64(test.takes[runs]))
					}
				}
				r, err := x.Run(t.Context())
				if bench.Worst(r.Comparisons) != test.verdict {
					t.Errorf("%d runs: %+v", len(r.Runs), r.Comparisons)
				}
				if test.verdict != bench.Confirmed {
					if err != nil || len(r.Runs) > len(test.takes) {
						t.Errorf("%d runs, error %v", len(r.Runs), err)
					}
					return
				}
				wantFault(t, err, pipeline.GateFailed, "worse than --baseline "+file+" of ", "save them with --save-baseline")
				wantFault(t, err, pipeline.GateFailed, "as 5 runs in turn confirm: 1 at a time: pictures_per_second is 50", "")
			})
		})
	}
}

// Figures of another environment or load are refused before anything is sent.
func TestAnotherEnvironment(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*testing.T, *world, *trial.Request){
		"image: sha256:1 → sha256:2": func(t *testing.T, w *world, _ *trial.Request) {
			t.Helper()
			w.serve(t, owner.ServerFile{Container: "id", Run: "r1", Served: owner.Served{Lane: "cpu"}, Image: "sha256:2"})
		},
		"lane: cpu → gpu": func(t *testing.T, w *world, _ *trial.Request) {
			t.Helper()
			w.serve(t, owner.ServerFile{Container: "id", Run: "r1", Served: owner.Served{Lane: "gpu"}, Image: "sha256:1", GPUs: "H100"})
		},
		"pictures: sha256:": func(_ *testing.T, _ *world, r *trial.Request) { r.Sample = []byte("another") },
		"the baseline has no closed loop, 2 requests at a time": func(_ *testing.T, _ *world, r *trial.Request) {
			r.Concurrency = []int{1, 2}
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				file := filepath.Join(t.TempDir(), "b.json")
				save(t, w, file)
				sent := w.infers()
				x := w.trial()
				x.Request.Baseline = file
				change(t, w, &x.Request)
				r, err := x.Run(t.Context())
				wantFault(t, err, pipeline.Usage, want, "save one of this server and these loads with --save-baseline")
				if !r.Started.IsZero() || w.infers() != sent {
					t.Errorf("%d pictures were sent: %+v", w.infers()-sent, r)
				}
			})
		})
	}
}

// A regression that is no share is told of once there is something to compare.
func TestNoShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		file := filepath.Join(t.TempDir(), "b.json")
		save(t, w, file)
		x := w.trial()
		x.Request.Baseline, x.Request.MaxRegression = file, -1
		_, err := x.Run(t.Context())
		wantFault(t, err, pipeline.NotReady, "a regression of at most -1 is not 0 or more", "")
	})
}

// Requests that fail while others are answered are figures. A server that is gone at the end is the error, beside what
// was measured; no baseline is made of that.
func TestFailures(t *testing.T) {
	t.Parallel()
	refusal := &triton.Error{Message: "the stub is dead"}
	for name, test := range map[string]struct {
		during      func(*world)
		kind        pipeline.Kind
		words, hint string
		failed      bool
	}{
		"some fail": {
			during: func(w *world) {
				w.server.Intercept(func(_ context.Context, rpc, _ string) error {
					if rpc == "ModelInfer" {
						return refusal
					}
					return nil
				})
			},
			failed: true,
		},
		"the server is gone": {
			during: func(w *world) { w.server.Stop() },
			kind:   pipeline.NotReady, words: "the server does not answer any more: ", hint: "` mends it",
			failed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				dir := t.TempDir()
				x := w.trial()
				if test.kind != 0 {
					x.Request.Save = filepath.Join(dir, "b.json")
				}
				late := time.AfterFunc(700*time.Millisecond, func() { test.during(w) })
				defer late.Stop()
				r, err := x.Run(t.Context())
				if test.kind != 0 {
					wantFault(t, err, test.kind, test.words, test.hint)
				} else if err != nil {
					t.Error(err)
				}
				if len(r.Runs) != 1 || r.Runs[0][0].Answered == 0 || (r.Runs[0][0].Failed > 0) != test.failed || r.Interrupted {
					t.Errorf("%+v", r)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("%v is left: %v", left, err)
				}
			})
		})
	}
}

// A load without any answer is an error, beside the figures of all loads.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fail  func(context.Context) error
		words string
	}{
		"each fails": {
			func(context.Context) error { return errors.New("the stub is dead") },
			"no request was answered with closed loop, 1 request at a time, batch 1, 2 connections: ",
		},
		"none ends": {
			func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			},
			"no request was answered with closed loop, 1 request at a time, batch 1, 2 connections: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.server.Intercept(func(ctx context.Context, rpc, _ string) error {
					if rpc == "ModelInfer" {
						return test.fail(ctx)
					}
					return nil
				})
				r, err := w.trial().Run(t.Context())
				wantFault(t, err, pipeline.NotReady, test.words, "ask for less at a time, or give it longer with --timeout")
				if len(r.Runs) != 1 || r.Runs[0][0].Answered > 0 || r.Runs[0][0].WarmupFailed == "" {
					t.Errorf("%+v", r)
				}
				if !w.hasTold("warning: the warm-up failed, and the server may not have been warm: ") {
					t.Errorf("told %q", w.told)
				}
			})
		})
	}
}

// A picture that the server refuses as it is ends the bench before a load.
func TestRefusedPicture(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.server.Intercept(func(_ context.Context, rpc, _ string) error {
			if rpc == "ModelInfer" {
				return invalid()
			}
			return nil
		})
		r, err := w.trial().Run(t.Context())
		wantFault(t, err, pipeline.Usage, "no picture", "name other pictures, or with --model a model that takes them, as the_ensemble does")
		if len(r.Runs) > 0 {
			t.Errorf("%+v", r)
		}
	})
}

// Who interrupts gets what was measured until then, with what explains it, and no baseline of it.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	stopped := errors.New("stopped")
	for name, test := range map[string]struct {
		after time.Duration
		loads int
	}{
		"in the warm-up":     {5 * time.Millisecond, 1},
		"in the first load":  {500 * time.Millisecond, 1},
		"in the second load": {1500 * time.Millisecond, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.log, w.logFails = []string{"CNMEM_STATUS_OUT_OF_MEMORY"}, nil
				dir := t.TempDir()
				x := w.trial()
				x.Request.Concurrency, x.Request.Save = []int{1, 2}, filepath.Join(dir, "b.json")
				ctx, cancel := context.WithCancelCause(t.Context())
				defer time.AfterFunc(test.after, func() { cancel(stopped) }).Stop()
				r, err := x.Run(ctx)
				if !errors.Is(err, stopped) || !r.Interrupted || len(r.Runs) != 1 || len(r.Runs[0]) != test.loads {
					t.Fatalf("%+v, %v", r, err)
				}
				if last := r.Runs[0][test.loads-1]; !last.Interrupted || test.after > 100*time.Millisecond && last.Answered == 0 {
					t.Errorf("%+v", last)
				}
				if len(r.Findings) != 1 {
					t.Errorf("found: %q", r.Findings)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("%v is left: %v", left, err)
				}
			})
		})
	}
}

// A log that cannot be read costs what it would explain, and is told of.
func TestNoLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.logFails = errors.New("the engine is away")
		r, err := w.trial().Run(t.Context())
		if err != nil || len(r.Findings) > 0 || !w.hasTold("warning: what the server's log says of the figures is not known: the engine is away") {
			t.Errorf("%q, %v; told %q", r.Findings, err, w.told)
		}
	})
}

// A folder that went away while the server was loaded is told of, and no baseline is made of figures that are none.
func TestNotSaved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dir := t.TempDir()
		x := w.trial()
		x.Request.Save = filepath.Join(dir, "sub", "b.json")
		if err := os.Mkdir(filepath.Dir(x.Request.Save), 0o700); err != nil {
			t.Fatal(err)
		}
		runs := 0
		x.Notice = func(string) {
			if runs++; runs == bench.RunsToConfirm { // all is measured
				if err := os.RemoveAll(filepath.Dir(x.Request.Save)); err != nil {
					t.Error(err)
				}
			}
		}
		r, err := x.Run(t.Context())
		wantFault(t, err, pipeline.Environment, "save the baseline: ", "")
		if len(r.Runs) != bench.RunsToConfirm {
			t.Errorf("%d runs", len(r.Runs))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes.Store(int64(3 * time.Second)) // longer than the window
		x := w.trial()
		x.Request.Save = filepath.Join(t.TempDir(), "b.json")
		_, err := x.Run(t.Context())
		wantFault(t, err, pipeline.NotReady, "save the baseline: no request was answered in time with ", "or for longer with --duration")
		if _, err := os.Stat(x.Request.Save); err == nil {
			t.Error("it is there")
		}
	})
}

func invalid() error { return status.Error(codes.InvalidArgument, "no picture") }
