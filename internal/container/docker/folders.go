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

// errOtherFolders is that a path is not the same for the engine as for this process.
var errOtherFolders = errors.New("the container engine has other folders than this process")

// folders is what is known of the file systems that this process sees, by their mount points: true where the engine sees
// the same. A job that is a container itself may share some with the engine, such as its sources, and not its home.
type folders map[string]bool

// copies says whether the inputs and outputs of a Spec are copied rather than mounted.
func (r *Runtime) copies(spec container.Spec) bool {
	if r.remote || r.options.Transfer == TransferCopy {
		return true
	}
	return slices.ContainsFunc(mountsOf(spec), func(m container.Mount) bool {
		same, known := r.sees(m)
		return known && !same
	})
}

func mountsOf(spec container.Spec) []container.Mount { return slices.Concat(spec.Inputs, spec.Outputs) }

func (r *Runtime) sees(m container.Mount) (same, known bool) {
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

// tellOfCopies says once that folders are copied, where nobody asked for that.
func (r *Runtime) tellOfCopies() {
	if r.options.Transfer == TransferCopy || r.options.Notice == nil {
		return
	}
	r.told.Do(func() {
		r.options.Notice("folders of this process are not those of the container engine at " + r.endpoint + ": they are copied")
	})
}

// missing says whether the engine refused to create a container since it lacks a source that is here, and notes that.
// Podman 4.3 refuses none: it makes what is missing, which compare finds then.
func (r *Runtime) missing(spec container.Spec, refused error) bool {
	for _, m := range mountsOf(spec) {
		lacks := strings.HasSuffix(refused.Error(), "bind source path does not exist: "+m.Source)
		if _, err := os.Stat(m.Source); lacks && err == nil {
			r.note(m, false)
			return true
		}
	}
	return false
}

// compare looks whether what a created container would have mounted is what is here, or returns errOtherFolders.
//
// The engine is asked once for each file system, of a file or folder by its size and its time: that needs no container
// that runs, and nothing to be written into folders of the user's or of a cache. Two that were made apart differ in
// their times, which count nanoseconds.
func (r *Runtime) compare(ctx context.Context, id string, spec container.Spec) error {
	if r.copies(spec) {
		return nil
	}
	for _, m := range mountsOf(spec) {
		if _, known := r.sees(m); known {
			continue
		}
		theirs, err := r.api.ContainerStatPath(ctx, id, m.Target)
		if err != nil {
			continue // a proxy before the engine may let no such question through: the mount is the user's word then
		}
		own, err := os.Stat(m.Source)
		if err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
		same := own.IsDir() == theirs.Mode.IsDir() && own.ModTime().Equal(theirs.Mtime) &&
			(own.IsDir() || own.Size() == theirs.Size)
		r.note(m, same)
		if !same {
			return errOtherFolders
		}
	}
	return nil
}

// mountPoint returns where the file system begins that has a path, or the path itself where that is not known.
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

// mountinfo is that of proc_pid_mountinfo(5). There is none but on Linux.
const mountinfo = "/proc/self/mountinfo"

// longestPoint finds the mount point that is nearest above path.
func longestPoint(mounts, path string) string {
	const point = 4 // of the fields
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	longest := string(filepath.Separator)
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) <= point {
			continue
		}
		at := unescape.Replace(fields[point])
		below := path == at || strings.HasPrefix(path, strings.TrimSuffix(at, "/")+"/")
		if below && len(at) > len(longest) {
			longest = at
		}
	}
	return longest
}
