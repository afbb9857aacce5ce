package container

import (
	"net/netip"
	"time"
)

// Spec says what a container is for, not how a runtime does it: user IDs, labels, free ports and the choice between
// bind mounts and volumes are the implementation's. So the Spec of a step is the same on every machine, and a golden
// file can hold it.
type Spec struct {
	Step    string            `json:"step"` // the step that it works for: part of its name and a label
	Image   string            `json:"image"`
	Command []string          `json:"command"`       // arguments to the image's own entrypoint
	Env     map[string]string `json:"env,omitempty"` // added to the image's
	User    User              `json:"user"`
	Network Network           `json:"network"`
	Publish []Port            `json:"publish,omitzero"` // only with NetworkPublish

	// Inputs are mounted read-only, Outputs writable. A missing source is an error, never a new folder.
	Inputs  []Mount `json:"inputs,omitempty"`
	Outputs []Mount `json:"outputs,omitempty"`

	ReadOnly bool             `json:"read_only"`        // read-only root file system
	Tmpfs    map[string]int64 `json:"tmpfs,omitempty"`  // path → bytes
	Shm      int64            `json:"shm,omitempty"`    // bytes of /dev/shm; 0 is the runtime's 64 MiB
	Init     bool             `json:"init"`             // a PID 1 that forwards signals and reaps
	Memory   int64            `json:"memory,omitempty"` // bytes; 0 is no limit
	Pids     int64            `json:"pids,omitempty"`   // 0 is no limit
	GPUs     GPUs             `json:"gpus,omitzero"`
	Grace    time.Duration    `json:"grace,omitempty"` // between the stop signal and the kill, when somebody else stops it
	Role     Role             `json:"role"`
}

// User says who a container's process is.
type User string

const (
	// UserCaller is the user who runs dalirun, so that what it writes is theirs (root inside a rootless runtime, which is the same person).
	UserCaller User = "caller"
	// UserImage is the image's own.
	UserImage User = "image"
)

// Network says what a container can reach.
type Network string

const (
	// NetworkNone has no interface but loopback.
	NetworkNone Network = "none"
	// NetworkPublish is the runtime's default network, with Spec.Publish on addresses of the runtime's host.
	NetworkPublish Network = "publish"
)

// Role says what may become of a container whose run is gone.
type Role string

const (
	// RoleBatch does one thing and ends.
	RoleBatch Role = "batch"
	// RoleServer serves others, perhaps for longer than the run that started it.
	RoleServer Role = "server"
)

// Port publishes a container's TCP port on an address of the runtime's host.
type Port struct {
	Container uint16     `json:"container"`
	Address   netip.Addr `json:"address,omitzero"`   // the zero one is 127.0.0.1
	Host      uint16     `json:"host"`               // preferred host port; 0 is any free one
	Required  bool       `json:"required,omitempty"` // ErrPortTaken rather than another port
}

// On is the address that the port is published on.
func (p Port) On() netip.Addr {
	if !p.Address.IsValid() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return p.Address
}

// Mount makes a host file or folder visible inside.
type Mount struct {
	Source string `json:"source"` // absolute host path that exists
	Target string `json:"target"` // absolute path inside
}

// The labels that dalirun puts on what it makes. With the workspace and the cache they are its only state.
const (
	LabelRun       = "io.dalirun.run"       // ID of the run that made it
	LabelStep      = "io.dalirun.step"      // the step it works for
	LabelRole      = "io.dalirun.role"      // batch or server
	LabelHost      = "io.dalirun.host"      // the host whose process holds the run's lock
	LabelBoot      = "io.dalirun.boot"      // that host's boot ID: after a reboot no process of an older one lives
	LabelWorkspace = "io.dalirun.workspace" // absolute path of the workspace
	LabelExpires   = "io.dalirun.expires"   // RFC 3339: from when a batch container of another host may be removed
	LabelVersion   = "io.dalirun.version"   // version of dalirun
	LabelBuild     = "io.dalirun.build"     // on a local image: SHA-256 of what it was built from
)
