//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	figures "github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/triton"
)

// benchResult reads what bench wrote as JSON, which is what its schema says.
func benchResult(t *testing.T, text string) figures.Result {
	t.Helper()
	data, err := os.ReadFile("../docs/schemas/bench.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	var r figures.Result
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestBench measures a server, is interrupted, and sees the server die.
func TestBench(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t, ownPorts(t)...)

	r := mustRun(t, 0, c.engine, o, "bench", "--concurrency", "1,8", "--duration", "2s", "--format", "json")
	t.Logf("two loads took %s\n%s", r.Duration, r.Stderr)
	measured := benchResult(t, r.Stdout)
	if e := measured.Environment; e.Lane != "cpu" || !strings.HasPrefix(e.Image, "sha256:") || e.GPU != "" || e.Server != "" {
		t.Errorf("environment %+v", e)
	}
	if len(measured.Runs) != 1 || len(measured.Runs[0]) != 2 || measured.Interrupted {
		t.Fatalf("%+v", measured)
	}
	for _, m := range measured.Runs[0] {
		if m.Answered == 0 || m.Failed > 0 || m.Latency.Count != m.Answered || m.Load.Warmup.Batch != 1 {
			t.Errorf("%s: %+v", m.Load, m)
		}
		// Which model it is depends on who else is busy here.
		if len(m.Models) != 3 || !regexp.MustCompile(`(dali|resnet50_onnx): .*busy \d`).MatchString(m.Limit.Why) {
			t.Errorf("%s: %+v\n%+v", m.Load, m.Limit, m.Models)
		}
	}

	p := start(t, c.engine, o, "bench", "--concurrency", "1,8", "--duration", "1s")
	p.until(t, "a measurement", func() bool { return strings.Contains(p.stderr.String(), "1 at a time: ") })
	p.signal(t, os.Interrupt)
	r = p.wait(t)
	if r.Code != 130 || !strings.Contains(r.Stdout, "interrupted: this is what was measured until then\n") ||
		!strings.Contains(r.Stdout, "  1 at a time  ") || !strings.Contains(r.Stderr, "✗ stopped by Ctrl-C (SIGINT)") {
		t.Errorf("interrupted: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}

	server, err := owner.ReadServer(workspace(o.Dir))
	if err != nil {
		t.Fatal(err)
	}
	client, err := triton.Dial(server.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // nothing is in flight
	before := answered(t.Context(), t, client)
	p = start(t, c.engine, o, "bench", "--concurrency", "8", "--duration", "6s", "--format", "json")
	const some = 6 // more than the 4 of the warm-up
	p.until(t, "answers", func() bool { return answered(t.Context(), t, client) >= before+some })
	if err := c.engine.client(t).ContainerKill(t.Context(), server.Container, "KILL"); err != nil {
		t.Fatal(err)
	}
	r = p.wait(t)
	t.Logf("of a server that was killed:\n%s", r.Stderr)
	killed := benchResult(t, r.Stdout)
	if r.Code != 5 || !strings.Contains(r.Stderr, "the server does not answer any more: ") || len(killed.Runs) != 1 || len(killed.Runs[0]) != 1 {
		t.Fatalf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if m := killed.Runs[0][0]; m.Failed == 0 || len(m.Errors) == 0 || m.Errors[0].Class != "Unavailable" || m.Answered == 0 {
		t.Errorf("%+v", m)
	}
	mustRun(t, 0, c.engine, o, "stop")
	c.checkNoContainer(t, o.Dir)
}

// answered is how many pictures the ensemble has answered.
func answered(ctx context.Context, t *testing.T, client *triton.Client) uint64 {
	t.Helper()
	all, err := client.Statistics(ctx, "ensemble_dali_resnet50")
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	return all[0].Success.Count
}
