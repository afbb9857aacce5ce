//go:build integration

package integration

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/steps"
)

const (
	processRounds  = 1 // DALIRUN_PROCESS_ROUNDS asks for more
	processSeconds = 2 // of each measurement; DALIRUN_PROCESS_SECONDS asks for others
)

// TestOneProcess compares what is served with the same work in one process, which gives the same class. The rates are measured in turn, and
// logged: how they stand to each other is for docs/performance.md, and no test.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t, ownPorts(t)...)
	seconds := strconv.FormatUint(fromEnv(t, "DALIRUN_PROCESS_SECONDS", processSeconds), 10)
	folders := map[string]string{"/models": owner.RepositoryPath(workspace(o.Dir)), "/pictures": "../assets/pictures"}

	var answers []classify.Record
	r := mustRun(t, 0, c.engine, o, "classify", "--format", "json", write(t, o.Dir, "coffee.jpg", sample(t)))
	if err := json.Unmarshal([]byte(r.Stdout), &answers); err != nil || len(answers) != 1 || len(answers[0].Classes) == 0 {
		t.Fatalf("%v\n%s", err, r.Stdout)
	}
	served := answers[0].Classes[0].Index
	rates := map[string][]float64{}
	for range fromEnv(t, "DALIRUN_PROCESS_ROUNDS", processRounds) {
		printed := runPython(t, steps.IDServerImage, folders, "one_process.py", "/models", "/pictures/coffee.jpg", seconds, "4", "8", "16")
		for line := range strings.Lines(printed) {
			var m struct {
				Batch int     `json:"batch"`
				Rate  float64 `json:"pictures_per_second"`
				Class int     `json:"class"`
			}
			if err := json.Unmarshal([]byte(line), &m); err != nil || m.Rate <= 0 {
				t.Fatalf("%v\n%s", err, line)
			}
			if m.Class != served {
				t.Errorf("one process says class %d, and the server %d", m.Class, served)
			}
			name := "one process, batches of " + strconv.Itoa(m.Batch)
			rates[name] = append(rates[name], m.Rate)
		}
		r := mustRun(t, 0, c.engine, o, "bench", "--concurrency", "8,16,32", "--duration", seconds+"s", "--format", "json")
		for _, m := range benchResult(t, r.Stdout).Runs[0] {
			if m.Failed > 0 {
				t.Errorf("%s: %+v", m.Load, m.Errors)
			}
			name := "served, clients: " + strconv.Itoa(m.Load.Concurrency)
			rates[name] = append(rates[name], m.PicturesPerSecond)
		}
	}
	if len(rates) != 6 {
		t.Errorf("there are figures of %q", slices.Sorted(maps.Keys(rates)))
	}
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		of := slices.Sorted(slices.Values(rates[name]))
		t.Logf("%s: %.2f pictures/s, the median of %.2f", name, of[len(of)/2], rates[name])
	}
	mustRun(t, 0, c.engine, o, "stop")
}
