package steps_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestCast checks the cast for a TensorRT that needs it: what runs where, what the engine is built from, and what is told if it fails.
func TestCast(t *testing.T) {
	t.Parallel()
	w := tensorRT11(t)
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Fatal(err)
	}
	for _, spec := range w.fake.Specs() {
		switch pipeline.ID(spec.Step) {
		case steps.IDCastONNX:
			if spec.Image != w.target.Release.ExporterRef("") || !spec.GPUs.IsZero() {
				t.Errorf("it is cast in %s with the GPUs %q", spec.Image, spec.GPUs)
			}
		case steps.IDBuildEngine:
			host, _, err := containertest.HostPath(spec, "/in/model.onnx")
			if err != nil || host != filepath.Join(w.dir, "cast-onnx", "model.onnx") || slices.Contains(spec.Command, "--fp16") {
				t.Errorf("the engine is built from %s, %v, by %v", host, err, spec.Command)
			}
		}
	}
	facts := w.facts(t, steps.IDCastONNX)
	for _, name := range []string{"argv", "cast_onnx.py", "program.py"} {
		if facts[name] == "" {
			t.Errorf("%s is no fact: %v", name, facts)
		}
	}
	const reason = "this image cannot cast to fp16: it has no AutoCast"
	w.instead(steps.IDCastONNX, prints(2, "error: "+reason))
	if f := fault(t, w.run(t, t.Context(), steps.IDCastONNX), pipeline.ContainerFailed); f.Error() != "cast_onnx.py: "+reason {
		t.Errorf("got %q", f)
	}
	w.wantNoContainer(t)
}

// TestCastIsListed checks that the step is there where the release's TensorRT needs it, and nowhere else.
func TestCastIsListed(t *testing.T) {
	t.Parallel()
	listed := func(w *world) bool {
		return slices.ContainsFunc(w.list(steps.IDVerify), func(s pipeline.Step) bool { return s.ID() == steps.IDCastONNX })
	}
	tests := map[string]struct {
		change func(*world)
		want   bool
	}{
		"TensorRT 11":         {func(*world) {}, true},
		"TensorRT 11, fp32":   {func(w *world) { w.target.Precision = "fp32" }, false},
		"TensorRT 10.16":      {func(w *world) { w.target.Release.TensorRT = "10.16.1.11" }, false},
		"newer than is known": {func(w *world) { w.target.Release.TensorRT = "12.0" }, true},
		"not known":           {func(w *world) { w.target.Release.TensorRT = "" }, false},
		"cpu lane":            {func(w *world) { w.target.Lane = target.CPU }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tensorRT11(t)
			tt.change(w)
			if got := listed(w); got != tt.want {
				t.Errorf("it is listed: %t", got)
			}
		})
	}
	// The image overrules the table: an older TensorRT builds what was cast with its own flag.
	w := tensorRT11(t)
	w.fake.AddRemote(w.target.Release.ServerRef(""), w.image("server", "10.16.1.11"))
	if argv := w.facts(t, steps.IDBuildEngine)["argv"]; !strings.Contains(argv, "--fp16") {
		t.Errorf("it is built by %s", argv)
	}
	if err := w.run(t, t.Context(), steps.IDBuildEngine); err != nil {
		t.Error(err)
	}
}

// TestCastHangs checks that an interrupted cast leaves no container.
func TestCastHangs(t *testing.T) {
	t.Parallel()
	w := tensorRT11(t)
	w.make(t, steps.IDCastONNX)
	begun := make(chan struct{})
	w.instead(steps.IDCastONNX, hangs(begun))
	errStopped := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-begun
		cancel(errStopped)
	}()
	if err := w.run(t, ctx, steps.IDCastONNX); !errors.Is(err, errStopped) {
		t.Errorf("got %v", err)
	}
	w.wantNoContainer(t)
}
