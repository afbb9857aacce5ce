// Package container has the interfaces and the plain data by which dalirun runs containers, finds images and builds
// them.
//
// [Runner], [Images] and [Builder] are what a place can do; a [Runtime] does all three.
// [github.com/dalirun/dalirun/internal/container/docker] implements them on the Docker Engine API and containertest on
// nothing at all. "Engine" is reserved for a serialized TensorRT engine.
package container

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// Errors that an implementation maps its own to, so that nobody else matches text. Test with [errors.Is]; the wrapping
// error names what was tried and on what.
var (
	// ErrUnreachable: no container runtime answers at the endpoint.
	ErrUnreachable = errors.New("container engine does not answer")
	// ErrSettings: it is there, but what the user's environment says of how to talk to it is wrong.
	ErrSettings = errors.New("the container engine cannot be talked to as the environment says")
	// ErrPermission: it is there, but this user may not talk to it.
	ErrPermission = errors.New("permission denied")
	// ErrNotFound: no such image or container, here or (for Pull) in the registry.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the registry wants credentials, or other ones.
	ErrDenied = errors.New("access denied by the registry")
	// ErrRegistry: the registry cannot be reached or fails.
	ErrRegistry = errors.New("registry cannot be reached")
	// ErrNoGPU: the runtime cannot give a container the GPUs that were asked for.
	ErrNoGPU = errors.New("the container engine cannot provide the GPU")
	// ErrNoInit: the runtime lacks the small init that Spec.Init asks for.
	ErrNoInit = errors.New("the container engine has no docker-init")
	// ErrPortTaken: a required host port is in use.
	ErrPortTaken = errors.New("port is in use")
	// ErrNoSpace: the disk that holds images and containers is full.
	ErrNoSpace = errors.New("no space left on device")
)

// A Runner runs containers. All methods are safe for concurrent use.
type Runner interface {
	// Info asks the runtime what it is. It answers within 2 s (10 s where the endpoint is another host) or returns
	// ErrUnreachable or ErrPermission, naming the endpoint.
	Info(ctx context.Context) (Info, error)
	// Run creates, starts and follows a container. When it returns an error nothing is left behind; otherwise the
	// caller removes the container. Output arrives at out from the first byte; a nil writer discards. ctx bounds the
	// start alone: output is followed until the container ends, so that a drained server's last words are heard.
	Run(ctx context.Context, spec Spec, out Streams) (Container, error)
	// Open finds a container that another process started, by ID or name, or returns ErrNotFound.
	Open(ctx context.Context, id string) (Container, error)
	// List returns the containers, running or not, that carry all the given labels. An empty value matches every value.
	List(ctx context.Context, labels Labels) ([]Summary, error)
	// Remove kills and removes a container and its anonymous volumes. Removing what is not there is no error.
	Remove(ctx context.Context, id string) error
	// Repeat returns the shell line that repeats spec by hand.
	Repeat(spec Spec) string
}

// Images are those that a Runner can run. All methods are safe for concurrent use.
type Images interface {
	// Resolve describes an image that is here, by reference or ID, or returns ErrNotFound. It never asks a registry.
	Resolve(ctx context.Context, ref string) (Image, error)
	// Login returns the credentials that are stored for a registry, HOST or HOST:PORT, and that Ensure would use; the zero Login if there are
	// none. A program may be asked for them; when ctx ends first, its cause is returned.
	Login(ctx context.Context, registry string) (Login, error)
	// Ensure fetches ref from its registry. Errors: ErrNotFound, ErrDenied, ErrRegistry, ErrNoSpace.
	Ensure(ctx context.Context, ref string, onProgress func(Progress)) (Image, error)
}

// A Builder builds images where a Runner can run them. Not every place can.
type Builder interface {
	// Build makes an image from spec and tags it. A failed build returns a *BuildError.
	Build(ctx context.Context, spec BuildSpec, onProgress func(Progress)) (Image, error)
}

