package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

const (
	// usualLogs has room for the output of image builds, a server's log, and the runs before. A quiet run on the CPU was seen to pass with 20 KiB.
	usualLogs = 16 * units.MiB
)

// planned is what would become of each step of a run with these options.
type planned struct {
	steps.Options

	rows []pipeline.Planned
}

// plan finds out what would run, as the command of that name does.
func (d *diagnosis) plan() (planned, error) {
	found, err := d.found()
	if err != nil {
		return planned{}, err
	}
	cache, err := d.store()
	if err != nil {
		return planned{}, err
	}
	runtime, err := d.runtime()
	if err != nil {
		return planned{}, err
	}
	stored := func(context.Context) error { return errors.New("they are not in the cache") } // both kinds take the same room
	found.Weights, _, err = d.wishes.takeWeights(d.ctx, cache, stored)
	if err != nil {
		return planned{}, err
	}
	runner := pipeline.Runner{Workspace: d.wishes.workspace, Store: cache, Force: d.wishes.forced()}
	list := steps.For(found.Options, steps.Tools{Runtime: runtime, KV: cache, TimingCache: cache}, steps.IDVerify)
	rows, err := runner.Plan(d.ctx, list)
	return planned{found.Options, rows}, err
}

// cacheDisk is cacheRoom, with a warning if the cache is not the one that a user would expect.
func (d *diagnosis) cacheDisk(context.Context) finding {
	f := d.cacheRoom()
	if doubt := d.wishes.doubt; doubt != "" {
		f.Saw += "; " + doubt
		if f.Status == statusOK {
			f.Status = statusWarn
		}
	}
	return f
}

// cacheRoom says whether what the steps of a run make can be kept in the cache, and compares what is not there yet with what is free. What
// surely has no room is a failure; what only just has is a warning, since others write there too.
func (d *diagnosis) cacheRoom() finding {
	f := d.keeps(d.wishes.cache, "--cache-dir")
	if f.Status == statusFail {
		return f
	}
	if _, err := d.store(); err != nil {
		return failed(onDisk(err), "name another folder with --cache-dir")
	}
	free, err := d.diskFree(d.wishes.cache)
	if err != nil {
		return finding{Status: statusWarn, Saw: err.Error()}
	}
	plan, err := d.planned()
	if _, full := remedy.Disk(err); full || err != nil && free == 0 { // not even a note could be written
		return finding{Status: statusFail, Saw: fmt.Sprintf("%s: %s are free", d.wishes.cache, bytesize.Format(free)), Remedy: d.spare() + "; or name a folder on another disk with --cache-dir"}
	}
	if err != nil { // another check says why it is not known what would run
		f.Saw = fmt.Sprintf("%s: %s are free", d.wishes.cache, bytesize.Format(free))
		return f
	}
	var need int64
	for _, p := range plan.rows {
		if p.Verdict.Kind == pipeline.WillRun || p.Verdict.Kind == pipeline.Depends {
			need += plan.Bytes(p.Step)
		}
	}
	return enough(f, d.wishes.cache, free, need, 2*need, "the results that are not there yet take", d.spare()+"; or name a folder on another disk with --cache-dir")
}

// spare says how to find out what of the cache could go. Its disk may be another one than the container engine's.
func (d *diagnosis) spare() string {
	return "free space there: `" + shell.Line(append([]string{"dalirun", "gc", "--dry-run"}, cacheArgument(d.wishes.cache)...)...) + "` says what of the cache could go"
}

// workspaceDisk says the same of the workspace, which keeps the logs of runs.
func (d *diagnosis) workspaceDisk(context.Context) finding {
	f := d.keeps(d.wishes.workspace, "--workspace")
	if f.Status == statusFail {
		return f
	}
	free, err := d.diskFree(d.wishes.workspace)
	if err != nil {
		return finding{Status: statusWarn, Saw: err.Error()}
	}
	f = enough(f, d.wishes.workspace, free, usualLogs, usualLogs, "the logs of runs may take", "free space there; or name a folder on another disk with --workspace")
	if f.Status == statusFail && free > 0 {
		f.Status = statusWarn // a quiet run takes little
	}
	return f
}

