package steps_test

import (
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestWithoutNVML checks that the steps that run DALI on a GPU keep it from using NVML, which fails on WSL 2.
func TestWithoutNVML(t *testing.T) {
	t.Parallel()
	const name = "DALI_DISABLE_NVML"
	tests := map[string]struct {
		world  func(*testing.T) *world
		noNVML bool
		want   []pipeline.ID
	}{
		"gpu lane on WSL 2": {gpuNGC, true, []pipeline.ID{steps.IDSerializeDALI, steps.IDServe}},
		"gpu lane":          {gpuNGC, false, nil},
		"cpu lane on WSL 2": {cpuNGC, true, nil},
	}
	for test, tt := range tests {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			w := tt.world(t)
			w.target.NoNVML = tt.noNVML
			want := map[string]bool{}
			for _, id := range tt.want {
				want[string(id)] = true
			}
			var without int
			for _, spec := range specs(t, w) {
				if got := spec.Env[name] == "1"; got != want[spec.Step] {
					t.Errorf("%s has the environment %v", spec.Step, spec.Env)
				} else if got {
					without++
				}
			}
			if without != len(want) {
				t.Errorf("%d steps disable NVML, want %v", without, tt.want)
			}
			// The environment that a step sets is a fact of what it makes.
			if got := w.facts(t, steps.IDSerializeDALI)["env "+name]; (got == "1") != want[string(steps.IDSerializeDALI)] {
				t.Errorf("serialize-dali has the fact %q", got)
			}
		})
	}
}

// TestNVMLGolden holds what a container with DALI is asked for on WSL 2.
func TestNVMLGolden(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	w.target.NoNVML = true
	recorded := map[string]container.Spec{}
	for _, spec := range specs(t, w) {
		recorded[spec.Step] = spec
	}
	for _, id := range []pipeline.ID{steps.IDSerializeDALI, steps.IDServe} {
		golden(t, "gpu-ngc-wsl2/"+string(id)+".spec.json", w.stable(t, recorded[string(id)]))
	}
}
