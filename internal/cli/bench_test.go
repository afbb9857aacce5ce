package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// benchServer is a Triton server that calls then with the number of each inference.
func benchServer(t *testing.T, then func(n int64)) *tritontest.Server {
	t.Helper()
	server := tritontest.New(t, tritontest.Classifier("ensemble_dali_resnet50", labels(), func([]byte) ([]float32, error) { return logits(), nil }))
	server.MustLoad("ensemble_dali_resnet50")
	var n atomic.Int64
	server.Intercept(func(_ context.Context, rpc, _ string) error {
		if rpc == "ModelInfer" {
			then(n.Add(1))
		}
		return nil
	})
	return server
}

// isOf checks JSON against a schema of the documents.
func isOf(t *testing.T, schema string, text []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(docsDir, "schemas", schema))
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("no JSON: %v\n%s", err, text)
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("%s: %v\n%s", schema, err, text)
	}
}

// What is written is what the schemas say, also of a run that is the baseline and of one that is compared with it.
func TestBenchJSON(t *testing.T) {
	t.Parallel()
	server := benchServer(t, func(int64) {})
	file := filepath.Join(t.TempDir(), "base.json")
	flags := []string{"bench", "--url", server.Addr(), "--concurrency", "2", "--rate", "50", "--duration", "500ms", "--format", "json"}
	for _, more := range [][]string{{"--save-baseline", file}, {"--baseline", file, "--max-regression", "1000%"}} {
		var stdout, stderr bytes.Buffer
		code := appIn(map[string]string{}, &stdout, &stderr).Run(t.Context(), append(flags, more...))
		if code != ExitOK && code != ExitGate {
			t.Fatalf("%v: it ended with %d\n%s", more, code, stderr.String())
		}
		isOf(t, "bench.schema.json", stdout.Bytes())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	isOf(t, "bench-baseline.schema.json", text)
}

// Who interrupts gets what was measured until then, and no baseline of it.
func TestBenchUntilSignal(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	server := benchServer(t, func(n int64) {
		if n == 200 { // behind the warm-up, of 32
			close(begun)
		}
	})
	ctx, cancel := stopped(t.Context(), begun, os.Interrupt)
	defer cancel()
	dir := t.TempDir()
	file, page := filepath.Join(dir, "base.json"), filepath.Join(dir, "page.html")
	var stdout, stderr bytes.Buffer
	got := appIn(map[string]string{}, &stdout, &stderr).Run(ctx, []string{
		"bench", "--url", server.Addr(), "--concurrency", "4,8", "--duration", "10m", "--format", "json", "--save-baseline", file, "--html", page,
	})
	if got != ExitSIGINT || !strings.Contains(stderr.String(), "✗ stopped by Ctrl-C (SIGINT)\n") {
		t.Errorf("it ended with %d\n%s", got, stderr.String())
	}
	isOf(t, "bench.schema.json", stdout.Bytes())
	var r bench.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || len(r.Runs) != 1 || len(r.Runs[0]) != 1 || r.Runs[0][0].Answered < 100 {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), `<span class="cancelled">`) {
		t.Errorf("the page: %v\n%s", err, text)
	}
	if left, _ := filepath.Glob(file + "*"); len(left) > 0 {
		t.Errorf("of an interrupted run there is %q", left)
	}
}

// The errors of a server that is killed are counted, and what was measured before is there.
func TestBenchOfKilledServer(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.html")
	var server *tritontest.Server
	server = benchServer(t, func(n int64) {
		if n == 200 {
			go server.Stop()
		}
	})
	var stdout, stderr bytes.Buffer
	got := appIn(map[string]string{}, &stdout, &stderr).Run(t.Context(), []string{
		"bench", "--url", server.Addr(), "--concurrency", "4,8", "--duration", "500ms", "--format", "json", "--html", page,
	})
	if got != ExitNotReady || !strings.Contains(stderr.String(), "hint: is a server at "+server.Addr()+"?") {
		t.Errorf("it ended with %d\n%s", got, stderr.String())
	}
	var r bench.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	if r.Interrupted || len(r.Runs) != 1 || len(r.Runs[0]) != 1 {
		t.Fatalf("%+v", r)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), " × Unavailable: ") {
		t.Errorf("the page: %v\n%s", err, text)
	}
	m := r.Runs[0][0]
	if m.Answered < 100 || m.Failed < 4 || len(m.Errors) == 0 || m.Errors[0].Class != "Unavailable" || m.Requests != m.Answered+m.Failed {
		t.Errorf("%+v", m)
	}
}
