package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/printable"
)

// Leases are the leases of this host's GPUs: of all jobs that share a folder, one at a time has that of a GPU. A lease
// is the lock of a file, one for each GPU or MIG instance by its UUID. The kernel drops the lock when its process ends,
// however it ends.
//
// Any user of the host can hold a lease, as any of them can use a GPU. So what a file says of its holder is shown, and
// nothing else is done by it.
type Leases struct {
	// Folder is one where every user may make files, and only their owners may replace them; see [SharedLeases].
	Folder string
	// Poll is how long a lease that somebody else has is left alone before it is tried again; zero is 100 ms.
	Poll time.Duration

	missing error // why there is no such folder
}

// SharedLeases are the leases of this host, whose folder is the same for every user of it: the first of /run/lock,
// which is for lock files and is emptied at each start of the host, and /tmp, in which every user may make files and
// only their owners may replace them. Newer systems keep /run/lock to root. TMPDIR does not count: it may be a user's
// own. Where neither serves no GPU has a lease.
func SharedLeases() Leases {
	folder, err := leaseFolder("/run/lock", "/tmp")
	return Leases{Folder: folder, missing: err}
}

// usualPoll is well below the second in which a lease should be had that has become free.
const usualPoll = 100 * time.Millisecond

// Holder says who has a lease, in words of its own. Its texts are single lines without control characters.
type Holder struct {
	PID       int       `json:"pid"`
	Host      string    `json:"host"` // its name: that of a container for a process in one, whose PID is of that container
	User      string    `json:"user"`
	Command   string    `json:"command"`   // dalirun e2e
	Run       string    `json:"run"`       // ID; empty for a command without one
	Workspace string    `json:"workspace"` // absolute
	Doing     string    `json:"doing"`     // "builds an engine"
	Since     time.Time `json:"since"`     // when it got the lease
}

// String is who does what, as in "PID 123 of maria builds an engine, since 14:05:31 (`dalirun e2e`, run …, in /w)". Of
// a holder that does not say who it is, it says that.
func (h Holder) String() string {
	if h.PID == 0 {
		return "a process that does not say who it is builds or measures"
	}
	text := fmt.Sprintf("PID %d", h.PID)
	if h.User != "" {
		text += " of " + h.User
	}
	if name, err := os.Hostname(); err == nil && h.Host != "" && h.Host != name {
		text += " in " + h.Host
	}
	text += " " + cmp.Or(h.Doing, "builds or measures")
	if !h.Since.IsZero() {
		text += ", since " + h.Since.Local().Format(time.TimeOnly)
	}
	var about []string
	if h.Command != "" {
		about = append(about, "`"+h.Command+"`")
	}
	if h.Run != "" {
		about = append(about, "run "+h.Run)
	}
	if h.Workspace != "" {
		about = append(about, "in "+h.Workspace)
	}
	if len(about) == 0 {
		return text
	}
	return text + " (" + strings.Join(about, ", ") + ")"
}

// LeaseObserver is told of what happens to leases that are taken. Both fields are required.
type LeaseObserver struct {
	// Busy is called when the wait for a GPU begins, with who has it, and again with each other holder.
	Busy func(GPU, Holder)
	// Unguarded is called for a GPU of which there can be no lease, with the reason.
	Unguarded func(GPU, error)
}

// BusyError says that somebody else had a GPU's lease for all of the wait.
type BusyError struct {
	GPU    GPU
	Holder Holder
	Waited time.Duration // 0 if it was not waited for
}

// Error says who has which GPU.
func (e *BusyError) Error() string {
	if e.Waited == 0 {
		return fmt.Sprintf("%s is not free: on it %s", e.GPU.Title(), e.Holder)
	}
	return fmt.Sprintf("%s was not free for %s: on it %s", e.GPU.Title(), e.Waited, e.Holder)
}

// Lease is what [Leases.Take] took.
type Lease struct {
	files []*os.File
	// Abandoned says that a process had one of the leases before and ended without [Lease.Release], as one that is
	// killed does: something of it may still be on the GPU.
	Abandoned bool
}

// Title is the GPU or instance for people: GPU 0 (NVIDIA H100 80GB HBM3), or its UUID where that alone is known.
func (g GPU) Title() string {
	if g.Index < 0 && g.Part == "" {
		return g.UUID
	}
	return describe("GPU "+g.Address(), g.Name, "")
}

