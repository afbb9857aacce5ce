package owner

import "golang.org/x/sys/unix"

// machineID returns the ID of this installation, or "".
func machineID() string {
	id, err := unix.Sysctl("kern.uuid")
	if err != nil {
		return ""
	}
	return id
}

// bootID returns the ID of this boot. The time of the boot, kern.boottime, cannot serve as one: it changes when the
// clock is set.
func bootID() (string, error) { return unix.Sysctl("kern.bootsessionuuid") }
