//go:build integration

package integration

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/steps"
)

// TestPython runs the tests of what runs in the exporter image where the real PyTorch and ONNX are: in the local one. AutoCast is in
// NVIDIA's alone.
func TestPython(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	image := b.values(t, steps.IDExporterImage)["image"].Ref
	tests, err := filepath.Glob("python/*_test.py")
	if err != nil || len(tests) == 0 {
		t.Fatalf("the tests are %q, %v", tests, err)
	}
	for _, file := range tests {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			runPython(t, b, image, "/tests/"+filepath.Base(file))
		})
	}
}

func runPython(t *testing.T, b *bench, image, file string) {
	t.Helper()
	spec := container.Spec{
		Step: string(steps.IDExportONNX), Role: container.RoleBatch, Image: image, ReadOnly: true, Init: true, Tmpfs: map[string]int64{"/tmp": 512 << 20},
		Command: []string{"python3", "-B", file}, Env: map[string]string{"PYTHONPATH": "/dalirun/python", "HOME": "/tmp", "USER": "dalirun"},
	}
	for target, dir := range map[string]string{"/dalirun/python": "../assets/python", "/tests": "python"} {
		source, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		spec.Inputs = append(spec.Inputs, container.Mount{Source: source, Target: target})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var said output
	c, err := b.runtime.Run(ctx, spec, container.Streams{Stdout: &said, Stderr: &said})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.runtime.Remove(context.WithoutCancel(ctx), c.ID()); err != nil {
			t.Error(err)
		}
	})
	if exit, err := c.Wait(ctx); err != nil || exit.Code != 0 {
		t.Errorf("it exited with %+v, %v:\n%s", exit, err, &said)
	}
}