// enough adds to f how many bytes are free: fewer than need are a failure, fewer than comfortable a warning.
func enough(f finding, dir string, free uint64, need, comfortable int64, what, remedies string) finding {
	saw := fmt.Sprintf("%s: %s are free, and %s %s", dir, bytesize.Format(free), what, bytesize.Format(need))
	if need == 0 {
		saw = fmt.Sprintf("%s: %s are free, and all results are there", dir, bytesize.Format(free))
	}
	switch {
	case float64(free) < float64(need):
		return finding{Status: statusFail, Saw: saw, Remedy: remedies}
	case f.Status == statusWarn:
		f.Saw = saw + "; " + f.Saw
	case float64(free) < float64(comfortable):
		return finding{Status: statusWarn, Saw: saw, Remedy: remedies}
	default:
		f.Saw = saw
	}
	return f
}

// keeps says whether this user may keep files in a folder that dalirun made before, or would make, and in those under it.
func (d *diagnosis) keeps(root, flag string) finding {
	folders := []string{root}
	below, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.forbidden(err, root, flag)
	}
	for _, entry := range below {
		if entry.IsDir() {
			folders = append(folders, filepath.Join(root, entry.Name()))
		}
	}
	for _, folder := range folders {
		if err := d.writable(folder); err != nil {
			return d.forbidden(err, folder, flag)
		}
	}
	for _, folder := range folders {
		if uid, ok := d.owner(folder); ok && uid != os.Geteuid() {
			return finding{
				Status: statusWarn, Saw: fmt.Sprintf("%s belongs to %s, who may not be able to write what %s leaves there", folder, userName(uid), userName(os.Geteuid())),
				Remedy: "run dalirun as " + userName(uid) + ", or name another folder with " + flag,
			}
		}
	}
	return finding{Status: statusOK, Saw: root}
}

// forbidden is the finding of a folder that cannot be written, or not be made in the one that it would be in.
func (d *diagnosis) forbidden(err error, folder, flag string) finding {
	if hint, ok := remedy.Disk(err); ok {
		return finding{Status: statusFail, Saw: err.Error(), Remedy: hint}
	}
	f := finding{Status: statusFail, Saw: err.Error(), Remedy: "let yourself write there (`ls -ld` shows the rights), or name another folder with " + flag}
	at := folder
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		at = failed.Path
	}
	uid, known := d.owner(at)
	if !errors.Is(err, fs.ErrPermission) || !known || uid == os.Geteuid() {
		return f
	}
	f.Saw += "; it belongs to " + userName(uid)
	f.Remedy = fmt.Sprintf("`sudo chown -R %d %s`, if nobody else needs it, or name another folder with %s", os.Geteuid(), folder, flag)
	if at != folder {
		f.Remedy = fmt.Sprintf("`sudo install -d -o %d %s`, or name another folder with %s", os.Geteuid(), folder, flag)
	}
	return f
}

// userName is whom a user ID stands for.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "user " + u.Username
	}
	return fmt.Sprintf("user %d", uid)
}

// localRoom warns if there is no room for the local images that are not there, and for their build.
func (d *diagnosis) localRoom(dir string) finding {
	free, err := d.diskFree(dir)
	if err != nil {
		return finding{Status: statusWarn, Saw: err.Error()}
	}
	plan, err := d.planned()
	var missing []string
	for _, p := range plan.rows {
		if absent(p) {
			missing = append(missing, string(p.Step))
		}
	}
	if err == nil && len(missing) == 0 {
		return finding{Status: statusOK, Saw: fmt.Sprintf("%s: %s are free, and no image is to be built", dir, bytesize.Format(free))}
	}
	need := int64(localNeed)
	what := "the local images and their build"
	if len(missing) == 1 {
		need, what = localNeed/2, missing[0]+" and its build"
	}
	f := finding{Status: statusOK, Saw: fmt.Sprintf("%s: %s are free, and %s may need %s", dir, bytesize.Format(free), what, bytesize.Format(need))}
	if free < uint64(need) {
		f.Status, f.Remedy = statusWarn, whatCouldGo
	}
	return f
}
