//go:build integration

package integration

import (
	"context"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestCastONNX runs the tests of cast_onnx.py where it finds the real ONNX: in the local exporter image. AutoCast is in NVIDIA's alone.
func TestCastONNX(t *testing.T) {
	t.Parallel()
	testPython(t, steps.IDExporterImage, "cast_onnx_test.py", nil)
}

// TestNetwork runs the tests of network.py where the real PyTorch is: in the local exporter image.
func TestNetwork(t *testing.T) {
	t.Parallel()
	testPython(t, steps.IDExporterImage, "network_test.py", nil)
}

// TestPicture runs the tests of picture.py where the real Pillow and libturbojpeg are: in the local exporter image.
func TestPicture(t *testing.T) {
	t.Parallel()
	testPython(t, steps.IDExporterImage, "picture_test.py", nil)
}

// TestBackendDALI runs the tests of backend_dali.py and decoder.py where the real DALI is: in the local server image.
func TestBackendDALI(t *testing.T) {
	t.Parallel()
	testPython(t, steps.IDServerImage, "backend_dali_test.py", map[string]string{"/pictures": brokenPictures, "/kinds": pictureKinds})
}

// testPython runs a program of tests.
func testPython(t *testing.T, image pipeline.ID, program string, folders map[string]string) {
	t.Helper()
	runPython(t, image, folders, program)
}

// runPython runs a program of integration/python, with its arguments, in an image of the first run, with folders by where it finds them, and
// returns its stdout.
func runPython(t *testing.T, image pipeline.ID, folders map[string]string, argv ...string) string {
	t.Helper()
	b := newBench(t)
	program := argv[0]
	spec := container.Spec{
		Step: program, Role: container.RoleBatch, Image: b.values(t, image)["image"].Ref, ReadOnly: true, Init: true, Tmpfs: map[string]int64{"/tmp": 1 << 30},
		Command: append([]string{"python3", "-B", "/tests/" + program}, argv[1:]...), Env: map[string]string{"PYTHONPATH": "/dalirun/python", "HOME": "/tmp", "USER": "dalirun"},
	}
	mounts := map[string]string{"/dalirun/python": "../assets/python", "/tests": "python"}
	maps.Copy(mounts, folders)
	for target, dir := range mounts {
		source, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		spec.Inputs = append(spec.Inputs, container.Mount{Source: source, Target: target})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, errs output
	c, err := b.runtime.Run(ctx, spec, container.Streams{Stdout: &out, Stderr: &errs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.runtime.Remove(context.WithoutCancel(ctx), c.ID()); err != nil {
			t.Error(err)
		}
	})
	if exit, err := c.Wait(ctx); err != nil || exit.Code != 0 {
		t.Errorf("%s exited with %+v, %v:\n%s%s", program, exit, err, &out, &errs)
	}
	return out.String()
}
