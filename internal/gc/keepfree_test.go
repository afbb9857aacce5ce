package gc_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/gc"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// images are those of a container engine.
type images struct {
	all  []container.Image
	used []string // IDs of those of which there are containers
	err  error
}

func (i *images) ListImages(context.Context) ([]container.Image, error) { return i.all, i.err }

func (i *images) RemoveImage(_ context.Context, id string) error {
	if slices.Contains(i.used, id) {
		return fmt.Errorf("remove %s: %w", id, container.ErrInUse)
	}
	i.all = slices.DeleteFunc(i.all, func(img container.Image) bool { return img.ID == id })
	return nil
}

// disks are as full as is said.
type disks func(folder string) (uint64, error)

func (d disks) DiskFree(_ context.Context, folder string) (uint64, error) { return d(folder) }

const wanted = 1000

// runner is a place with images of all kinds, by ID: what the disk of the container engine has free is what they leave of
// wanted and 99 bytes.
func runner(t *testing.T) (gc.Place, *images) {
	t.Helper()
	p, _ := place(t)
	now := p.Servers.Me.Now
	built := container.Labels{container.LabelBuild: "hash"}
	img := func(id string, age time.Duration, labels container.Labels, tags ...string) container.Image {
		return container.Image{ID: id, Tags: tags, Labels: labels, Size: 100, Created: now.Add(-age)}
	}
	const week = 7 * 24 * time.Hour
	i := &images{used: []string{"running"}, all: []container.Image{
		img("somebody's", week, nil, "debian:12"),
		img("built", week, built, "dalirun/server:built"),
		img("young", time.Hour, built, "dalirun/server:young"),
		img("renamed", week, built, "dalirun/server:renamed", "mine:1"),
		img("running", week, built, "dalirun/server:running"),
		img("last", week, built, "dalirun/server:last"),
		img("held", week, built, "dalirun/server:held"),
		img("pulled", week, nil, "nvcr.io/nvidia/pytorch:25.03-py3"),
		img("moved", week, nil), // its tag names another one by now
	}}
	p.Images = gc.Images{
		Engine: i, Disk: t.TempDir(),
		Brought: func(id string) (string, bool) {
			return "nvcr.io/nvidia/pytorch:25.03-py3", id == "pulled" || id == "moved"
		},
		Of: func(owner.Built) ([]string, error) { return []string{"dalirun/server:last"}, nil },
	}
	release, err := p.Cache.HoldImages(t.Context(), "dalirun/server:held")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	p.Disks = disks(func(folder string) (uint64, error) {
		if folder != p.Images.Disk {
			return wanted, nil
		}
		return uint64(wanted + 99 - 100*len(i.all)), nil
	})
	return p, i
}

func imageIDs(all []container.Image) []string {
	var ids []string
	for _, img := range all {
		ids = append(ids, img.ID)
	}
	return ids
}

// Of images those go that dalirun brought and that nobody uses, and each that stays says why.
func TestKeepFreeOfImages(t *testing.T) {
	t.Parallel()
	p, i := runner(t)
	options := gc.Options{CacheSize: 1 << 30, KeepFree: wanted}
	removed := func(c gc.Collected) (ids []string) {
		for _, img := range c.Images {
			ids = append(ids, img.ID)
		}
		return ids
	}
	got, err := p.Collect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"built", "pulled", "moved"}, removed(got)); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"somebody's", "young", "renamed", "running", "last", "held"}, imageIDs(i.all)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]gc.Kept{
		{"the image dalirun/server:running", "a container, or another image, is made of it"},
		{"the image dalirun/server:last", "the last build of " + p.Workspace + " used it"},
		{"the image dalirun/server:young", "it is younger than 24h0m0s, and a run of another cache may be about to use it"},
		{"the image dalirun/server:held", "a run uses it"},
	}, got.Kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if len(got.Disks) != 3 || got.Disks[0] != (gc.Disk{Folder: p.Images.Disk, Free: wanted + 99 - 600, Wanted: wanted}) {
		t.Errorf("disks: %+v", got.Disks)
	}
	if len(got.Entries)+len(got.Runs) > 0 {
		t.Errorf("of a disk that has enough went %+v, %+v", got.Entries, got.Runs)
	}
}

