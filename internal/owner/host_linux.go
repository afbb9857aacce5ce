package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// machineID returns the ID of machine-id(5) or, without one, the ID of the root file system. Most containers have no
// machine ID. Several of them can share their host's name and kernel and not see each other's workspaces: they differ
// in the root file system.
func machineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		data, err := os.ReadFile(path)
		id := strings.TrimSpace(string(data))
		if err == nil && id != "" && id != "uninitialized" {
			return id
		}
	}
	var root syscall.Stat_t
	if err := syscall.Stat("/", &root); err != nil {
		return ""
	}
	return fmt.Sprintf("root %d:%d", root.Dev, root.Ino)
}

// bootID returns the ID of random(4), or "" where /proc is not mounted or not the kernel's own.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}
