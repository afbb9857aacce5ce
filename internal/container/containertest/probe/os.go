package probe

import (
	"context"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// OS is the System of a real container. Environ is its environment, as NAME=value.
type OS struct{ Environ []string }

// Getenv returns a variable's value, the last one where there are several.
func (s OS) Getenv(name string) string {
	for _, e := range slices.Backward(s.Environ) {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// ReadFile reads a file.
func (OS) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// WriteFile writes a file that everyone may read.
func (OS) WriteFile(path string, data []byte) error {
	return os.WriteFile(path, data, 0o644) //nolint:gosec // the test reads it as another user
}

// Modified returns when a file was last modified.
func (OS) Modified(path string) (time.Time, error) {
	about, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return about.ModTime(), nil
}

// IDs returns the process's user and group.
func (OS) IDs() (uid, gid int) { return os.Getuid(), os.Getgid() }

// Interfaces returns the names of the network interfaces other than loopback that are up. Down ones are left out
// because some kernels give every network namespace a tunl0 or sit0.
func (OS) Interfaces() ([]string, error) {
	all, err := net.Interfaces()
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			names = append(names, i.Name)
		}
	}
	return names, err
}

// Listen listens on all addresses of the container.
func (OS) Listen(ctx context.Context, port uint16) (net.Listener, error) {
	var c net.ListenConfig
	return c.Listen(ctx, "tcp4", ":"+strconv.Itoa(int(port)))
}

// Terminated handles SIGTERM from now on.
func (OS) Terminated() <-chan struct{} {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		<-signals
		close(done)
	}()
	return done
}

// Allocate takes n bytes and touches every page.
func (OS) Allocate(n int64) {
	const page = 4096
	memory := make([]byte, n)
	for i := int64(0); i < n; i += page {
		memory[i] = byte(i/page) + 1
	}
}
