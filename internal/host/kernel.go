package host

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// mostKernelLog bounds what is read of the kernel's log, in bytes. Its buffer has 256 KiB to a few MiB.
const mostKernelLog = 8 << 20

// kernelLines are those of GPUs and of memory that ran out. NVIDIA's are "NVRM: Xid (PCI:0000:06:00): 79, …", see
// https://docs.nvidia.com/deploy/xid-errors.
var kernelLines = regexp.MustCompile(`NVRM: |Out of memory: |oom-kill:|Memory cgroup out of memory`)

// KernelLog returns the lines of the kernel's log about GPUs and about memory that ran out, since a time. It is empty
// where the log may not be read, as by most users.
func (s System) KernelLog(ctx context.Context, since time.Time) []string {
	read := func() ([]string, error) {
		up, err := s.uptime()
		if err != nil {
			return nil, err
		}
		text, err := s.kernelLog()
		return linesSince(text, up-time.Since(since)), err
	}
	lines, err := OnDisk(ctx, DiskWithin, "/dev/kmsg", read)
	if err != nil {
		return nil
	}
	return lines
}

// linesSince returns the known lines of records from a time on, which is that since the machine started. A record is
// "6,1234,5678901,-;text", with its time in microseconds; lines that begin with a space say more of the one before.
func linesSince(text string, since time.Duration) []string {
	var found []string
	for line := range strings.Lines(text) {
		head, said, ok := strings.Cut(line, ";")
		fields := strings.Split(head, ",")
		const timed = 3
		if !ok || len(fields) < timed || !kernelLines.MatchString(said) {
			continue
		}
		at, err := strconv.ParseInt(fields[timed-1], 10, 64)
		// The kernel's clock and the other one drift apart by a second a day at most.
		if err == nil && time.Duration(at)*time.Microsecond >= since-time.Second {
			found = append(found, strings.TrimSpace(said))
		}
	}
	return found
}

// uptime is how long the machine has run, by /proc/uptime.
func (s System) uptime() (time.Duration, error) {
	text, err := fs.ReadFile(s.Root, "proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, errors.New("/proc/uptime says no time")
	}
	return time.Duration(seconds * float64(time.Second)), nil
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
