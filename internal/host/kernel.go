package host

import (
	"context"
	"io/fs"
	"regexp"
	"strings"
)

// mostKernelLog bounds what is read of the kernel's log, in bytes. Its buffer has 256 KiB to a few MiB.
const mostKernelLog = 8 << 20

// kernelLines are those of GPUs and of memory that ran out. NVIDIA's are "NVRM: Xid (PCI:0000:06:00): 79, …", see
// https://docs.nvidia.com/deploy/xid-errors.
var kernelLines = regexp.MustCompile(`NVRM: |Out of memory: |oom-kill:|Memory cgroup out of memory`)

// KernelLog returns the lines of the kernel's log about GPUs and about memory that ran out, since the machine started.
// It is empty where the log may not be read, as by most users.
func (s System) KernelLog(ctx context.Context) []string {
	text, err := OnDisk(ctx, DiskWithin, "/dev/kmsg", s.kernelLog)
	if err != nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(text) {
		// A record is "6,1234,5678,-;text"; lines that begin with a space say more of the one before.
		if _, said, ok := strings.Cut(line, ";"); ok && kernelLines.MatchString(said) {
			found = append(found, strings.TrimSpace(said))
		}
	}
	return found
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
