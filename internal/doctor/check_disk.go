package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

const (
	// usualLogs is room, in bytes, for the output of image builds, a server's log, and earlier runs. A quiet run on the
	// CPU took less than 20 KiB.
	usualLogs = 16 * units.MiB
	// LocalImagesNeed is room, in bytes, for the two local images, and for more than as much again: the layers and
	// downloads of their builds.
	LocalImagesNeed = 6 * units.GiB
)

// images names NVIDIA's images and where they are, or the base of the local ones.
func (x *Examination) images() Finding {
	t := x.Target()
	if t.Source == target.Local {
		// It is not known whether the images are here. Of a silent disk its own check tells.
		if _, err := x.planned(); err != nil && !errors.Is(err, host.ErrSilentDisk) {
			return failed(err, "")
		}
		if t.BaseFound == "" {
			return Finding{}
		}
		return Finding{Status: OK, Saw: fmt.Sprintf("the local images are built on %s (%s)", t.BaseImage, t.BaseFound)}
	}
	both := []target.ImageInfo{t.Images.Exporter, t.Images.Server}
	descriptions := make([]string, len(both))
	for i, image := range both {
		if image.Unknown != "" {
			return Finding{}
		}
		descriptions[i] = fmt.Sprintf("%s (%s)", image.Ref, image.Found)
		if bytes := image.Image.Compressed(); bytes > 0 {
			descriptions[i] = fmt.Sprintf("%s (%s, %s)", image.Ref, image.Found, bytesize.Format(bytes))
		}
	}
	return Finding{Status: OK, Saw: strings.Join(descriptions, ", ")}
}

// imageDisk reports how much is free on the container engine's disk. A disk on another host or in a virtual machine
// cannot be measured from here.
func (x *Examination) imageDisk() Finding {
	t := x.Target()
	if t.Source == target.NGC {
		if t.ImageRoom == "" {
			return Finding{}
		}
		return Finding{Status: OK, Saw: t.ImageRoom}
	}
	info, _ := x.info()
	dir := cmp.Or(info.ImageDir, info.RootDir)
	if dir == "" || x.Probes.Runtime.Remote() {
		return Finding{}
	}
	return x.localImagesRoom(dir)
}

// localImagesRoom warns if there is no room for the local images that are not there, and for their build.
func (x *Examination) localImagesRoom(dir string) Finding {
	free, err := x.Probes.Host.DiskFree(x.ctx, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return Finding{} // in a virtual machine, or not for us to see
	}
	if err != nil {
		return Finding{Status: Warn, Saw: err.Error()}
	}
	plan, err := x.planned()
	var missing []string
	for _, p := range plan {
		if p.ImageMissing {
			missing = append(missing, string(p.Step))
		}
	}
	room := fmt.Sprintf("%s: %s are free", dir, bytesize.Format(free))
	if err == nil && len(missing) == 0 {
		return Finding{Status: OK, Saw: room + ", and no image is to be built"}
	}
	need := int64(LocalImagesNeed)
	purpose := "the local images and their build"
	if len(missing) == 1 {
		need, purpose = LocalImagesNeed/2, missing[0]+" and its build"
	}
	f := Finding{Status: OK, Saw: fmt.Sprintf("%s, and %s may need %s", room, purpose, bytesize.Format(need))}
	if free < uint64(need) {
		f.Status, f.Remedy = Warn, remedy.WhatCouldGo
	}
	return f
}

// cacheDisk is cacheRoom with a warning if the cache is not where a user would expect it.
func (x *Examination) cacheDisk() Finding {
	f := x.cacheRoom()
	if x.CacheDoubt != "" {
		f.Saw += "; " + x.CacheDoubt
		if f.Status == OK {
			f.Status = Warn
		}
	}
	return f
}

// cacheRoom reports whether the cache can store the results of a run's steps, and compares those that it lacks with its
// free space. Too little is a failure, and only just enough a warning, since other programs write to the disk too.
func (x *Examination) cacheRoom() Finding {
	f := x.keeps(x.Cache, "--cache-dir", x.SilentCache)
	if f.Status == Fail {
		return f
	}
	switch err := x.cache(); {
	case errors.Is(err, host.ErrSilentDisk):
		return unmeasured(err, "--cache-dir")
	case err != nil:
		return failed(err, "name another folder with --cache-dir")
	}
	free, err := x.free(x.Cache)
	if err != nil {
		return unmeasured(err, "--cache-dir")
	}
	room := fmt.Sprintf("%s: %s are free", x.Cache, bytesize.Format(free))
	spare := "free space there: `" + shell.Line(append([]string{"dalirun", "gc", "--dry-run"}, x.CacheFlags...)...) +
		"` says what of the cache could go; or name a folder on another disk with --cache-dir"
	plan, err := x.planned()
	if _, full := remedy.Disk(err); full || err != nil && free == 0 { // the disk has no room even for the plan's notes
		return Finding{Status: Fail, Saw: room, Remedy: spare}
	}
	if err != nil { // another check shows why the plan is not known
		f.Saw = room
		return f
	}
	var need int64
	for _, p := range plan {
		if p.Runs {
			need += p.Bytes
		}
	}
	return enough(f, x.Cache, free, need, 2*need, "the results that are not there yet take", spare)
}

