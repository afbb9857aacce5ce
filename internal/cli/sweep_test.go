package cli

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/owner"
)

// slowRuntime lists a container of a dead run only from the third look on, as an engine does that still creates it.
type slowRuntime struct {
	containertest.Fake
	late  container.Summary
	looks atomic.Int32
	gone  atomic.Bool
}

func (r *slowRuntime) List(context.Context, container.Labels) ([]container.Summary, error) {
	if r.looks.Add(1) < 3 || r.gone.Load() {
		return nil, nil
	}
	return []container.Summary{r.late}, nil
}

func (r *slowRuntime) Remove(context.Context, string) error {
	r.gone.Store(true)
	return nil
}

// TestSweepAfterAKill holds that what the engine creates for a run after its death goes too, and that nobody waits for that otherwise.
func TestSweepAfterAKill(t *testing.T) {
	t.Parallel()
	const began, cut, ended = `{"run":"r1","step":"export-onnx","kind":"step.started"}` + "\n", `{"run":"r1","st`,
		`{"run":"r1","step":"export-onnx","kind":"step.ended"}` + "\n"
	for name, tt := range map[string]struct {
		log   string
		age   time.Duration
		alive bool
		waits bool
	}{
		"killed in a step":       {began, 0, false, true},
		"killed as it wrote":     {began + cut, 0, false, true},
		"killed between steps":   {began + ended, 0, false, false},
		"killed in another step": {began + ended + `{"step":"serve","kind":"step.started"}`, 0, false, true},
		"long ago":               {began, time.Minute, false, false},
		"it lives":               {began, 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workspace := filepath.Join(t.TempDir(), "a [strange] *name")
			lock, err := owner.Acquire(workspace, "r1")
			if err != nil {
				t.Fatal(err)
			}
			log := filepath.Join(lock.Dir(), "events.jsonl")
			written := time.Now().Add(-tt.age)
			if err := os.WriteFile(log, []byte(tt.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(log, written, written); err != nil {
				t.Fatal(err)
			}
			if !tt.alive {
				if err := lock.Release(); err != nil {
					t.Fatal(err)
				}
			}
			me, err := owner.Here(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			r := &slowRuntime{late: container.Summary{ID: "1", Name: "late", Labels: container.Labels{
				container.LabelRun: "r0", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
				container.LabelRole: string(container.RoleBatch),
			}}}
			start := time.Now()
			removed, err := sweepContainers(t.Context(), r, me, workspace, false)
			took := time.Since(start)
			if err != nil || (len(removed) == 1) != tt.waits || r.gone.Load() != tt.waits {
				t.Errorf("removed %v, %v", removed, err)
			}
			if !tt.waits && r.looks.Load() != 1 || took > inFlight+time.Second {
				t.Errorf("it looked %d times in %s", r.looks.Load(), took)
			}
			if lock.Release() != nil {
				t.Error("the lock was lost")
			}
		})
	}
}