// A run with a lock knows its images by their digests alone, whatever name dalirun pulled them by; and one that somebody
// gave a name in another repository is theirs, however that name begins or ends.
func TestKeepFreeOfDigests(t *testing.T) {
	t.Parallel()
	const repo = "nvcr.io/nvidia/tritonserver"
	digest := func(id string) string { return fmt.Sprintf("%s@sha256:%x", repo, sha256.Sum256([]byte(id))) }
	p, _ := runner(t)
	img := func(id string, tags ...string) container.Image {
		return container.Image{ID: id, Tags: tags, Digests: []string{digest(id)}, Size: 100, Created: p.Servers.Me.Now.Add(-time.Hour * 200)}
	}
	i := &images{all: []container.Image{
		img("last"), img("held", repo+":25.03-py3"), img("free"), img("later", repo+":25.04-py3"),
		img("short name", repo+":25.05-py3", "tritonserver:25.05-py3"), img("mirror", repo+":25.06-py3", "registry.local/"+repo+":25.06-py3"),
	}}
	p.Images.Engine = i
	p.Images.Brought = func(id string) (string, bool) {
		if id == "later" {
			return digest(id), true
		}
		return repo + ":25.03-py3", true
	}
	p.Images.Of = func(owner.Built) ([]string, error) { return []string{digest("last")}, nil }
	release, err := p.Cache.HoldImages(t.Context(), digest("held"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
	p.Disks = disks(func(string) (uint64, error) { return 0, nil })
	if _, err := p.Collect(t.Context(), gc.Options{CacheSize: 1 << 30, KeepFree: wanted}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"last", "held", "short name", "mirror"}, imageIDs(i.all)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// The image that was used first goes first, whenever it was built, and no more go than have to.
func TestKeepFreeTakesTheOldest(t *testing.T) {
	t.Parallel()
	p, i := runner(t)
	i.all = nil
	for age, id := range []string{"a", "b", "c"} {
		tag := "dalirun/server:" + id
		i.all = append([]container.Image{{
			ID: id, Tags: []string{tag}, Labels: container.Labels{container.LabelBuild: id}, Size: 100,
			Created: time.Now().Add(-time.Duration(age) * time.Hour),
		}}, i.all...)
		release, err := p.Cache.HoldImages(t.Context(), tag)
		if err == nil {
			err = release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.Disks = disks(func(folder string) (uint64, error) {
		if folder != p.Images.Disk {
			return wanted, nil
		}
		return uint64(wanted + 100 - 100*len(i.all)), nil
	})
	got, err := p.Collect(t.Context(), gc.Options{CacheSize: 1 << 30, KeepFree: wanted})
	if err != nil || len(got.Images) != 2 || got.Images[0].ID != "a" || got.Images[1].ID != "b" || got.Disks[0].Free != wanted {
		t.Errorf("%v, removed %+v, disks %+v", err, got.Images, got.Disks)
	}
}

// What the last run used stays, all of it: the next job needs it, whatever the disk lacks.
func TestKeepFreeLeavesTheLastRuns(t *testing.T) {
	t.Parallel()
	p, i := runner(t)
	i.all = nil
	use := func(ids ...string) {
		var tags []string
		for _, id := range ids {
			tags = append(tags, "dalirun/"+id+":x")
			i.all = append(i.all, container.Image{ID: id, Tags: tags[len(tags)-1:], Labels: container.Labels{container.LabelBuild: id}, Size: 100})
		}
		release, err := p.Cache.HoldImages(t.Context(), tags...)
		if err == nil {
			err = release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	use("old-exporter", "old-server")
	use("exporter", "server")
	p.Disks = disks(func(string) (uint64, error) { return 0, nil })
	for _, collect := range []func(context.Context, gc.Options) (gc.Collected, error){p.Preview, p.Collect} {
		got, err := collect(t.Context(), gc.Options{CacheSize: 1 << 30, KeepFree: 1 << 40})
		if err != nil || len(got.Images) != 2 || got.Images[0].ID != "old-exporter" || got.Images[1].ID != "old-server" {
			t.Errorf("%v, removed %+v, kept %+v", err, got.Images, got.Kept)
		}
	}
	if left := imageIDs(i.all); !slices.Equal(left, []string{"exporter", "server"}) {
		t.Errorf("left %q", left)
	}
}

// Results and runs go by age until the disk has enough; a run that lives stays, and so does what a workspace needs.
func TestKeepFreeOfFiles(t *testing.T) {
	t.Parallel()
	p, i := runner(t)
	i.all = nil
	commit(t, p.Cache, "newer")
	old, err := owner.Acquire(p.Workspace, "20260101T000000Z-000001")
	if err == nil {
		err = os.WriteFile(filepath.Join(old.Dir(), "log"), make([]byte, 500), 0o600)
	}
	if err == nil {
		err = old.Release()
	}
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Hour)
	for _, path := range []string{old.Dir(), filepath.Join(old.Dir(), "log")} {
		if err := os.Chtimes(path, before, before); err != nil {
			t.Fatal(err)
		}
	}
	living, err := owner.Acquire(p.Workspace, "20260101T000000Z-000002")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = living.Release() })
	p.Disks = disks(func(folder string) (uint64, error) {
		if folder == p.Images.Disk {
			return wanted, nil
		}
		if _, err := os.Stat(old.Dir()); err == nil {
			return 0, nil
		}
		left, err := p.Cache.Results(t.Context())
		return uint64(wanted + 2 - len(left)), err // enough once one result is gone
	})
	options := gc.Options{CacheSize: 1 << 30, KeepFree: wanted}
	got, err := p.Collect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Runs) != 1 || got.Runs[0].Run != "20260101T000000Z-000001" || got.Runs[0].Bytes != 500 {
		t.Errorf("runs: %+v", got.Runs)
	}
	if diff := cmp.Diff([]pipeline.Fingerprint{"other"}, fingerprints(got)); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(living.Dir()); err != nil {
		t.Errorf("the run that lives: %v", err)
	}
}

func fingerprints(c gc.Collected) (all []pipeline.Fingerprint) {
	for _, e := range c.Entries {
		all = append(all, e.Fingerprint)
	}
	return all
}

// A dry run says what would go and touches nothing.
func TestKeepFreeDryRun(t *testing.T) {
	t.Parallel()
	p, i := runner(t)
	got, err := p.Preview(t.Context(), gc.Options{CacheSize: 1 << 30, KeepFree: wanted})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Images) == 0 || len(i.all) != 9 {
		t.Errorf("would remove %+v; left %q", got.Images, imageIDs(i.all))
	}
	if again, err := p.Preview(t.Context(), gc.Options{CacheSize: 1 << 30, KeepFree: 1}); err != nil || len(again.Images) > 0 {
		t.Errorf("of a disk that has enough %+v would go, %v", again.Images, err)
	}
}

// Where it is not known which images a workspace needs, and where the disk is not seen, no image goes; the rest does.
func TestKeepFreeIsCareful(t *testing.T) {
	t.Parallel()
	broken := errors.New("it is another version's")
	for name, spoil := range map[string]func(*gc.Place, *images){
		"a record that cannot be read": func(p *gc.Place, _ *images) {
			p.Images.Of = func(owner.Built) ([]string, error) { return nil, broken }
		},
		"a disk that is not seen": func(p *gc.Place, _ *images) { p.Images.Disk = "" },
		"no list":                 func(_ *gc.Place, i *images) { i.err = broken },
	} {
		p, i := runner(t)
		spoil(&p, i)
		p.Disks = disks(func(string) (uint64, error) { return 0, nil })
		got, err := p.Collect(t.Context(), gc.Options{CacheSize: 1 << 30, KeepFree: wanted})
		if err == nil || len(got.Images) > 0 || len(i.all) != 9 {
			t.Errorf("%s: %v, removed %+v", name, err, got.Images)
		}
		if diff := cmp.Diff([]pipeline.Fingerprint{"other"}, fingerprints(got)); diff != "" {
			t.Errorf("%s: results (-want +got):\n%s", name, diff)
		}
	}
}
