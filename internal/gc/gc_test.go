package gc_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/gc"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// engine is a [serving.Runtime] of containers that are there already.
type engine struct {
	serving.Runtime

	all []container.Summary
	err error
}

func (e *engine) List(context.Context, container.Labels) ([]container.Summary, error) {
	return e.all, e.err
}

func (e *engine) Remove(_ context.Context, id string) error {
	e.all = slices.DeleteFunc(e.all, func(c container.Summary) bool { return c.ID == id })
	return nil
}

// batch is a container of a run that is gone, of a host.
func batch(id, host, workspace string) container.Summary {
	return container.Summary{ID: id, Name: id, Labels: container.Labels{
		container.LabelRun: "r1", container.LabelHost: host, container.LabelBoot: "b", container.LabelWorkspace: workspace,
		container.LabelStep: "export-onnx", container.LabelRole: string(container.RoleBatch),
	}}
}

// commit stores an entry of a kilobyte, and returns the path of its output.
func commit(t *testing.T, cache *store.Store, fp pipeline.Fingerprint) string {
	t.Helper()
	tx, err := cache.Begin(t.Context(), fp, nil)
	if err == nil {
		err = os.WriteFile(filepath.Join(tx.Dir(), "out"), make([]byte, 1<<10), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	entry, err := tx.Commit("export-onnx", nil, []string{"out"})
	if err != nil {
		t.Fatal(err)
	}
	defer entry.Close() //nolint:errcheck // only read
	return entry.Values()["out"].Path
}

// place is one in which a run of this host and one of another are gone, with an entry that the workspace needs and one
// that nobody does.
func place(t *testing.T) (gc.Place, *engine) {
	t.Helper()
	cache, err := store.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	workspace := t.TempDir()
	linked := commit(t, cache, "linked")
	commit(t, cache, "other")
	if err := cache.Pin(t.Context(), linked, workspace, func() error {
		return owner.WriteBuilt(workspace, owner.Built{Run: "r1", Repository: linked})
	}); err != nil {
		t.Fatal(err)
	}
	e := &engine{all: []container.Summary{batch("ours", "here", workspace), batch("theirs", "elsewhere", workspace)}}
	me := owner.Identity{Host: "here", Boot: "b", Now: time.Now()}
	return gc.Place{Servers: serving.Servers{Runtime: e, Me: me, Step: "serve"}, Cache: cache, Workspace: workspace}, e
}

func names(c gc.Collected) []string {
	var all []string
	for _, l := range c.Containers {
		all = append(all, l.Name)
	}
	for _, e := range c.Entries {
		all = append(all, string(e.Fingerprint))
	}
	return all
}

// What would go is what goes; what a workspace needs stays, and what other hosts left unless it is asked for.
func TestCollect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options gc.Options
		want    []string
	}{
		"a large cache":    {gc.Options{CacheSize: 1 << 30}, []string{"ours"}},
		"no cache":         {gc.Options{}, []string{"ours", "other"}},
		"and other hosts'": {gc.Options{Foreign: true}, []string{"ours", "theirs", "other"}},
	} {
		p, _ := place(t)
		would, err := p.Preview(t.Context(), c.options)
		if diff := cmp.Diff(c.want, names(would)); diff != "" || err != nil || !would.DryRun {
			t.Errorf("%s, before: %v (-want +got):\n%s", name, err, diff)
		}
		got, err := p.Collect(t.Context(), c.options)
		if diff := cmp.Diff(c.want, names(got)); diff != "" || err != nil || got.DryRun || got.Freed < would.Freed {
			t.Errorf("%s: %v, %d bytes and %d before (-want +got):\n%s", name, err, got.Freed, would.Freed, diff)
		}
		if again, err := p.Preview(t.Context(), c.options); err != nil || len(names(again)) > 0 {
			t.Errorf("%s: %q would go again, %v", name, names(again), err)
		}
	}
}