// Take takes the leases of GPUs for a process that calls itself me, in the order of their UUIDs, so that two processes
// never wait for each other. It waits for all of them together. A GPU without a UUID has no lease.
//
// The error is a [*BusyError] after the wait, and the cause of ctx at once when that ends; nothing is held then. A
// process that takes a lease which it has already waits for itself.
func (l Leases) Take(
	ctx context.Context, gpus []GPU, me Holder, wait time.Duration, o LeaseObserver,
) (*Lease, error) {
	gpus = slices.SortedFunc(slices.Values(gpus), func(a, b GPU) int { return strings.Compare(a.UUID, b.UUID) })
	gpus = slices.CompactFunc(gpus, func(a, b GPU) bool { return a.UUID == b.UUID })
	end := time.Now().Add(wait)
	taken := &Lease{}
	for _, gpu := range gpus {
		unguarded := l.missing
		if gpu.UUID == "" {
			unguarded = errors.New("its UUID is not known")
		}
		if unguarded != nil {
			o.Unguarded(gpu, unguarded)
			continue
		}
		file, err := l.wait(ctx, gpu, end, o.Busy)
		if busy, ok := errors.AsType[*BusyError](err); ok {
			busy.Waited = wait
		}
		switch {
		case err == nil:
			taken.add(file, me)
		case ctx.Err() != nil || errors.As(err, new(*BusyError)):
			taken.Release()
			return nil, err
		default:
			o.Unguarded(gpu, err)
		}
	}
	return taken, nil
}

// wait returns the locked file of a GPU.
func (l Leases) wait(ctx context.Context, gpu GPU, end time.Time, busy func(GPU, Holder)) (*os.File, error) {
	tick := time.NewTicker(cmp.Or(l.Poll, usualPoll))
	defer tick.Stop()
	var last *Holder
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		file, holder, err := lockFile(l.path(gpu))
		if err != nil || file != nil {
			return file, err
		}
		late := !time.Now().Before(end)
		// Who has just got a lease says so an instant later: until then the file has the one before, or nobody, as it has
		// just before a lease is given back.
		if known := holder.PID > 0; late || attempt > 0 && known || attempt > namelessFor {
			if !late && (last == nil || *last != holder) {
				busy(gpu, holder)
			}
			last = &holder
		}
		if late {
			return nil, &BusyError{GPU: gpu, Holder: holder}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// namelessFor is how many looks a holder may take to say who it is. On a busy machine it was seen to take two.
const namelessFor = 10

// path is the file of a GPU. Older drivers name instances with slashes: MIG-GPU-UUID/7/0.
func (l Leases) path(gpu GPU) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, gpu.UUID)
	return filepath.Join(l.Folder, "dalirun-"+name+".lock")
}

// add notes in a locked file who has it. Who cannot be noted has it all the same.
func (l *Lease) add(file *os.File, me Holder) {
	l.files = append(l.files, file)
	before, err := file.Stat()
	l.Abandoned = l.Abandoned || err == nil && before.Size() > 0
	me.Since = time.Now().UTC().Truncate(time.Second)
	if text, err := json.Marshal(me); err == nil && file.Truncate(0) == nil {
		_, _ = file.WriteAt(text, 0)
	}
}

// Release lets others have the GPUs. It may be called twice.
func (l *Lease) Release() {
	for _, file := range l.files {
		_ = file.Truncate(0) // else the next one looks for what is left over, and finds nothing
		unlockFile(file)
	}
	l.files = nil
}

// mostHolder is longer than what any holder says of itself: a path has at most 4,096 bytes.
const mostHolder = 16 << 10

// readHolder reads who has a file. It is zero if that cannot be understood, as while it is being written.
func readHolder(file io.ReaderAt) Holder {
	var h Holder
	text, err := io.ReadAll(io.NewSectionReader(file, 0, mostHolder))
	if err != nil || json.Unmarshal(text, &h) != nil || h.PID <= 0 {
		return Holder{}
	}
	for _, text := range []*string{&h.Host, &h.User, &h.Command, &h.Run, &h.Workspace, &h.Doing} {
		const most = 256 // for people
		if *text = printable.Line(*text); len(*text) > most {
			*text = strings.ToValidUTF8((*text)[:most], "") + "…"
		}
	}
	return h
}
