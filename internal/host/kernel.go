package host

import (
	"context"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// mostKernelLog bounds what is read of the kernel's log, in bytes. Its buffer has 256 KiB to a few MiB.
const mostKernelLog = 8 << 20

// kernelLines are those of GPUs and of memory that ran out. NVIDIA's are "NVRM: Xid (PCI:0000:06:00): 79, …", see
// https://docs.nvidia.com/deploy/xid-errors.
var kernelLines = regexp.MustCompile(`NVRM: |Out of memory: |oom-kill:|Memory cgroup out of memory`)

// KernelMark is a place in the kernel's log: what is said later comes after it.
type KernelMark struct {
	known    bool
	sequence uint64 // of the last record: the kernel counts them
}

// KernelMark returns the end of the kernel's log, from which [System.KernelLog] goes on. Times would not do: the
// kernel's clock stands still while a machine sleeps, and drifts away from every other.
func (s System) KernelMark(ctx context.Context) KernelMark {
	mark := KernelMark{}
	for _, r := range s.kernelRecords(ctx) {
		mark = KernelMark{true, r.sequence}
	}
	return mark
}

// KernelLog returns the lines of the kernel's log about GPUs and about memory that ran out, after a mark. It is empty
// where the log may not be read, as by most users.
func (s System) KernelLog(ctx context.Context, after KernelMark) []string {
	var found []string
	if !after.known {
		return nil
	}
	for _, r := range s.kernelRecords(ctx) {
		if r.sequence > after.sequence && kernelLines.MatchString(r.text) {
			found = append(found, r.text)
		}
	}
	return found
}

type kernelRecord struct {
	sequence uint64
	text     string
}

// kernelRecords are those of the kernel's log. A record is "6,1234,5678901,-;text", with its number and its time; lines
// that begin with a space say more of the one before.
func (s System) kernelRecords(ctx context.Context) []kernelRecord {
	text, err := OnDisk(ctx, DiskWithin, "/dev/kmsg", s.kernelLog)
	if err != nil {
		return nil
	}
	var all []kernelRecord
	for line := range strings.Lines(text) {
		head, said, ok := strings.Cut(line, ";")
		fields := strings.Split(head, ",")
		const numbered = 3
		if !ok || len(fields) < numbered {
			continue
		}
		if sequence, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
			all = append(all, kernelRecord{sequence, strings.TrimSpace(said)})
		}
	}
	return all
}

func (s System) kernelLog() (string, error) {
	const name = "dev/kmsg"
	about, err := fs.Stat(s.Root, name)
	if err != nil {
		return "", err
	}
	if about.Mode()&fs.ModeDevice != 0 {
		return readDevice("/" + name)
	}
	text, err := fs.ReadFile(s.Root, name)
	return string(text), err
}
