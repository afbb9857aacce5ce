//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// says fails the test unless the error output has each of the texts.
func (r result) says(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.Stderr, text) {
			t.Errorf("it does not say %q:\n%s", text, r.Stderr)
		}
	}
}

func (l lane) testNoGPU(t *testing.T) {
	t.Parallel()
	broken := t.TempDir()
	script := "#!/bin/sh\necho \"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\"\nexit 9\n"
	if err := os.WriteFile(filepath.Join(broken, "nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	// Nothing of this registry is here, and nothing of it must be asked for.
	args := append([]string{"e2e"}, flags(stubRegistry+"/none", "25.03")...)
	for name, test := range map[string]struct {
		opts
		want string
	}{
		"none":   {opts{Env: []string{"PATH=" + t.TempDir()}}, "nvidia-smi is not on PATH"},
		"broken": {opts{Path: []string{broken}}, "nvidia-smi says: NVIDIA-SMI has failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.Dir = t.TempDir()
			r := mustRun(t, 3, l.engine, test.opts, args...)
			r.says(t, "no usable NVIDIA GPU", test.want, "--accel cpu")
			if strings.Contains(r.Stderr, stubRegistry) {
				t.Errorf("images were asked for:\n%s", r.Stderr)
			}
			if r.Duration > 2*time.Second {
				t.Errorf("it took %s", r.Duration)
			}
		})
	}
}

func (l lane) testNoImage(t *testing.T) {
	t.Parallel()
	o := l.opts(t)
	registry := stubRegistry + "/none"
	out, r := l.e2e(t, o, 3, flags(registry, "25.03")...)
	r.says(t, "pull "+registry+"/nvidia/", "25.03-py3", "--registry")
	for _, id := range []pipeline.ID{steps.IDWeights, steps.IDExportONNX, steps.IDBuildEngine, steps.IDSerializeDALI, steps.IDServe, steps.IDReference} {
		if log := out.log(t, id); log != "" {
			t.Errorf("%s ran:\n%s", id, log)
		}
	}
	entries, err := filepath.Glob(filepath.Join(o.Dir, ".cache", "dalirun", "entries", "*"))
	if err != nil || len(entries) > 0 {
		t.Errorf("the cache has %v, %v", entries, err)
	}
}

// testStepFails has the containers of single steps fail as the real tools do.
func (l lane) testStepFails(t *testing.T) {
	t.Parallel()
	for fail, test := range map[string]struct {
		says   []string // beside what every failure says
		exit   int
		repeat bool // the program failed, and not what it left
	}{
		"oom":      {[]string{"Cuda failure: out of memory", "trtexec exited with status 1: the GPU has too little free memory", "--max-batch"}, 4, true},
		"bad-onnx": {[]string{"Failed to parse ONNX model from file: /in/model.onnx", "status 1: trtexec cannot read the ONNX model", "--force export-onnx"}, 4, true},
		"unsaved":  {[]string{"trtexec could not write the engine's file", "Saving engine to file failed"}, 4, true},
		"other-gpu": {[]string{
			`the engine was built on another GPU than was asked for: --gpus "all" is NVIDIA H100 80GB HBM3, GPU-b2b10123-43d8-7094-32ab-39106cb54c35, ` +
				"and trtexec took NVIDIA H100 80GB HBM3, GPU-c3c10123-43d8-7094-32ab-39106cb54c35", "--gpus device=UUID",
		}, 3, true},
		"other-model": {[]string{"another GPU than was asked for", "and trtexec took NVIDIA L4, GPU-b2b10123-"}, 3, true},
		"disk-full":   {[]string{"trtexec exited with status 1: the disk is full", "last output:", "--cache-dir"}, 3, false},
	} {
		t.Run(fail, func(t *testing.T) {
			t.Parallel()
			o := l.opts(t)
			out, r := l.e2e(t, o, test.exit, flags(l.variant(t, fail), "25.03", "--cache-dir", l.cache)...)
			r.says(t, append(test.says, "build-engine failed after", "full log: "+filepath.Join(out.dir, "build-engine.log"))...)
			if test.repeat {
				r.says(t, "last output:", "repeat it by hand, until the next run: docker run --rm", "--gpus=all", "/in/model.onnx", "trtexec --onnx=")
				if step := out.step(t, steps.IDBuildEngine); len(step.LastOutput) < 5 {
					t.Errorf("the report has %d last lines of %s", len(step.LastOutput), step.ID)
				}
			}
			states := out.states()
			if states[steps.IDBuildEngine] != pipeline.Failed || states[steps.IDServe] != pipeline.Skipped || states[steps.IDVerify] != pipeline.Skipped {
				t.Errorf("the steps ended as %v", states)
			}
			again, _ := l.e2e(t, o, test.exit, flags(stubRegistry+"/"+fail, "25.03", "--cache-dir", l.cache)...)
			if again.states()[steps.IDBuildEngine] != pipeline.Failed {
				t.Errorf("run again it ended as %v: a failed build was kept", again.states())
			}
		})
	}
}

// testNotReady has a server that does not become ready.
func (l lane) testNotReady(t *testing.T) {
	t.Parallel()
	for fail, test := range map[string]struct {
		args []string
		says []string
	}{
		"unreadable-plan": {nil, []string{"model resnet50_trt: ", "unable to load plan file to auto complete config: /models/resnet50_trt/1/model.plan: the engine's file is cut short", "--force build-engine"}},
		"hang":            {[]string{"--ready-timeout", "1s"}, []string{"model resnet50_trt is still loading after 1s", "resnet50_trt: LOADING", "give it more time by --ready-timeout"}},
	} {
		t.Run(fail, func(t *testing.T) {
			t.Parallel()
			args := append(flags(l.variant(t, fail), "25.03", "--cache-dir", l.cache), test.args...)
			out, r := l.e2e(t, l.opts(t), 5, args...)
			r.says(t, append(slices.Clone(test.says), "serve failed after", "full log: "+filepath.Join(out.dir, "serve.log"))...)
			if step := out.step(t, steps.IDServe); step.Seconds > 5 {
				t.Errorf("it took %.1f s to say so", step.Seconds)
			}
		})
	}
}

// testWrongAnswer serves an engine that was built from other weights than the reference's.
func (l lane) testWrongAnswer(t *testing.T) {
	t.Parallel()
	out, r := l.e2e(t, l.opts(t), 6, flags(l.variant(t, "other-weights"), "25.03", "--cache-dir", l.cache)...)
	r.says(t, "model is off", "ensemble is off")
	if strings.Contains(r.Stderr, "preprocessing is off") {
		t.Errorf("DALI did what it should, but:\n%s", r.Stderr)
	}
	if c := out.Parity.Comparisons; len(c) != 3 || !c[0].OK || c[1].OK || c[2].OK {
		t.Errorf("the comparisons are %+v", c)
	}
}
