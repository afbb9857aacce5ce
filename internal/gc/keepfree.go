package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/pipeline"
)

// othersImage is how old an image that was built here must be to go although no run of this cache ever used it. Runs of
// another cache may, and until they have a container of it nothing shows that; a job that lasts a day is none.
const othersImage = 24 * time.Hour

// Images are those of the container engine, and which of them are dalirun's.
type Images struct {
	Engine interface {
		ListImages(ctx context.Context) ([]container.Image, error)
		RemoveImage(ctx context.Context, id string) error
	}
	// Disk is a folder on the disk that has them, as this host sees it; empty if it does not.
	Disk string
	// Brought returns the reference by which dalirun pulled the image of an ID; ok is false if it did not.
	Brought func(id string) (ref string, ok bool)
	// Of returns the references of the images that a build has to do with.
	Of func(owner.Built) ([]string, error)
}

// Image is an image that was removed, or would be.
type Image struct {
	ID    string    `json:"id"`
	Names []string  `json:"names"`
	Bytes int64     `json:"bytes"` // other images may have some of them
	Used  time.Time `json:"used"`  // by a run of this cache, the last time; else when it was built
}

// Run is the folder of a run that was removed, or would be.
type Run struct {
	Run     string    `json:"run"`
	Bytes   int64     `json:"bytes"`
	Changed time.Time `json:"changed"`
}

// Disk is what is free on the disk of a folder after all that could go went.
type Disk struct {
	Folder string `json:"folder"`
	Free   uint64 `json:"free_bytes"`
	Wanted uint64 `json:"wanted_bytes"`
}

// Kept is what stays although its disk has less free than wanted.
type Kept struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// thing is what may go to keep a disk free.
type thing struct {
	name   string
	used   time.Time
	folder string // on its disk
	// remove removes it, or with dryRun only finds out whether it would go. why says why it stays.
	remove func(ctx context.Context, dryRun bool) (gone bool, why string, err error)
	// note adds it to what was removed.
	note func(*Collected)
	// freed is how many bytes that would free, as far as it is known beforehand. It is called once.
	freed func(*measured) int64
}

