//go:build !linux && !darwin

package owner

// machineID returns "": on this system the host's name alone identifies it.
func machineID() string { return "" }

// bootID returns "": this system has no such ID.
func bootID() (string, error) { return "", nil }