// workspaceDisk reports whether the workspace can store the logs of runs.
func (x *Examination) workspaceDisk() Finding {
	f := x.keeps(x.Workspace, "--workspace", x.SilentWorkspace)
	if f.Status == Fail {
		return f
	}
	free, err := x.free(x.Workspace)
	if err != nil {
		return unmeasured(err, "--workspace")
	}
	f = enough(f, x.Workspace, free, usualLogs, usualLogs, "the logs of runs may take",
		"free space there; or name a folder on another disk with --workspace")
	if f.Status == Fail && free > 0 {
		f.Status = Warn // a quiet run takes little
	}
	return f
}

// enough adds to f how many bytes are free in dir: fewer than need are a failure, fewer than comfortable a warning.
// purpose says what needs them.
func enough(f Finding, dir string, free uint64, need, comfortable int64, purpose, advice string) Finding {
	room := fmt.Sprintf("%s: %s are free, and %s %s", dir, bytesize.Format(free), purpose, bytesize.Format(need))
	if need == 0 {
		room = fmt.Sprintf("%s: %s are free, and all results are there", dir, bytesize.Format(free))
	}
	switch {
	case float64(free) < float64(need):
		return Finding{Status: Fail, Saw: room, Remedy: advice}
	case f.Status == Warn:
		f.Saw = room + "; " + f.Saw
	case float64(free) < float64(comfortable):
		return Finding{Status: Warn, Saw: room, Remedy: advice}
	default:
		f.Saw = room
	}
	return f
}

// free returns how many bytes are free where a folder is, or would be made: in the nearest parent that is there.
func (x *Examination) free(folder string) (uint64, error) {
	for {
		free, err := x.Probes.Host.DiskFree(x.ctx, folder)
		parent := filepath.Dir(folder)
		if parent == folder || !errors.Is(err, fs.ErrNotExist) {
			return free, err
		}
		folder = parent
	}
}

// unmeasured returns the finding for a disk that does not say what is free: a run waits for one that does not answer,
// and may write to another.
func unmeasured(err error, flag string) Finding {
	if errors.Is(err, host.ErrSilentDisk) {
		return Finding{
			Status: Fail, Saw: err.Error(),
			Remedy: remedy.SilentDisk + ", or name another folder with " + flag,
		}
	}
	return Finding{Status: Warn, Saw: err.Error()}
}

// keeps reports whether this user may write to a folder of dalirun, or make it, and to the folders in it. A disk that
// does not answer fails, and is not asked again if it is known to be silent.
func (x *Examination) keeps(root, flag string, silent error) Finding {
	if silent != nil {
		return unmeasured(silent, flag)
	}
	f, err := host.OnDisk(x.ctx, host.DiskWithin, root, func() (Finding, error) { return x.mayWrite(root, flag), nil })
	if err != nil {
		return unmeasured(err, flag)
	}
	return f
}

// mayWrite is keeps, for as long as the disk takes.
func (x *Examination) mayWrite(root, flag string) Finding {
	folders := []string{root}
	below, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return x.forbidden(err, root, flag)
	}
	for _, entry := range below {
		if entry.IsDir() {
			folders = append(folders, filepath.Join(root, entry.Name()))
		}
	}
	for _, folder := range folders {
		if err := x.Host.Writable(folder); err != nil {
			return x.forbidden(err, folder, flag)
		}
	}
	for _, folder := range folders {
		if uid, ok := x.Host.Owner(folder); ok && uid != os.Geteuid() {
			return Finding{
				Status: Warn,
				Saw: fmt.Sprintf("%s belongs to %s, who may not be able to write what %s leaves there",
					folder, userName(uid), userName(os.Geteuid())),
				Remedy: "run dalirun as " + userName(uid) + ", or name another folder with " + flag,
			}
		}
	}
	return Finding{Status: OK, Saw: root}
}

// forbidden returns the finding for a folder that this user cannot write to or make.
func (x *Examination) forbidden(err error, folder, flag string) Finding {
	if hint, ok := remedy.Disk(err); ok {
		return Finding{Status: Fail, Saw: err.Error(), Remedy: hint}
	}
	f := Finding{
		Status: Fail, Saw: err.Error(),
		Remedy: "let yourself write there (`ls -ld` shows the rights), or name another folder with " + flag,
	}
	denied := folder
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		denied = failed.Path
	}
	uid, known := x.Host.Owner(denied)
	if !errors.Is(err, fs.ErrPermission) || !known || uid == os.Geteuid() {
		return f
	}
	f.Saw += "; it belongs to " + userName(uid)
	f.Remedy = fmt.Sprintf("`sudo chown -R %d %s`, if nobody else needs it, or name another folder with %s",
		os.Geteuid(), folder, flag)
	if denied != folder {
		f.Remedy = fmt.Sprintf("`sudo install -d -o %d %s`, or name another folder with %s", os.Geteuid(), folder, flag)
	}
	return f
}

// userName returns the name of a user ID.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "user " + u.Username
	}
	return fmt.Sprintf("user %d", uid)
}

// failed returns the finding for an error, with its own hint or else the remedy otherwise.
func failed(err error, otherwise string) Finding {
	hint := pipeline.HintOf(err)
	if fault, ok := remedy.EngineFault(err); ok {
		hint = fault.Hint
	}
	return Finding{Status: Fail, Saw: err.Error(), Remedy: cmp.Or(hint, otherwise)}
}
