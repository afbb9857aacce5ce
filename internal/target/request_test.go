package target_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// What no machine could make right is refused before any is asked, by the name under which it was written.
func TestCheck(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*target.Request){
		"": func(*target.Request) {},
		"DALIRUN_OPT_BATCH=64 is larger than --max-batch 8": func(r *target.Request) {
			r.OptBatch, r.MaxBatch = 64, 8
			r.Settings = target.Settings{{Flag: "opt-batch", Value: "64", From: "DALIRUN_OPT_BATCH"}}
		},
		"serving: preferred-batch=64 in dalirun.yaml:3 is larger than --max-batch 8": func(r *target.Request) {
			r.Serving.PreferredBatch, r.MaxBatch = 64, 8
			r.Settings = target.Settings{{Flag: "serving", Value: "preferred-batch=64", From: "dalirun.yaml:3"}}
		},
		"require-gpu: true in dalirun.yaml:2 and --accel cpu exclude each other": func(r *target.Request) {
			r.RequireGPU, r.Accel = true, "cpu"
			r.Settings = target.Settings{
				{Flag: "require-gpu", Value: "true", From: "dalirun.yaml:2", Switch: true}, {Flag: "accel", Value: "cpu"},
			}
		},
		"--images local is not offered on the gpu lane": func(r *target.Request) { r.Accel, r.Images = "gpu", "local" },
		"--gpus all and --accel cpu exclude each other": func(r *target.Request) {
			r.Accel = "cpu"
			r.Settings = target.Settings{{Flag: "gpus", Value: "all"}, {Flag: "accel", Value: "cpu"}}
		},
		"--ready-timeout 0s is out of range":           func(r *target.Request) { r.ReadyTimeout = 0 },
		"--release: ":                                  func(r *target.Request) { r.Release = "25.13" },
		`--registry: "" is not of the form`:            func(r *target.Request) { r.Registry = "" },
		`--registry: "mirror/ngc" begins with no host`: func(r *target.Request) { r.Registry = "mirror/ngc" },
		"--registry: what stands before @ in it":       func(r *target.Request) { r.Registry = "https://bob:hunter2/x@registry.example" },
		"--server-image: what stands before @ in it": func(r *target.Request) {
			r.ServerImage = "bob:hunter2@registry.example/x@sha256:" + strings.Repeat("a", 64)
		},
		`--base-image: "A b" is no image reference`:    func(r *target.Request) { r.BaseImage = "A b" },
		"--http-port and --metrics-port are both 9000": func(r *target.Request) { r.HTTPPort, r.MetricsPort = 9000, 9000 },
	} {
		r := request("e2e")
		change(&r)
		err := r.Check()
		if want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		fault, ok := errors.AsType[*pipeline.Fault](err)
		if !ok || fault.Kind != pipeline.Usage || fault.Hint == "" || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want %q with a hint", err, want)
		}
	}
}

// A setting is shown as it was written.
func TestSettings(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]target.Setting{
		"--gpus all":                  {Flag: "gpus", Value: "all"},
		"--require-gpu":               {Flag: "require-gpu", Value: "true", Switch: true},
		"--model_name a":              {Flag: "model", Value: "a", From: "--model_name"},
		"DALIRUN_GPUS=all":            {Flag: "gpus", Value: "all", From: "DALIRUN_GPUS"},
		"gpus: all in dalirun.yaml:3": {Flag: "gpus", Value: "all", From: "dalirun.yaml:3"},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	of := target.Settings{{Flag: "gpus", Value: "all", From: "dalirun.yaml:3"}}
	if !of.Named("gpus") || of.Named("accel") || of.Origin("gpus") != "dalirun.yaml:3: gpus" || of.Origin("accel") != "--accel" {
		t.Errorf("%q and %q", of.Origin("gpus"), of.Origin("accel"))
	}
}

// The GPUs of a target are asked for anew, but for those of a container engine on another host.
func TestChosenGPUs(t *testing.T) {
	t.Parallel()
	all := container.GPUs{Count: container.AllGPUs}
	m := withGPUs(h100(), h100())
	if chosen, err := target.ChosenGPUs(t.Context(), m.probes(), all); err != nil || cmp.Diff(m.gpus.Devices, chosen) != "" {
		t.Errorf("%+v, %v", chosen, err)
	}
	m.remote = true
	if chosen, err := target.ChosenGPUs(t.Context(), m.probes(), all); err != nil || chosen != nil {
		t.Errorf("of an engine elsewhere: %+v, %v", chosen, err)
	}
	if _, err := target.ChosenGPUs(t.Context(), noGPU().probes(), all); err == nil {
		t.Error("no GPU is no error")
	}
}

// What weights and devices are called.
func TestNames(t *testing.T) {
	t.Parallel()
	for want, weights := range map[string]target.WeightsSource{
		"pretrained IMAGENET1K_V2": {Kind: target.Pretrained, Remote: target.Remote{Name: "IMAGENET1K_V2"}}, "random:7": {Kind: target.Random, Seed: 7},
		"/w.pth": {Kind: target.File, Path: "/w.pth"},
	} {
		if got := weights.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, d := range map[string]target.Device{"H100": {Name: "H100", Location: "GPU 0"}, "GPU 0": {Location: "GPU 0"}} {
		if got := d.Key(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
