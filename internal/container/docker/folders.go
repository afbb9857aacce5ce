package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
)

// errOtherFolders says that a path is another file or folder for the engine than for this process.
var errOtherFolders = errors.New("the container engine has other folders than this process")

// folders says, by mount point, which of this process's file systems the engine sees too. A job that is a container
// itself may share some with the engine, such as its sources, and others not, such as its home.
type folders map[string]bool

// copies reports whether the inputs and outputs of a Spec are copied rather than mounted.
func (r *Runtime) copies(spec container.Spec) bool {
	if r.remote || r.options.Transfer == TransferCopy {
		return true
	}
	return slices.ContainsFunc(mountsOf(spec), func(m container.Mount) bool {
		same, known := r.shares(m)
		return known && !same
	})
}

func mountsOf(spec container.Spec) []container.Mount { return slices.Concat(spec.Inputs, spec.Outputs) }

// shares reports whether the engine sees the file system of a mount's source, if that is known.
func (r *Runtime) shares(m container.Mount) (same, known bool) {
	point := mountPoint(m.Source)
	r.mu.Lock()
	defer r.mu.Unlock()
	same, known = r.folders[point]
	return same, known
}

func (r *Runtime) note(m container.Mount, same bool) {
	point := mountPoint(m.Source)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.folders[point] = same
}

// noticeCopies calls Notice once if folders are copied that the user did not want to be copied.
func (r *Runtime) noticeCopies() {
	if r.options.Transfer == TransferCopy || r.options.Notice == nil {
		return
	}
	r.noticed.Do(func() {
		r.options.Notice("folders of this process are not those of the container engine at " + r.endpoint +
			": they are copied")
	})
}

// missing reports whether the engine refused to create a container because it does not see a source that exists here,
// and notes that. Podman 4.3 makes a missing source instead, which compare finds.
func (r *Runtime) missing(spec container.Spec, refused error) bool {
	for _, m := range mountsOf(spec) {
		isMissing := strings.HasSuffix(refused.Error(), "bind source path does not exist: "+m.Source)
		if _, err := os.Stat(m.Source); isMissing && err == nil {
			r.note(m, false)
			return true
		}
	}
	return false
}

// compare returns errOtherFolders if the mounts of a created container are other files than this process's.
//
// It asks the engine once for each file system, for the size and time of a file or folder. That needs no running
// container, and writes nothing into folders of the user or the cache. Files that were made independently differ in
// their times, which count nanoseconds.
func (r *Runtime) compare(ctx context.Context, id string, spec container.Spec) error {
	if r.copies(spec) {
		return nil
	}
	for _, m := range mountsOf(spec) {
		if _, known := r.shares(m); known {
			continue
		}
		theirs, err := r.api.ContainerStatPath(ctx, id, m.Target)
		if err != nil {
			continue // a proxy before the engine may refuse this request: then the mount is trusted
		}
		local, err := os.Stat(m.Source)
		if err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
		same := local.IsDir() == theirs.Mode.IsDir() && local.ModTime().Equal(theirs.Mtime) &&
			(local.IsDir() || local.Size() == theirs.Size)
		r.note(m, same)
		if !same {
			return errOtherFolders
		}
	}
	return nil
}

// mountPoint returns the mount point of the file system that a path is on, or the path itself if that is not known.
func mountPoint(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	mounts, err := os.ReadFile(mountinfo)
	if err != nil {
		return path
	}
	return longestPoint(string(mounts), path)
}

// longestPoint returns the mount point that is the nearest above path.
func longestPoint(mounts, path string) string {
	longest := string(filepath.Separator)
	for m := range mountsIn(mounts) {
		if isBelow(path, m.point) && len(m.point) > len(longest) {
			longest = m.point
		}
	}
	return longest
}

// isBelow reports whether a clean path is a folder or in it.
func isBelow(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}
