//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/status"
	"github.com/dalirun/dalirun/triton"
)

const (
	// reloads are a minute's work. DALIRUN_RELOADS asks for more.
	reloads       = 2
	reloadClients = 8
)

// clients ask a server for the classes of one picture until they are stopped, and tell answers apart by their scores.
type clients struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	known    map[string]string // the scores of an answer → what serves it
	answers  map[string]int
	failures []error
}

// key has three digits of each score: batches of different sizes differ in the sixth.
func key(all []triton.Class) string {
	scores := make([]string, len(all))
	for _, c := range all {
		scores[c.Index] = fmt.Sprintf("%.3f", c.Value)
	}
	return strings.Join(scores[:20], " ")
}

func startClients(t *testing.T, grpc string) *clients {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &clients{stop: cancel, known: map[string]string{}, answers: map[string]int{}}
	picture := sample(t)
	for range reloadClients {
		client, err := triton.Dial(grpc)
		if err != nil {
			t.Fatal(err)
		}
		c.running.Go(func() {
			defer client.Close() //nolint:errcheck // nothing is in flight
			for ctx.Err() == nil {
				all, err := client.Classify(ctx, "ensemble_dali_resnet50", picture, triton.EveryClass)
				c.mu.Lock()
				switch {
				case err == nil:
					c.answers[key(all)]++
				case !errors.Is(err, context.Canceled):
					c.failures = append(c.failures, err)
				}
				c.mu.Unlock()
			}
		})
	}
	t.Cleanup(cancel)
	return c
}

// learn asks once, and remembers the answer as what serves.
func (c *clients) learn(t *testing.T, grpc, what string) {
	t.Helper()
	client, err := triton.Dial(grpc)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	all, err := client.Classify(t.Context(), "ensemble_dali_resnet50", sample(t), triton.EveryClass)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, known := c.known[key(all)]; known && was != what {
		t.Errorf("%s answers as %s did", what, was)
	}
	c.known[key(all)] = what
}

// TestReload reloads a server under clients: no request fails, and no answer is neither of the old models nor of the new.
func TestReload(t *testing.T) {
	t.Parallel()
	c := cpuLane(t).withOwnCache(t, nil) // other weights are no part of what others look at
	o := c.detached(t, ownPorts(t)...)
	server, err := owner.ReadServer(workspace(o.Dir))
	if err != nil {
		t.Fatal(err)
	}
	asking := startClients(t, server.GRPC)
	asking.learn(t, server.GRPC, "random:0")
	weights := []string{"random:0", "random:1"}
	n := int(fromEnv(t, "DALIRUN_RELOADS", reloads))
	for i := range n {
		next := weights[(i+1)%2]
		mustRun(t, 0, c.engine, o, append(c.args("setup"), "--weights", next)...)
		if s := statusOf(t, c, o); s.Built == nil || s.Built.Weights != next || s.Served.Weights != weights[i%2] {
			t.Errorf("before the reload it serves %+v, and %+v was built", s.Served, s.Built)
		}
		r := mustRun(t, 0, c.engine, o, "reload", "--cache-dir", c.cache)
		if want := "reloaded " + server.Name + "\n"; r.Stdout != want {
			t.Errorf("it says %q, want %q", r.Stdout, want)
		}
		asking.learn(t, server.GRPC, next)
		now, err := owner.ReadServer(workspace(o.Dir))
		if err != nil || now.Weights != next || now.Container != server.Container || !slices.Contains(now.Command, "--detach") {
			t.Errorf("the server is %+v, %v", now, err)
		}
		if s := statusOf(t, c, o); s.Built != nil || s.Served.Weights != next {
			t.Errorf("after the reload it serves %+v, and %+v was built", s.Served, s.Built)
		}
	}
	asking.stop()
	asking.running.Wait()
	sum := 0
	for k, count := range asking.answers {
		if sum += count; asking.known[k] == "" {
			t.Errorf("%d answers are of nothing that was served: %s", count, k)
		}
	}
	t.Logf("%d reloads, %d answers, %d failures", n, sum, len(asking.failures))
	if len(asking.failures) > 0 || len(asking.known) != 2 || sum < n {
		t.Errorf("%d failures (%v), %d kinds of answers", len(asking.failures), errors.Join(asking.failures...), len(asking.known))
	}
	if left, err := filepath.Glob(filepath.Join(owner.RepositoryPath(workspace(o.Dir)), "*_candidate*")); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
	mustRun(t, 0, c.engine, o, "reload", "--cache-dir", c.cache) // which has nothing to do
	refused(t, c, o)
	restarted(t, c, o, server)
	stoppedMeanwhile(t, c, o, weights)
	mustRun(t, 5, c.engine, o, "reload", "--cache-dir", c.cache)
	c.checkNoContainer(t, o.Dir)
}

