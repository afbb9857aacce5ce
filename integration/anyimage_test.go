//go:build integration

package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// The environment of images that no table knows: a server with TensorRT 10.6 and DALI 2.4, and something with PyTorch.
var (
	serverOfAny   = []string{"TRT_VERSION=10.6.0.26", "CUDA_VERSION=12.6.3.004", "DALI_VERSION=2.4.0"}
	exporterOfAny = []string{"NVIDIA_PYTORCH_VERSION=custom", "TRT_VERSION=10.7.0.23", "CUDA_VERSION=12.6.3.004", "DALI_VERSION=1.44.0"}
)

// TestAnyImage: a server image under any registry, prefix, name and tag works by what its environment says. It has trtexec in
// /usr/src/tensorrt/bin, DALI's Python aside and tritonserver on its PATH.
//
//nolint:paralleltest // the methods are parallel
func TestAnyImage(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	t.Run("registry and release", l.testAnyRegistry)
	t.Run("named images", l.testNamedImages)
	t.Run("by ID", l.testImageID)
	t.Run("another release's server", l.testNamedServer)
}

func (l lane) testAnyRegistry(t *testing.T) {
	t.Parallel()
	const registry = stubRegistry + ":5000/team-7/mirror_of/ngc" // of a release whose TensorRT is 11: what the image says is what counts
	l.stubs.pytorch(t, pytorchRef(registry, "26.10"), exporterOfAny...)
	l.stubs.served(t, tritonRef(registry, "26.10"), serverOfAny...)
	out, r := l.e2e(t, l.opts(t), 0, flags(registry, "26.10")...)
	out.checkAny(t, r)
	if out.Release != "26.10" {
		t.Errorf("it is stamped with release %q", out.Release)
	}
}

func (l lane) testNamedImages(t *testing.T) {
	t.Parallel()
	const server, exporter = stubRegistry + "/odd__place/serving:Prod_2026.11-rc.1", "odd/train:latest"
	l.stubs.pytorch(t, exporter, exporterOfAny...)
	l.stubs.served(t, server, serverOfAny...)
	o := l.opts(t)
	named := []string{"--accel", "gpu", "--server-image", server, "--exporter-image", exporter, "--weights", "random:0"}
	plan := mustRun(t, 0, l.engine, o, append([]string{"plan"}, named...)...).Stdout
	for _, want := range []string{
		exporter + " ", "container engine: TensorRT 10.7.0.23, CUDA 12.6.3.004, DALI 1.44.0",
		server + " ", "container engine: TensorRT 10.6.0.26, CUDA 12.6.3.004, DALI 2.4.0", "fits",
	} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan does not say %q:\n%s", want, plan)
		}
	}
	out, r := l.e2e(t, o, 0, named...)
	out.checkAny(t, r)
	if out.Release != "" {
		t.Errorf("images that name no release are stamped with release %q", out.Release)
	}
	warm, r := l.e2e(t, o, 0, named...)
	want := every(pipeline.Cached)
	want[steps.IDServe], want[steps.IDVerify] = pipeline.Done, pipeline.Done
	if diff := cmp.Diff(want, warm.states()); diff != "" {
		t.Errorf("the steps of a second run (-want +got):\n%s\n%s", diff, r.Stderr)
	}
}

// testImageID names the server by its ID, as an image of no registry is named for good: it has no digest there.
func (l lane) testImageID(t *testing.T) {
	t.Parallel()
	const server, exporter = stubRegistry + "/by-id/serving:1", stubRegistry + "/by-id/train:1"
	l.stubs.pytorch(t, exporter, exporterOfAny...)
	l.stubs.served(t, server, serverOfAny...)
	image, err := l.engine.client(t).ImageInspect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	out, r := l.e2e(t, l.opts(t), 0, "--accel", "gpu", "--server-image", image.ID, "--exporter-image", exporter, "--weights", "random:0")
	out.checkAny(t, r)
}

// testNamedServer names a server that says of which release it is: the exporter is that release's.
func (l lane) testNamedServer(t *testing.T) {
	t.Parallel()
	const server = stubRegistry + "/mine/patched:1"
	l.stubs.triton(t, server, append(slices.Clone(triton2503), "MINE=1")...)
	out, _ := l.e2e(t, l.opts(t), 0, "--accel", "gpu", "--registry", stubRegistry, "--server-image", server, "--weights", "random:0")
	if out.Release != "25.03" || out.record(t, steps.IDServe).Env["MINE"] != "1" || out.record(t, steps.IDExportONNX).Env["NVIDIA_PYTORCH_VERSION"] != "25.03" {
		t.Errorf("release %q, server %v", out.Release, out.record(t, steps.IDServe).Env)
	}
}

// checkAny checks that a run used what the server image has.
func (o outcome) checkAny(t *testing.T, r result) {
	t.Helper()
	if o.Verdict != report.Passed {
		t.Fatalf("it is %s:\n%s", o.Verdict, r.Stderr)
	}
	if _, cast := o.states()[steps.IDCastONNX]; cast {
		t.Error("the model was cast, as TensorRT 11 needs it")
	}
	if o.Engine == nil || o.Engine.TensorRT != "10.6.0.26" {
		t.Errorf("the engine is %+v", o.Engine)
	}
	build := o.record(t, steps.IDBuildEngine)
	if diff := cmp.Diff(trtexecArgs(64), build.Args); diff != "" {
		t.Errorf("trtexec's arguments (-want +got):\n%s", diff)
	}
	if got := build.Env["TRT_VERSION"]; got != "10.6.0.26" {
		t.Errorf("it was built by TensorRT %s", got)
	}
	dali := o.record(t, steps.IDSerializeDALI)
	if dali.Env["PYTHONPATH"] != "/opt/tritonserver/backends/dali/wheel/dali" || dali.Env["DALI_VERSION"] != "2.4.0" {
		t.Errorf("it was serialized with PYTHONPATH=%s, DALI %s", dali.Env["PYTHONPATH"], dali.Env["DALI_VERSION"])
	}
	serve := o.record(t, steps.IDServe)
	if diff := cmp.Diff([]string{"/srv/bin/tritonserver", "--model-repository=/models", "--model-control-mode=explicit"}, withoutPools(t, serve.Args)); diff != "" || serve.Env["TRT_VERSION"] != "10.6.0.26" {
		t.Errorf("TensorRT %s serves with the arguments (-want +got):\n%s", serve.Env["TRT_VERSION"], diff)
	}
}
