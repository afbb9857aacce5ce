package steps_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// What is stored takes room, whichever step makes it.
func TestBytesOfStoredResults(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		w := newWorld(t)
		for _, s := range w.list(steps.IDVerify) {
			_, stored := s.(pipeline.Builder)
			if _, elsewhere := s.(pipeline.Observer); stored && !elsewhere && steps.Bytes(w.target, s.ID()) == 0 {
				t.Errorf("%s: the result of %s is stored, and takes nothing: say how much in disk.go", name, s.ID())
			}
		}
	}
}

// A disk is full before a run ends if what its steps make is reckoned too small: the figures are those that were seen,
// and a user's own weights are as large as their file.
func TestBytes(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "own.pth")
	if err := os.WriteFile(own, make([]byte, 12_345), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := target.Target{Precision: release.FP32}
	half := target.Target{Precision: release.FP16}
	for _, tt := range []struct {
		t    target.Target
		id   pipeline.ID
		seen int64
	}{
		{seen, steps.IDWeights, 102_540_417},
		{seen, steps.IDExportONNX, 102_500_000},
		{seen, steps.IDCastONNX, 51_250_000},
		{seen, steps.IDBuildEngine, 103_590_182},
		{half, steps.IDBuildEngine, 52_701_748},
		{seen, steps.IDReference, 4 * (3*224*224 + 1000)},
		{seen, steps.IDSerializeDALI, 2918},
		{seen, steps.IDAssembleRepository, 100_000},
		{seen, steps.IDServe, 0},
	} {
		got := steps.Bytes(tt.t, tt.id)
		if got < tt.seen || tt.seen > 1e6 && float64(got) > 1.05*float64(tt.seen) {
			t.Errorf("%s in %s takes %d bytes, and is reckoned with %d", tt.id, tt.t.Precision, tt.seen, got)
		}
	}
	mine := target.Target{Weights: target.WeightsSource{Kind: target.File, Path: own}}
	if got := steps.Bytes(mine, steps.IDWeights); got != 12_345 {
		t.Errorf("own weights of 12345 bytes are reckoned with %d", got)
	}
	mine.Weights.Path += ".gone"
	if got := steps.Bytes(mine, steps.IDWeights); got < 100e6 {
		t.Errorf("own weights that are not there are reckoned with %d", got)
	}
}
