//go:build integration

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/cause"
	"github.com/dalirun/dalirun/internal/record"
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
	if len(s.Flags) == 0 || len(s.Environment) == 0 || len(s.Images) != 2 || s.ExitCode != 6 {
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