// keepFree removes what is dalirun's, the least recently used first, until the disks of images, cache and runs have as
// much free as wanted. After an error it goes on with the rest.
func (p Place) keepFree(ctx context.Context, wanted uint64, got *Collected) error {
	things, errs := p.things(ctx)
	measured, err := p.measure(ctx, got)
	errs = append(errs, err)
	for _, x := range things {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		free, err := measured.free(ctx, x.folder)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if free >= wanted {
			continue
		}
		gone, why, err := x.remove(ctx, got.DryRun)
		errs = append(errs, err)
		switch {
		case gone:
			x.note(got)
			if got.DryRun {
				measured.add(x.folder, x.freed(measured))
			}
		case err == nil:
			got.Kept = append(got.Kept, Kept{What: x.name, Why: why})
		}
	}
	for _, folder := range p.disks() {
		free, err := measured.free(ctx, folder)
		if err == nil {
			got.Disks = append(got.Disks, Disk{Folder: folder, Free: free, Wanted: wanted})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// disks are folders on the disks that are to be kept free, as far as they are there.
func (p Place) disks() []string {
	folders := []string{p.Images.Disk, p.Cache.Dir(), p.Workspace}
	return slices.DeleteFunc(folders, func(folder string) bool {
		_, err := os.Stat(folder)
		return folder == "" || errors.Is(err, fs.ErrNotExist)
	})
}

// things are all that may go, the least recently used first.
func (p Place) things(ctx context.Context) ([]thing, []error) {
	images, err := p.images(ctx)
	errs := []error{err}
	results, err := p.Cache.Results(ctx)
	errs = append(errs, err)
	all := images
	for _, e := range results {
		all = append(all, p.result(e))
	}
	runs, err := owner.RunFolders(p.Workspace)
	errs = append(errs, err)
	spare := p.Servers.LogRuns(p.Workspace)
	for _, r := range runs {
		if !r.Lives && !slices.Contains(spare, r.Run) {
			all = append(all, p.run(r))
		}
	}
	slices.SortStableFunc(all, func(a, b thing) int { return a.used.Compare(b.used) })
	return all, errs
}

func (p Place) result(e store.Evicted) thing {
	name := "a result that counts no longer"
	if e.Step != "" {
		name = "a result of " + string(e.Step)
	}
	return thing{
		name: name, used: e.Used, folder: p.Cache.Dir(),
		remove: func(_ context.Context, dryRun bool) (gone bool, why string, err error) {
			if dryRun {
				gone, err = p.Cache.EvictableOne(e, needed)
			} else {
				gone, err = p.Cache.EvictOne(e)
			}
			return gone, "a run reads it, or a workspace needs it", err
		},
		note: func(c *Collected) { c.Entries = append(c.Entries, e) },
		freed: func(m *measured) int64 { // other results may have its files, and so may workspaces
			before := m.cache
			m.cache = before.Without([]store.Evicted{e})
			return before.LossTo(m.cache).Freed
		},
	}
}

func (p Place) run(r owner.RunFolder) thing {
	return thing{
		name: "the folder of the run " + r.Run, used: r.Changed, folder: p.Workspace,
		freed: func(*measured) int64 { return r.Bytes },
		remove: func(_ context.Context, dryRun bool) (gone bool, why string, err error) {
			if dryRun {
				return true, "", nil
			}
			gone, err = owner.DropRun(p.Workspace, r.Run)
			return gone, "the run goes on", err
		},
		note: func(c *Collected) { c.Runs = append(c.Runs, Run{r.Run, r.Bytes, r.Changed}) },
	}
}

// images are those that dalirun built or pulled, but for those that the last build of a workspace used.
func (p Place) images(ctx context.Context) ([]thing, error) {
	if p.Images.Disk == "" {
		return nil, pipeline.Faultf(pipeline.Environment, "run it where the container engine runs",
			"the disk of the container engine cannot be measured from here: its images stay")
	}
	all, err := p.Images.Engine.ListImages(ctx)
	if err != nil {
		return nil, err
	}
	last, err := p.lastBuilt(ctx)
	if err != nil {
		return nil, err // an image that a workspace needs may be any
	}
	latest := p.latestUse(all)
	var things []thing
	for _, image := range all {
		refs, own := p.own(image)
		if own {
			things = append(things, p.image(image, refs, last, latest))
		}
	}
	return things, nil
}

// latestUse is when a run of the cache last said that it uses an image; zero if none did.
func (p Place) latestUse(images []container.Image) (latest time.Time) {
	for _, image := range images {
		if used := p.used(image); used.After(latest) {
			latest = used
		}
	}
	return latest
}

// used is when a run of the cache last said that it uses an image.
func (p Place) used(image container.Image) (used time.Time) {
	refs, _ := p.own(image)
	for _, ref := range refs {
		if t := p.Cache.ImageUsed(ref); t.After(used) {
			used = t
		}
	}
	return used
}

// own returns the references by which runs know an image of dalirun: one that was built here, by its label, or that it
// pulled, by its ID. One that somebody gave a name in another repository is theirs too.
func (p Place) own(image container.Image) (refs []string, own bool) {
	if _, built := image.Labels[container.LabelBuild]; built {
		foreign := func(tag string) bool { return !strings.HasPrefix(tag, "dalirun/") }
		return image.Tags, !slices.ContainsFunc(image.Tags, foreign)
	}
	ref, pulled := p.Images.Brought(image.ID)
	foreign := func(tag string) bool { return repository(tag) != repository(ref) }
	refs = slices.Concat(image.Tags, image.Digests) // a run with a lock knows it by its digest alone
	if !slices.Contains(refs, ref) {
		refs = append(refs, ref)
	}
	return refs, pulled && !slices.ContainsFunc(image.Tags, foreign)
}

// repository is that of a reference, with the registry that a short name stands for.
func repository(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return named.Name()
}

func (p Place) image(image container.Image, refs []string, last map[string]string, latest time.Time) thing {
	name := "the image " + cmp.Or(strings.Join(image.Tags, ", "), image.ID)
	used := p.used(image)
	known := !used.IsZero()
	if !known {
		used = image.Created
	}
	return thing{
		name: name, used: used, folder: p.Images.Disk,
		freed: func(*measured) int64 { return image.Size },
		remove: func(ctx context.Context, dryRun bool) (gone bool, why string, err error) {
			for _, ref := range refs {
				if workspace, needed := last[ref]; needed {
					return false, "the last build of " + workspace + " used it", nil
				}
			}
			if !known && p.Servers.Me.Now.Sub(used) < othersImage {
				why = fmt.Sprintf("it is younger than %s, and a run of another cache may be about to use it", othersImage)
				return false, why, nil
			}
			why = "a run uses it"
			if held, err := p.Cache.ImageHeld(refs); held || err != nil {
				return false, why, err
			}
			if known && used.Equal(latest) {
				return false, "the last run of this cache used it, or got it for the next one", nil
			}
			if dryRun {
				return true, "", nil
			}
			gone, err = p.Cache.TakeImage(refs, func() error { return p.Images.Engine.RemoveImage(ctx, image.ID) })
			if errors.Is(err, container.ErrInUse) {
				return false, "a container, or another image, is made of it", nil
			}
			return gone, why, err
		},
		note: func(c *Collected) {
			c.Images = append(c.Images, Image{image.ID, append([]string{}, image.Tags...), image.Size, used})
		},
	}
}

// lastBuilt returns the images that the last builds of all workspaces of the cache used, each with its workspace.
func (p Place) lastBuilt(ctx context.Context) (map[string]string, error) {
	workspaces, err := p.Cache.PinNames(ctx)
	if err != nil {
		return nil, err
	}
	last := map[string]string{}
	for _, workspace := range append(workspaces, p.Workspace) {
		built, err := owner.ReadBuilt(workspace)
		if errors.Is(err, owner.ErrNothingBuilt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		refs, err := p.Images.Of(built)
		if err != nil {
			return nil, fmt.Errorf("read which images %s needs: %w", workspace, err)
		}
		for _, ref := range refs {
			last[ref] = workspace
		}
	}
	return last, nil
}

// measure returns what is free on disks. A dry run adds what would be freed to what was free at its begin.
func (p Place) measure(ctx context.Context, got *Collected) (m *measured, err error) {
	m = &measured{disks: p.Disks, dryRun: got.DryRun, before: map[string]uint64{}, freed: map[string]uint64{}}
	if m.dryRun {
		m.cache, err = p.Cache.Usage(ctx)
		m.cache = m.cache.Without(got.Entries)
	}
	return m, err
}

// measured is what is known of disks.
type measured struct {
	disks  Disks
	dryRun bool
	cache  store.Usage       // of a dry run: what would be left of the cache
	before map[string]uint64 // by disk
	freed  map[string]uint64 // by disk
}

func (m *measured) free(ctx context.Context, folder string) (uint64, error) {
	if !m.dryRun {
		return m.disks.DiskFree(ctx, folder)
	}
	disk := diskOf(folder)
	if _, known := m.before[disk]; !known {
		free, err := m.disks.DiskFree(ctx, folder)
		if err != nil {
			return 0, err
		}
		m.before[disk] = free
	}
	return m.before[disk] + m.freed[disk], nil
}

func (m *measured) add(folder string, bytes int64) { m.freed[diskOf(folder)] += uint64(max(0, bytes)) }

// diskOf tells disks apart, by the folder where the system does not.
func diskOf(folder string) string {
	if device, ok := host.Device(folder); ok {
		return strconv.FormatUint(device, 10)
	}
	return folder
}
