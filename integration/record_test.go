//go:build integration

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// testRecord runs with a DALI whose mean is another one. From the record alone, elsewhere, without a container engine and a network, the same
// three figures come of the recorded tensors, and it is said what is wrong and whose turn it is.
func (l lane) testRecord(t *testing.T) {
	t.Parallel()
	const token = "glpat-0123456789abcdefghij"
	o := l.opts(t)
	o.Env = append(o.Env, "CI_JOB_TOKEN="+token, "HTTPS_PROXY=http://ci:hunter2secret@127.0.0.1:9")
	file := filepath.Join(o.Dir, "red"+record.Suffix)
	out, r := l.e2e(t, o, 6, flags(l.variant(t, "wrong-mean"), "25.03", "--record", file, "--cache-dir", l.cache)...)
	r.says(t, "preprocessing is off")
	about, err := os.Stat(file)
	if err != nil || about.Size() > 5<<20 {
		t.Fatalf("%v, %v", about, err)
	}
	t.Logf("the record has %d bytes", about.Size())

	elsewhere := opts{Dir: t.TempDir(), Env: []string{"DOCKER_HOST=unix:///nowhere.sock", "HTTPS_PROXY=http://127.0.0.1:9"}}
	moved := filepath.Join(elsewhere.Dir, "red"+record.Suffix)
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	again := run(t, l.engine, elsewhere, "reproduce", moved, "--level", "arithmetic", "--format", "json")
	var done []record.Reproduction
	if err := json.Unmarshal([]byte(again.Stdout), &done); err != nil || again.Code != 6 || len(done) != 1 || !done[0].Reproduced {
		t.Fatalf("%v, exit code %d\n%s%s", err, again.Code, again.Stdout, again.Stderr)
	}
	for i, c := range done[0].Parity.Comparisons {
		if c.Figures != out.Parity.Comparisons[i].Figures {
			t.Errorf("%s: %+v, and the run had %+v", c.Name, c.Figures, out.Parity.Comparisons[i].Figures)
		}
	}
	shown := mustRun(t, 0, l.engine, elsewhere, "show", moved, "--format", "json")
	var s record.Summary
	if err := json.Unmarshal([]byte(shown.Stdout), &s); err != nil {
		t.Fatal(err)
	}
	if s.Cause == nil || s.Cause.ID != "preprocessing-differs" || s.Cause.Turn != cause.Product || s.Cause.Retryable || !strings.Contains(s.Cause.Text, "the mean is another one") {
		t.Errorf("the cause is %+v", s.Cause)
	}
	if len(s.Flags) == 0 || len(s.Environment) == 0 || len(s.Images) != 2 || *s.ExitCode != 6 {
		t.Errorf("%+v", s)
	}
	for step, digest := range s.Images {
		if !strings.HasPrefix(digest, "sha256:") {
			t.Errorf("%s: %q", step, digest)
		}
	}
	kept, err := record.Open(moved)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kept.Files() {
		content, err := kept.File(name)
		if err != nil || strings.Contains(string(content), token) || strings.Contains(string(content), "hunter2secret") {
			t.Errorf("%s holds a secret (%v)", name, err)
		}
	}
	for _, want := range []string{record.GPUBeforeFile, record.GPUAfterFile, record.StatisticsFile, record.LogFile("build-engine"), record.LogFile("serve"), "model_repository/dali/config.pbtxt", record.AnswersFile} {
		if content, err := kept.File(want); err != nil || len(content) == 0 {
			t.Errorf("the record has no %s: %v", want, err)
		}
	}
	mustRun(t, 6, l.engine, elsewhere, "reproduce", moved)
}

// TestRerun serves a recorded model on the real server again, with the server image alone, against PyTorch's recorded tensors. The run that is
// recorded passed, and its record is made one of a run that failed: so the rerun does not come to the same, and says in what.
func TestRerun(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := opts{Dir: t.TempDir()}
	green := filepath.Join(o.Dir, "green"+record.Suffix)
	mustRun(t, 0, c.engine, o, c.args("e2e", "--record", green, "--record-model")...)
	kept, err := record.Open(green)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(o.Dir, "model.onnx")
	if err := record.ExtractModel(green, model); err != nil {
		t.Fatal(err)
	}
	red := filepath.Join(o.Dir, "red"+record.Suffix)
	w, err := record.Create(red, record.Options{Program: kept.Program, Command: kept.Command, Started: kept.Started, Redactor: bundle.New("/", "", nil)})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kept.Files() {
		content, err := kept.File(name)
		if err != nil {
			t.Fatal(err)
		}
		w.AddBytes(name, content)
	}
	var reference pipeline.Fingerprint // other tests' pictures and weights have theirs in the same cache
	for _, s := range kept.Run().Steps {
		if s.ID == steps.IDReference {
			reference = s.Fingerprint
		}
	}
	for member, file := range map[string]string{record.ReferenceTensor: "tensor.f32", record.ReferenceLogits: "logits.f32"} {
		found, err := filepath.Glob(filepath.Join(c.cache, "entries", string(reference), "*", "files", file))
		if err != nil || reference == "" || len(found) != 1 {
			t.Fatalf("the cache has for %s of %q: %q, %v", file, reference, found, err)
		}
		content, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		w.AddBytes(member, content)
	}
	w.AddFile(record.ModelFile, model)
	w.AddJSON(record.FailureFile, cause.Failure{Text: "verify: it was off", Kind: pipeline.NotVerified, Step: "verify", ExitCode: 6})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := mustRun(t, 7, c.engine, o, "reproduce", red, "--level", "rerun", "--cache-dir", t.TempDir(), "--progress", "plain")
	for _, want := range []string{"rerun: not reproduced\n", "  recorded: failed, answers-differ: ", "  here: passed\n"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, r.Stdout)
		}
	}
	for _, step := range []string{"exporter-image", "weights", "export-onnx", "reference"} {
		if strings.Contains(r.Stderr, " "+step+": ") {
			t.Errorf("it runs %s:\n%s", step, r.Stderr)
		}
	}
	mustRun(t, 0, c.engine, o, "reproduce", green, "--level", "rerun", "--cache-dir", c.cache)
}
