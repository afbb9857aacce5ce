//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
)

// podmanVariable names the address of the Podman that scripts/podman.sh has started.
const podmanVariable = "DALIRUN_PODMAN_HOST"

// TestPodman is e2e on Podman. The images of the other container engine are copied into it: to build them takes it more
// than two minutes on two cores, and that it builds is in the adapter's contract.
func TestPodman(t *testing.T) {
	t.Parallel()
	host := os.Getenv(podmanVariable)
	if host == "" {
		needtest.Missing(t, "%s names no Podman; scripts/podman.sh starts one", podmanVariable)
	}
	c := cpuLane(t)
	// A cache of its own, or the steps would take what the first run made.
	podman := cpu{engine: engine{Host: host}, cache: filepath.Join(t.TempDir(), "cache")}
	copyLocalImages(t, c, podman)

	o := opts{Dir: t.TempDir()}
	if r := mustRun(t, 0, podman.engine, o, podman.args("doctor")...); !strings.Contains(r.Stdout, "Podman Engine ") {
		t.Errorf("doctor does not see that it is Podman:\n%s", r.Stdout)
	}
	r := readReport(t, mustRun(t, 0, podman.engine, o, podman.args("e2e", "--format", "json")...).Stdout)
	if r.Verdict != report.Passed || r.ExitCode != 0 || r.Lane != "cpu" || r.ImageSource != "local" {
		t.Errorf("verdict %s, exit code %d, lane %s, images %s", r.Verdict, r.ExitCode, r.Lane, r.ImageSource)
	}
	checkFindings(t, r)
	for _, s := range r.Steps {
		if s.State != pipeline.Done {
			t.Errorf("step %s: %s: %v", s.ID, s.State, s.Because)
		}
	}
	// The same programs of the same images on the same processor: what runs them makes no difference.
	first := readReport(t, c.first.Stdout)
	for _, name := range []string{
		"weights/weights.pth", "export-onnx/model.onnx", "serialize-dali/model.dali", "assemble-repository/model_repository",
		"reference/tensor.f32", "reference/logits.f32",
	} {
		if r.Digests[name] != first.Digests[name] { // checkFindings has looked whether there are any
			t.Errorf("%s is %s on Podman, and %s elsewhere", name, r.Digests[name], first.Digests[name])
		}
	}
	podman.checkNoContainer(t, o.Dir)
}

// copyLocalImages copies to another container engine the images of the CPU lane that it lacks, and their base.
func copyLocalImages(t *testing.T, from, to cpu) {
	t.Helper()
	plan := mustRun(t, 0, to.engine, opts{}, to.args("plan")...).Stdout
	images := append(regexp.MustCompile(`dalirun/(?:exporter|server):[0-9a-f]+`).FindAllString(plan, -1), from.base(t))
	archive, err := from.engine.client(t).ImageSave(t.Context(), images)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close() //nolint:errcheck // it was read
	loaded, err := to.engine.client(t).ImageLoad(t.Context(), archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Body.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("copied %q", images)
}
