package owner_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
)

// What a run makes says whose it is: kept while the run lives, another host's until its time is over.
func TestRunLabels(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC)
	me, workspace := owner.Identity{Host: "here", Boot: "b", Now: now}, t.TempDir()
	labels := owner.RunLabels(me, "r1", workspace, "v1.2.3")
	want := container.Labels{
		container.LabelRun: "r1", container.LabelHost: "here", container.LabelBoot: "b", container.LabelWorkspace: workspace,
		container.LabelVersion: "v1.2.3", container.LabelExpires: "2026-11-28T04:00:00Z",
	}
	if diff := cmp.Diff(want, labels); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run, err := owner.Acquire(workspace, "r1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Release() })
	labels[container.LabelRole] = string(container.RoleBatch)
	later := owner.Identity{Host: "elsewhere", Boot: "b", Now: now.Add(owner.BatchExpiry + time.Second)}
	for who, c := range map[owner.State]owner.Identity{owner.Kept: me, owner.Foreign: {Host: "elsewhere", Boot: "b", Now: now}, owner.Expired: later} {
		if got, why := owner.Verdict(labels, c); got != who {
			t.Errorf("%s to %+v, not %s: %s", got, c, who, why)
		}
	}
}

// The IDs of runs are names of folders, sort by time, and differ within a second.
func TestNewRunID(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC)
	ids := []string{owner.NewRunID(now), owner.NewRunID(now.Add(time.Second)), owner.NewRunID(now.Add(24 * time.Hour))}
	if !slices.IsSorted(ids) || !filepath.IsLocal(ids[0]) || ids[0] == owner.NewRunID(now) {
		t.Errorf("%q", ids)
	}
}
