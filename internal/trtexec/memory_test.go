package trtexec_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/trtexec"
	"github.com/dalirun/dalirun/pipeline"
)

const mib = 1 << 20

// TestCheckMemory checks what is refused before a build is begun. The figures are those of the H100's logs: 526 + 1,292 MiB before the model is
// read, and 1,053,296,128 bytes of activations for 256 pictures in fp16.
func TestCheckMemory(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		precision release.Precision
		batch     int
		free      int64 // MiB of 16,384; negative where it is not known
		want      string
		hint      string
	}{
		"fp16":             {"fp16", 256, 2823, "", ""},
		"fp16, too little": {"fp16", 256, 2822, "2.756 GiB of 16 GiB are free, and an engine for batches of up to 256 needs 2.757 GiB at least to be built", "--max-batch 145, which fits"},
		"fp32":             {"fp32", 256, 3828, "", ""},
		"fp32, too little": {"fp32", 256, 3827, "3.737 GiB of 16 GiB are free", "--max-batch 145, which fits"},
		"one picture":      {"fp16", 1, 1823, "", ""},
		"few pictures":     {"fp16", 256, 1823, "1.78 GiB of 16 GiB are free", "--max-batch 1, which fits"},
		"none":             {"fp16", 256, 1000, "1000 MiB of 16 GiB are free", "--gpus device=1"},
		"none, fp32":       {"fp32", 1, 1820, "needs 1.783 GiB at least", "--gpus device=1"},
		"not known":        {"fp16", 256, -1, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gpu := trtexec.GPUMemory{Free: tt.free * mib, Total: 16384 * mib}
			if tt.free < 0 {
				gpu = trtexec.GPUMemory{}
			}
			err := trtexec.CheckMemory(tt.precision, tt.batch, gpu)
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			f, ok := errors.AsType[*pipeline.Fault](err)
			if !ok || f.Kind != pipeline.Environment || !strings.Contains(f.Error(), tt.want) || !strings.HasSuffix(f.Hint, tt.hint) {
				t.Errorf("got %v, want %q with the hint %q", err, tt.want, tt.hint)
			}
		})
	}
}

// TestBuildMemory checks that what a build needs grows with its batch and its precision, in whole MiB, and that all of it is what doctor names.
func TestBuildMemory(t *testing.T) {
	t.Parallel()
	least, all := trtexec.BuildMemory("fp16", 256)
	if least != 2823*mib || all != 3583*mib {
		t.Errorf("256 pictures in fp16 need %d and %d MiB", least/mib, all/mib)
	}
	for batch := 1; batch <= 256; batch++ {
		half, halfAll := trtexec.BuildMemory("fp16", batch)
		full, fullAll := trtexec.BuildMemory("fp32", batch)
		twice, twiceAll := trtexec.BuildMemory("fp16", 2*batch)
		if half > halfAll || half >= full || full != twice || fullAll != twiceAll || half%mib != 0 || halfAll%mib != 0 {
			t.Errorf("%d pictures: fp16 %d to %d, fp32 %d to %d", batch, half, halfAll, full, fullAll)
		}
	}
}

// TestExplainOutOfMemory checks what is added to the fault of a build that ran out of memory.
func TestExplainOutOfMemory(t *testing.T) {
	t.Parallel()
	errBuild := errors.New("the GPU has too little free memory")
	for name, tt := range map[string]struct {
		gpu        trtexec.GPUMemory
		text, hint string
	}{
		"it did not fit": {trtexec.GPUMemory{Free: 3000 * mib, Total: 81079 * mib}, "the GPU has too little free memory: 2.93 GiB of 79.18 GiB were free when the build began", "--max-batch 128, which may fit"},
		"not known":      {trtexec.GPUMemory{}, "the GPU has too little free memory", "as it was"},
	} {
		f := &pipeline.Fault{Kind: pipeline.ContainerFailed, Err: errBuild, Hint: "as it was"}
		trtexec.ExplainOutOfMemory(f, "fp16", 256, tt.gpu)
		if f.Error() != tt.text || !strings.HasSuffix(f.Hint, tt.hint) || !errors.Is(f, trtexec.ErrGPUMemory) || !errors.Is(f, errBuild) {
			t.Errorf("%s: got %q with the hint %q", name, f, f.Hint)
		}
	}
}
