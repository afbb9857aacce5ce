package owner

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"time"
)

// NoBoot is the boot ID on a system that has none. It does not show a restart, and need not: a lock ends with its
// process, whether or not the machine was restarted.
const NoBoot = "unknown"

// Identity is the host and the time for which [Verdict] decides whose a container is.
type Identity struct {
	Host string    // of [Host]
	Job  string    // the engine's container that this process is in, see [container.Info]; empty if it is in none
	Boot string    // of [Boot]
	Now  time.Time // with which expiries are compared
}

// CurrentIdentity returns the identity of this host and boot, at the time now.
func CurrentIdentity(now time.Time) (Identity, error) {
	host, err := Host()
	if err != nil {
		return Identity{}, err
	}
	boot, err := Boot()
	if err != nil {
		return Identity{}, err
	}
	return Identity{Host: host, Boot: boot, Now: now}, nil
}

// Host identifies this host among those that share a container engine: its name and, where the system has a machine ID,
// a hyphen and 12 hex digits of a hash of it. machine-id(5) asks not to show the ID itself. A container is a host of
// its own: it has another name or, with the host's network, no machine ID and another root file system.
func Host() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this host's name: %w", err)
	}
	return hostOf(name, machineID()), nil
}

// Boot identifies this start of the host's kernel, or is [NoBoot].
func Boot() (string, error) {
	id, err := bootID()
	if err != nil {
		return "", fmt.Errorf("find this host's boot ID: %w", err)
	}
	if id == "" {
		return NoBoot, nil
	}
	return id, nil
}

func hostOf(name, machineID string) string {
	if machineID == "" {
		return name
	}
	h := hmac.New(sha256.New, []byte(machineID))
	h.Write([]byte("io.dalirun.host"))
	return name + "-" + hex.EncodeToString(h.Sum(nil))[:12]
}
