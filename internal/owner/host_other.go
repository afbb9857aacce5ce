//go:build !linux && !darwin

package owner

// machineID returns "": the host's name alone has to do.
func machineID() string { return "" }

// bootID returns "": this system has no such ID.
func bootID() (string, error) { return "", nil }
