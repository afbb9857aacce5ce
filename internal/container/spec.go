package container

import (
	"net/netip"
	"time"
)

// Spec describes a container independently of the runtime: user IDs, labels, free ports and the choice between bind
// mounts and volumes are the implementation's. So the Spec of a step is the same on every machine, and a golden file
// can hold it.
//
// The program runs as the user who runs dalirun, whatever the image says, so that files in outputs are theirs. In a
// rootless runtime that is root, which is the same user outside.
type Spec struct {
	Step    string            `json:"step"` // the step that runs it: part of its name, and a label
	Image   string            `json:"image"`
	Command []string          `json:"command"`       // arguments to the image's own entrypoint
	Env     map[string]string `json:"env,omitempty"` // added to the image's
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
	// time between the stop signal and the kill, when another program stops it
	Grace time.Duration `json:"grace,omitempty"`
	Role  Role          `json:"role"`
	Model string        `json:"model,omitempty"` // of a server: the model that clients ask
}

// Network says what a container can reach.
type Network string

const (
	// NetworkNone has a loopback interface alone.
	NetworkNone Network = "none"
	// NetworkPublish is the runtime's default network, with Spec.Publish on addresses of the runtime's host.
	NetworkPublish Network = "publish"
)

// Role says what happens to a container whose run has ended.
type Role string

const (
	// RoleBatch runs one program and ends.
	RoleBatch Role = "batch"
	// RoleServer serves others, perhaps for longer than the run that started it.
	RoleServer Role = "server"
)

// Port publishes a container's TCP port on an address of the runtime's host.
type Port struct {
	Container uint16     `json:"container"`
	Address   netip.Addr `json:"address,omitzero"`   // zero is 127.0.0.1
	Host      uint16     `json:"host"`               // preferred host port; 0 is any free one
	Required  bool       `json:"required,omitempty"` // ErrPortTaken rather than another port
}

// HostAddress returns the address that the port is published on.
func (p Port) HostAddress() netip.Addr {
	if !p.Address.IsValid() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return p.Address
}

// Mount makes a host file or folder visible in the container.
type Mount struct {
	Source string `json:"source"` // absolute host path that exists
	Target string `json:"target"` // absolute path in the container
}

// The labels of containers and images that dalirun makes. With the workspace and the cache they are its only state.
const (
	LabelRun       = "io.dalirun.run"       // ID of the run that made the container
	LabelStep      = "io.dalirun.step"      // the step that runs it
	LabelRole      = "io.dalirun.role"      // batch or server
	LabelModel     = "io.dalirun.model"     // of a server: the model that clients ask
	LabelHost      = "io.dalirun.host"      // the host whose process holds the run's lock
	LabelJob       = "io.dalirun.job"       // the container of the same runtime in which that process is, if it is in one
	LabelBoot      = "io.dalirun.boot"      // that host's boot ID: after a reboot no process of an older one lives
	LabelWorkspace = "io.dalirun.workspace" // absolute path of the workspace
	LabelExpires   = "io.dalirun.expires"   // RFC 3339: when a batch container may be removed by other hosts
	LabelVersion   = "io.dalirun.version"   // version of dalirun
	LabelBuild     = "io.dalirun.build"     // of a local image: SHA-256 of its build
)
