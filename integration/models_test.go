//go:build integration

package integration

import (
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/report"
)

// TestOtherModel builds, serves and verifies another model than the default one, whose pictures keep their shape: of one
// with odd sides the real DALI and the real Pillow show the same pixels. Who asks need not know which model it is.
func TestOtherModel(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	c.cache = filepath.Join(t.TempDir(), "cache") // other tests look for the only result of a step in theirs
	const ensemble = "ensemble_dali_densenet121"
	o := c.detached(t, append(ownPorts(t), "--model", "densenet121")...)
	r := mustRun(t, 0, c.engine, o, "classify", "--format", "json", write(t, o.Dir, "coffee.jpg", sample(t)))
	var answers []classify.Record
	if err := json.Unmarshal([]byte(r.Stdout), &answers); err != nil || len(answers) != 1 || answers[0].Model != ensemble || len(answers[0].Classes) == 0 {
		t.Errorf("%v\n%s", err, r.Stdout)
	}
	for _, want := range []string{"healthy", ensemble, "densenet121_onnx"} {
		if r := mustRun(t, 0, c.engine, o, "status"); !strings.Contains(r.Stdout, want) {
			t.Errorf("status does not say %s:\n%s", want, r.Stdout)
		}
	}
	if r := mustRun(t, 0, c.engine, o, "ps"); !strings.Contains(r.Stdout, "healthy") {
		t.Error(r.Stdout)
	}
	mustRun(t, 0, c.engine, o, "stop")

	e := opts{Dir: t.TempDir()}
	for _, size := range []image.Point{{341, 257}, {333, 501}} {
		got := readReport(t, mustRun(t, 0, c.engine, e, c.args("e2e", "--model", "densenet121", "--image", gradient(t, size), "--format", "json")...).Stdout)
		if got.Verdict != report.Passed || len(got.Parity.Comparisons) != 3 || got.Parity.Comparisons[0].Figures.MeanAbs > 0.004 {
			t.Errorf("%v: %+v", size, got.Parity)
		}
	}
}

// gradient is a picture of a size whose pixels are all others' neighbours: what is moved by one is seen.
func gradient(t *testing.T, size image.Point) string {
	t.Helper()
	picture := image.NewRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			picture.Set(x, y, color.RGBA{uint8(x * 7), uint8(y * 5), uint8(x ^ y), 255})
		}
	}
	name := filepath.Join(t.TempDir(), "gradient.png")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, picture); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}
