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

// TestCastONNX runs the tests of cast_onnx.py where it finds the real ONNX: in the local exporter image. AutoCast is in NVIDIA's alone.
func TestCastONNX(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	image := b.values(t, steps.IDExporterImage)["image"].Ref
	spec := container.Spec{
		Step: string(steps.IDCastONNX), Role: container.RoleBatch, Image: image, ReadOnly: true, Init: true, Tmpfs: map[string]int64{"/tmp": 64 << 20},
		Command: []string{"python3", "-B", "/tests/cast_onnx_test.py"}, Env: map[string]string{"PYTHONPATH": "/dalirun/python"},
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
