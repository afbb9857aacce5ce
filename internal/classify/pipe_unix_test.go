//go:build unix

package classify_test

import "syscall"

// makePipe makes a named pipe.
func makePipe(name string) error { return syscall.Mkfifo(name, 0o600) }