// statusOf is what status says of the server of a workspace, whose clients ask without a pause.
func statusOf(t *testing.T, c cpu, o opts) status.Status {
	t.Helper()
	var s status.Status
	for range 10 { // in a second of a busy machine no batch may end
		if s = lookAt(t, c, o); busiest(s) >= 0.05 {
			return s
		}
	}
	t.Errorf("the busiest model is %v busy: %+v", busiest(s), s)
	return s
}

// busiest is the largest share of time that the instances of a model are busy.
func busiest(s status.Status) float64 {
	busy := 0.0
	for _, m := range s.Models {
		busy = max(busy, m.Figures.Busy)
	}
	return busy
}

func lookAt(t *testing.T, c cpu, o opts) status.Status {
	t.Helper()
	r := mustRun(t, 0, c.engine, o, "status", "--format", "json")
	var s status.Status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		t.Fatalf("%v\n%s", err, r.Stdout)
	}
	var names []string
	for _, m := range s.Models {
		names = append(names, m.Name)
		if m.State != triton.StateReady || m.Figures == nil || m.Figures.Requests == 0 {
			t.Fatalf("%s is %s, %s%s: %+v", m.Name, m.State, m.Reason, m.FiguresMissing, m.Figures)
		}
		if !m.Figures.Ensemble && (m.Figures.ComputeSeconds <= 0 || m.Figures.AverageBatch < 1) {
			t.Errorf("%s: %+v", m.Name, m.Figures)
		}
	}
	if diff := cmp.Diff([]string{"ensemble_dali_resnet50", "dali", "resnet50_onnx"}, names); diff != "" {
		t.Errorf("models (-want +got):\n%s\n%s", diff, r.Stdout)
	}
	if s.Server.Ready.IsZero() || s.Server.GRPC == "" || s.Served.MaxBatch == 0 || s.ModelsMissing != "" || len(s.Findings) > 0 {
		t.Errorf("%+v", s)
	}
	return s
}

// stoppedMeanwhile stops the server while a reload loads what was built, which says so, and nothing of the models.
func stoppedMeanwhile(t *testing.T, c cpu, o opts, weights []string) {
	t.Helper()
	server, err := owner.ReadServer(workspace(o.Dir))
	if err != nil {
		t.Fatal(err)
	}
	other := slices.IndexFunc(weights, func(w string) bool { return w != server.Weights })
	mustRun(t, 0, c.engine, o, append(c.args("setup"), "--weights", weights[other])...)
	p := start(t, c.engine, o, "reload", "--cache-dir", c.cache)
	p.until(t, "candidates", func() bool {
		found, err := filepath.Glob(filepath.Join(owner.RepositoryPath(workspace(o.Dir)), "*_candidate*"))
		return err == nil && len(found) > 0
	})
	mustRun(t, 0, c.engine, o, "stop")
	r := p.wait(t)
	if told := ": the server " + server.Name + " was stopped meanwhile\n"; r.Code != 5 || strings.Count(r.Stderr, told) != 1 || strings.Count(r.Stderr, "✗") != 1 {
		t.Errorf("exit code %d\n%s", r.Code, r.Stderr)
	}
}

// refused records that something for another lane was built: the server goes on with what it has.
func refused(t *testing.T, c cpu, o opts) {
	t.Helper()
	before, err := owner.ReadServer(workspace(o.Dir))
	if err != nil {
		t.Fatal(err)
	}
	built, err := owner.ReadBuilt(workspace(o.Dir))
	if err != nil {
		t.Fatal(err)
	}
	built.Lane, built.Repository = "gpu", "/other"
	if err := owner.WriteBuilt(workspace(o.Dir), built); err != nil {
		t.Fatal(err)
	}
	r := mustRun(t, 3, c.engine, o, "reload", "--cache-dir", c.cache)
	if !strings.Contains(r.Stderr, "lane gpu (served: cpu)") || !strings.Contains(r.Stderr, "restart") {
		t.Errorf("it says:\n%s", r.Stderr)
	}
	if after, err := owner.ReadServer(workspace(o.Dir)); err != nil || after.Weights != before.Weights {
		t.Errorf("the server is %+v, %v", after, err)
	}
}

// restarted starts another server of what was built, at the same address.
func restarted(t *testing.T, c cpu, o opts, before owner.ServerFile) {
	t.Helper()
	mustRun(t, 0, c.engine, o, append(c.args("setup"), "--weights", "random:1")...)
	mustRun(t, 0, c.engine, o, "restart")
	after, err := owner.ReadServer(workspace(o.Dir))
	if err != nil || after.Container == before.Container || after.GRPC != before.GRPC || after.HTTP != before.HTTP || after.Weights != "random:1" {
		t.Errorf("the server is %+v, %v; it was %+v", after, err, before)
	}
	mustRun(t, 0, c.engine, o, "classify", write(t, o.Dir, "coffee.jpg", sample(t)))
}