// Results share files by hard links, and a workspace has links to what it serves. Bytes are freed with the last link,
// and are counted once; so they are before it is done.
func TestCollectLinks(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for name, c := range map[string]struct {
		keep string // the result that is pinned
		link bool   // the workspace has a link, too
		want store.Loss
	}{
		"none is kept":         {"", false, store.Loss{Freed: size}},
		"a result is kept":     {"second", true, store.Loss{Results: size}},
		"a workspace has them": {"", true, store.Loss{Workspaces: size}},
	} {
		p, _ := place(t)
		if _, err := p.Collect(t.Context(), gc.Options{}); err != nil { // what has no links
			t.Fatal(err)
		}
		first := commit(t, p.Cache, "first")
		tx, err := p.Cache.Begin(t.Context(), "second", nil)
		if err == nil {
			err = errors.Join(os.Chmod(first, 0o600), os.Truncate(first, size), os.Link(first, filepath.Join(tx.Dir(), "out")))
		}
		if err != nil {
			t.Fatal(err)
		}
		entry, err := tx.Commit("assemble-repository", nil, []string{"out"})
		if err != nil {
			t.Fatal(err)
		}
		if c.link {
			if err := os.Link(first, filepath.Join(p.Workspace, "served")); err != nil {
				t.Fatal(err)
			}
		}
		if c.keep != "" {
			if err := p.Cache.Pin(t.Context(), entry.Values()["out"].Path, p.Workspace, func() error {
				return owner.WriteBuilt(p.Workspace, owner.Built{Run: "r1", Repository: entry.Values()["out"].Path})
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := entry.Close(); err != nil {
			t.Fatal(err)
		}
		fits, err := p.Preview(t.Context(), gc.Options{CacheSize: size + size/2})
		if err != nil || len(fits.Entries) > 0 {
			t.Errorf("%s: once each, the files fit, and %q would go, %v", name, names(fits), err)
		}
		for _, do := range []func(context.Context, gc.Options) (gc.Collected, error){p.Preview, p.Collect} {
			got, err := do(t.Context(), gc.Options{})
			near := func(got, want int64) bool { return want <= got && got < want+16<<10 } // manifests go, too
			if err != nil || !near(got.Freed, c.want.Freed) || got.Results != c.want.Results || got.Workspaces != c.want.Workspaces {
				t.Errorf("%s (dry run: %t): %+v, want %+v; %v", name, got.DryRun, got.Loss, c.want, err)
			}
		}
	}
}

// Where containers cannot be removed, what they may still write to stays.
func TestCollectWithoutEngine(t *testing.T) {
	t.Parallel()
	p, e := place(t)
	e.err = errors.New("the engine is ill")
	for name, do := range map[string]func(context.Context, gc.Options) (gc.Collected, error){"Collect": p.Collect, "Preview": p.Preview} {
		if got, err := do(t.Context(), gc.Options{}); !errors.Is(err, e.err) || len(names(got)) > 0 {
			t.Errorf("%s: %q, %v", name, names(got), err)
		}
	}
	if removed, err := p.Sweep(t.Context()); !errors.Is(err, e.err) || len(removed) > 0 {
		t.Errorf("Sweep: %v, %v", removed, err)
	}
	if entries, err := p.Cache.Evictable(t.Context(), 0, func(store.Pin) bool { return false }); err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// Each run removes containers and old logs, and no result.
func TestSweep(t *testing.T) {
	t.Parallel()
	p, _ := place(t)
	for i := range gc.KeptRuns + 1 {
		lock, err := owner.Acquire(p.Workspace, time.Unix(int64(i), 0).UTC().Format("20060102T150405Z-x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
	removed, err := p.Sweep(t.Context())
	if err != nil || len(removed) != 1 || removed[0].Name != "ours" {
		t.Errorf("%v, %v", removed, err)
	}
	if runs, err := os.ReadDir(owner.RunsDir(p.Workspace)); err != nil || len(runs) != gc.KeptRuns {
		t.Errorf("%d runs are left, %v", len(runs), err)
	}
	if entries, err := p.Cache.Evictable(t.Context(), 0, func(store.Pin) bool { return false }); err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// Each thing is a line, and the last one says how much that is.
func TestCollectedText(t *testing.T) {
	t.Parallel()
	used := time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC)
	some := gc.Collected{
		Containers: []serving.Leftover{{Name: "a", Reason: "its run is gone"}, {Name: "b", Reason: "x"}},
		Entries:    []store.Evicted{{Bytes: 1 << 20, Step: "export-onnx", Used: used}, {Bytes: 1 << 10}},
		Loss:       store.Loss{Freed: 2 << 20},
	}
	would := some
	would.DryRun, would.Freed = true, 1<<20+1<<10
	shared := gc.Collected{Entries: make([]store.Evicted, 2), Loss: store.Loss{Results: 1 << 20, Workspaces: 2 << 20}}
	shared.Entries[0].Bytes, shared.Entries[1].Bytes = 2<<20, 1<<20
	none := "a result that counts no longer\n"
	for want, c := range map[string]gc.Collected{
		"nothing is to be removed\n":                    {},
		"no container and no result would be removed\n": {DryRun: true},
		"removed 2 MiB of " + none + "removed 1 MiB of " + none + "removed 2 results: 0 B freed; " +
			"1 MiB stay with results that are kept and 2 MiB stay with workspaces that serve them\n": shared,
		`removed container a: its run is gone
removed container b: x
removed 1 MiB of export-onnx, last used 2026-11-27 04:00:00
removed 1 KiB of a result that counts no longer
removed 2 containers and 2 results: 2 MiB freed
`: some,
		`would remove container a: its run is gone
would remove container b: x
would remove 1 MiB of export-onnx, last used 2026-11-27 04:00:00
would remove 1 KiB of a result that counts no longer
would remove 2 containers and 2 results: 1.001 MiB would be freed
`: would,
	} {
		var b bytes.Buffer
		if err := c.WriteText(&b); err != nil || b.String() != want {
			t.Errorf("%v: %q, want %q", err, &b, want)
		}
	}
}

// What a run left half made is told of when it goes, and is not in what would go.
func TestCollectHalfMade(t *testing.T) {
	t.Parallel()
	p, e := place(t)
	e.all = nil
	tx, err := p.Cache.Begin(t.Context(), "half", nil)
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(tx.Dir(), "out"), make([]byte, 1<<20), 0o600), tx.Abandon())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		do   func(context.Context, gc.Options) (gc.Collected, error)
		want string
	}{
		{p.Preview, "no container and no result would be removed\n"},
		{p.Collect, "removed leftovers of runs: 1 MiB freed\n"},
		{p.Collect, "nothing is to be removed\n"},
	} {
		var b bytes.Buffer
		got, err := c.do(t.Context(), gc.Options{CacheSize: 1 << 30})
		if err := errors.Join(err, got.WriteText(&b)); err != nil || b.String() != c.want {
			t.Errorf("%v: %q, want %q", err, &b, c.want)
		}
	}
	if _, err := os.Stat(tx.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of the run: %v, want none", err)
	}
}