// A Runtime does all three, as a container engine does.
type Runtime interface {
	Runner
	Images
	Builder
}

// A Container is one that was started.
type Container interface {
	// ID is the runtime's full identifier.
	ID() string
	// Name is the name that the runtime shows to people.
	Name() string
	// Addr returns where a published container port answers on the runtime's host: an address of this host or of
	// another one, see Info.OtherLoopback. Whoever wants to talk to the port takes Dial.
	Addr(ctx context.Context, port uint16) (netip.AddrPort, error)
	// Dial connects to a TCP port of the container, published or not, wherever the runtime is. It returns within 30 s.
	// Where nobody listens on the port it returns an error, or a connection that breaks at once. The connection
	// outlives ctx; it breaks at the latest when the container ends.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
	// Exec runs argv inside and returns its exit code.
	Exec(ctx context.Context, argv []string, out Streams) (int, error)
	// Stop sends the stop signal, and kills after grace. A zero grace kills at once. Stopping a dead container is no error.
	Stop(ctx context.Context, grace time.Duration) error
	// Wait returns how the container ended, after the last byte of its output was written to the Streams.
	Wait(ctx context.Context) (Exit, error)
}

// Streams receive a container's output. Writers are called from one goroutine each; nil discards.
type Streams struct{ Stdout, Stderr io.Writer }

// Exit says how a container ended.
type Exit struct {
	Code int
	OOM  bool // killed by the kernel for memory
}

// Info describes a runtime.
type Info struct {
	Endpoint   string // such as unix:///var/run/docker.sock
	Name       string // product, such as "Docker Engine" or "Podman Engine"
	Version    string
	APIVersion string
	Arch       string // Go's name: amd64, arm64
	CPUs       int
	Memory     int64  // bytes
	RootDir    string // where it stores containers and volumes, a path on its own host
	ImageDir   string // where it stores images, a path on its own host; empty if it does not tell, as with containerd's image store
	Rootless   bool
	Remote     bool // on another host: its GPUs, its disks and its ports are not those of this one
	// OtherLoopback says that the loopback address on which ports are published is not this process's: the runtime is on
	// another host, or this process is a container itself.
	OtherLoopback bool
	Runtimes      []string
	CDIDevices    []string // those of NVIDIA's GPUs, such as nvidia.com/gpu=all
}

// Image describes a local image.
type Image struct {
	ID      string   // content address of its configuration: sha256:…
	Digest  string   // registry digest sha256:…, empty for an image that was built here
	Tags    []string // references that name it
	Labels  Labels
	Env     map[string]string
	Arch    string   // Go's name
	Layers  []string // digests of the unpacked layers: sha256:…
	Size    int64    // bytes, uncompressed
	Created time.Time
}

// Login are the credentials of a registry: a name and a password, or one of two kinds of tokens.
type Login struct{ Username, Password, IdentityToken, RegistryToken string }

// Labels are a container's or an image's key-value pairs.
type Labels map[string]string

// Progress is one step of a pull or a build. Total is zero where it is not known; both are bytes.
type Progress struct {
	Text           string
	Current, Total int64
}

// BuildSpec says how to build an image.
type BuildSpec struct {
	Tag        string
	Dockerfile []byte
	Files      map[string][]byte // the rest of the build context, by slash path; all of them executable
	Args       map[string]string
	Labels     Labels
	Network    string // "host", or "" for the runtime's default
}

// A BuildError is a build that ran and failed.
type BuildError struct {
	Tag    string
	Reason string   // the runtime's words
	Tail   []string // the last lines of the build's output
}

// Error says which image could not be built and why.
func (e *BuildError) Error() string { return "build " + e.Tag + ": " + e.Reason }

// Summary is one row of List.
type Summary struct {
	ID      string
	Name    string
	Image   string
	Labels  Labels
	Running bool
	Created time.Time
	Ports   map[uint16]netip.AddrPort // container port → host address; TCP only
}
