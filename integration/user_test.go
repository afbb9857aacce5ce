//go:build integration

package integration

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestOrdinaryUser runs the CPU lane, every container of it but that of the weights, as somebody who may talk to the
// engine and is nobody else.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	first := cpuLane(t)
	u := ordinary(t, first.engine)
	c := first.withOwnCache(t, &u)
	o := opts{Dir: u.folder(t), User: &u}
	force := []string{"--force", "export-onnx,serialize-dali,assemble-repository,reference"}
	r := mustRun(t, 0, c.engine, o, append(c.args("e2e", "--format", "json"), force...)...)
	report := readReport(t, r.Stdout)
	checkFindings(t, report)
	for _, s := range report.Steps {
		if made := s.State == pipeline.Done; made == (s.ID == steps.IDWeights) && !strings.HasSuffix(string(s.ID), "-image") {
			t.Errorf("%s is %s", s.ID, s.State)
		}
	}
	mustRun(t, 0, c.engine, o, c.args("serve", "--detach")...)
	mustRun(t, 0, c.engine, o, "classify", write(t, o.Dir, "coffee.jpg", sample(t)))
	mustRun(t, 0, c.engine, o, "stop")
	remove(t, filepath.Join(o.Dir, "coffee.jpg")) // it is the test's
	if foreign := append(u.foreign(t, o.Dir), u.foreign(t, c.cache)...); len(foreign) > 0 {
		t.Errorf("not the user's: %v", foreign)
	}
	c.checkNoContainer(t, o.Dir)
	soundCache(t, c.cache)
	sameAnswers(t, readReport(t, first.first.Stdout), report)
}

// sameAnswers fails the test if two runs on one picture with the same weights differ in what they made.
func sameAnswers(t *testing.T, a, b report.Report) {
	t.Helper()
	for _, name := range []string{"export-onnx/model.onnx", "serialize-dali/model.dali", "assemble-repository/model_repository", "reference/tensor.f32"} {
		if a.Digests[name] != b.Digests[name] {
			t.Errorf("%s is %s for root and %s for another user", name, a.Digests[name], b.Digests[name])
		}
	}
	if a.Top[0].Index != b.Top[0].Index {
		t.Errorf("the answer is %+v for root and %+v for another user", a.Top[0], b.Top[0])
	}
}

// TestStranger is somebody whom the engine's socket keeps out.
func TestStranger(t *testing.T) {
	t.Parallel()
	e := mainEngine(t)
	u := ordinary(t, e)
	u.Groups = nil
	r := mustRun(t, 3, e, opts{Dir: u.folder(t), User: &u}, "e2e", "--accel", "cpu", "--weights", "random:0")
	if !strings.Contains(r.Stderr, "permission denied") || !strings.Contains(r.Stderr, "docker") {
		t.Errorf("it does not say that permission is denied:\n%s", r.Stderr)
	}
}
