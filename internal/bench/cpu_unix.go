//go:build unix

package bench

import (
	"syscall"
	"time"
)

// ProcessCPU returns the CPU time that this process took so far, its own and the kernel's for it.
func ProcessCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
