// Package container has the interfaces and the plain data by which dalirun runs containers, finds images and builds
// them.
//
// A container engine is a [Runtime], which is a [Runner] and [Images], and a [Builder].
// [github.com/dalirun/dalirun/internal/container/docker] implements them on the Docker Engine API, and containertest in
// memory. What users read calls it a container engine: "engine" alone is a serialized TensorRT engine.
package container

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// The exit codes that runtimes report for a command that they cannot start: one or the other, by version. Exec returns
// them as if the command had ended so.
const (
	ExitCannotRun = 126
	ExitNotFound  = 127
)

// MissingCommand says whether the exit code of [Container.Exec] is of a command that the container does not have.
func MissingCommand(code int) bool { return code == ExitCannotRun || code == ExitNotFound }

// Advice returns what a runtime itself says is to be done about an error: the first advice among it and what it wraps
// that says something; empty if none does. Its text is for people, and can follow "hint: ".
func Advice(err error) string {
	if advised, ok := err.(interface{ Advice() string }); ok && advised.Advice() != "" { // what it wraps comes below
		return advised.Advice()
	}
	var wrapped []error
	switch err := err.(type) { //nolint:errorlint // this walks the tree itself
	case interface{ Unwrap() error }:
		wrapped = []error{err.Unwrap()}
	case interface{ Unwrap() []error }:
		wrapped = err.Unwrap()
	}
	for _, w := range wrapped {
		if advice := Advice(w); advice != "" {
			return advice
		}
	}
	return ""
}

// The errors to which an implementation maps its own, so that no other code matches text. Test with [errors.Is]; the
// wrapping error names what was tried and on what.
var (
	// ErrUnreachable: no container runtime answers at the endpoint.
	ErrUnreachable = errors.New("container engine does not answer")
	// ErrFailing: the runtime answers what it is with an error of its own.
	ErrFailing = errors.New("container engine answers with an error")
	// ErrSettings: the runtime exists, but the user's environment has wrong settings for its connection.
	ErrSettings = errors.New("the container engine cannot be talked to as the environment says")
	// ErrPermission: the runtime exists, but this user may not connect to it, or may not do there what was tried.
	ErrPermission = errors.New("permission denied")
	// ErrNotFound: there is no such image or container; for Ensure, no such image in the registry.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the registry requires credentials, or other ones.
	ErrDenied = errors.New("access denied by the registry")
	// ErrRegistry: the registry cannot be reached or fails.
	ErrRegistry = errors.New("registry cannot be reached")
	// ErrNoGPU: the runtime cannot give a container the requested GPUs.
	ErrNoGPU = errors.New("the container engine cannot provide the GPU")
	// ErrNoInit: the runtime lacks the init program that Spec.Init requires.
	ErrNoInit = errors.New("the container engine has no docker-init")
	// ErrPortTaken: a required host port is in use.
	ErrPortTaken = errors.New("port is in use")
	// ErrNoAddress: the runtime's host lacks the address that a port is to be published on.
	ErrNoAddress = errors.New("the host has no such address")
	// ErrInUse: a container, or another image, is made of the image.
	ErrInUse = errors.New("the image is used")
	// ErrNoSpace: the disk that holds images and containers is full.
	ErrNoSpace = errors.New("no space left on device")
)

// A Runner runs containers. All methods are safe for concurrent use.
type Runner interface {
	// Info describes the runtime. It returns within 2 s, or 10 s if the endpoint is on another host. Its errors,
	// ErrUnreachable, ErrFailing, ErrSettings or ErrPermission, name the endpoint.
	Info(ctx context.Context) (Info, error)
	// Run creates, starts and follows a container. After an error nothing of it is left; otherwise the caller removes
	// the container. out gets its output from the first byte; a nil writer discards. ctx bounds the start alone: out
	// gets output until the container ends, so that the last lines of a drained server are not lost.
	Run(ctx context.Context, spec Spec, out Streams) (Container, error)
	// Open finds a container that another process started, by ID or name, or returns ErrNotFound.
	Open(ctx context.Context, id string) (Container, error)
	// List returns the containers, running or not, that have all given labels. An empty value matches every value.
	List(ctx context.Context, labels Labels) ([]Summary, error)
	// Remove kills and removes a container and its anonymous volumes. It is no error if there is no such container.
	Remove(ctx context.Context, id string) error
	// Remote reports whether the containers run on another host, whose GPUs, ports and disks are not this one's. It is
	// known without asking.
	Remote() bool
	// Repeat returns the shell command that runs spec by hand.
	Repeat(spec Spec) string
}

// Images are the images that a Runner can run. All methods are safe for concurrent use.
type Images interface {
	// Resolve describes a local image, by reference or ID, or returns ErrNotFound. It never contacts a registry.
	Resolve(ctx context.Context, ref string) (Image, error)
	// Login returns the stored credentials with which Ensure logs in to a registry, HOST or HOST:PORT. It is zero if
	// there are none. A credential helper, which is a program, may supply them; the error is then the cause of ctx if
	// that ends first.
	Login(ctx context.Context, registry string) (Login, error)
	// Ensure fetches ref from its registry. Errors: ErrNotFound, ErrDenied, ErrRegistry, ErrNoSpace.
	Ensure(ctx context.Context, ref string, onProgress func(Progress)) (Image, error)
	// ListImages returns the local images, each with all its Tags and Digests. What else an image has than these, ID,
	// Labels, Size and Created may be missing.
	ListImages(ctx context.Context) ([]Image, error)
	// RemoveImage removes a local image, by ID, with all its tags, and what of it no other image has. It is no error if
	// there is none. ErrInUse: a container, running or not, or another image is made of it, and it stays as it is.
	RemoveImage(ctx context.Context, id string) error
}

// A Builder builds images that a Runner can run. Not every runtime is one: Info.NoBuilder says so beforehand.
type Builder interface {
	// Build makes an image from spec and tags it. A failed build returns a *BuildError.
	Build(ctx context.Context, spec BuildSpec, onProgress func(Progress)) (Image, error)
}

// A Runtime is a Runner and Images. One that is a [Builder] too, as a container engine is, can run local images.
type Runtime interface {
	Runner
	Images
}

// A Container is a container that was started.
type Container interface {
	// ID is the runtime's full identifier.
	ID() string
	// Name is the container's name in the runtime.
	Name() string
	// Addr returns the address on the runtime's host at which a published container port is reached, see DialAddr. That
	// may be another host than this one, see Info.OtherLoopback: to connect to the port, use Dial.
	Addr(ctx context.Context, port uint16) (netip.AddrPort, error)
	// Dial connects to a TCP port of the container, published or not, wherever the runtime is. It returns within 30 s.
	// If no program listens on the port, it returns an error or a connection that breaks at once. The connection
	// outlives ctx, and breaks at the latest when the container ends.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
	// Refresh makes a file or folder below an input as it is at its Source now, with its times. It copies it where the
	// container got a copy of the input, and does nothing where the container sees the input itself. A file may take the
	// place of a folder, and a folder that of a file. Of a folder, files that are gone may remain in a copy. Meanwhile the
	// container may see a part of it.
	Refresh(ctx context.Context, m Mount) error
	// Exec runs argv inside and returns its exit code.
	Exec(ctx context.Context, argv []string, out Streams) (int, error)
	// Stop sends the stop signal, and kills after grace. A paused container goes on for the signal. A zero grace kills at
	// once. It is no error if the container has ended.
	Stop(ctx context.Context, grace time.Duration) error
	// Wait returns how the container ended, after the last byte of its output was written to the Streams.
	Wait(ctx context.Context) (Exit, error)
	// Logs hands each the lines that the container has written since its start, whoever started it, as far as the
	// runtime still keeps them: of a container that writes without end the oldest are gone. With Follow it goes on until
	// the container ends; a removal is an end. Each line is handed on once, those of one stream in order. An error of
	// each ends Logs and is returned, as is the cause of ctx. ErrNotFound: the container is removed.
	Logs(ctx context.Context, options LogOptions, each func(LogLine) error) error
}

// AllLines is the Tail of a log that is not cut.
const AllLines = -1

// LogOptions say which lines of a log are wanted. Of the last Tail lines those since a time are.
type LogOptions struct {
	Follow bool
	// Tail is how many of the last lines that there are; AllLines is all. A runtime may count a line of more than
	// 16 KiB as several.
	Tail  int
	Since time.Time // by the runtime's clock; zero is the container's start
}

// LogLine is a line of a container's output, without its end.
type LogLine struct {
	Time   time.Time // by the runtime's clock
	Stderr bool      // else it is of stdout
	Text   string    // as it came; in parts if it is longer than 64 KiB
}

// Streams receive a container's output. Each writer is called from one goroutine; nil discards.
type Streams struct{ Stdout, Stderr io.Writer }

// Exit says how a container ended.
type Exit struct {
	Code int
	OOM  bool      // killed by the kernel for memory
	At   time.Time // by the runtime's clock; zero if it does not say
}

// Info describes a runtime.
type Info struct {
	Endpoint   string // such as unix:///var/run/docker.sock
	Name       string // product, such as "Docker Engine" or "Podman Engine"
	Version    string
	APIVersion string // in use; empty for a runtime that has none
	APISetting string // the user's setting that says the version, such as DOCKER_API_VERSION; empty if none does
	Arch       string // Go's name: amd64, arm64
	CPUs       int
	Memory     int64  // bytes
	RootDir    string // where it stores containers and volumes, a path on its own host
	// where it stores images, a path on its own host; empty if not known, as with containerd's image store
	ImageDir string
	Rootless bool
	Remote   bool // on another host, with other GPUs, disks and ports than this one's
	// OtherLoopback says that the loopback address on which ports are published is not this process's: the runtime is
	// on another host, or this process is a container itself.
	OtherLoopback bool
	// Job is the ID of the container of this runtime that this process is in, as a CI job is; empty if it is in none, or
	// that is not known.
	Job        string
	NoBuilder  bool // it builds no images, and so runs no local ones
	Runtimes   []string
	CDIDevices []string // of NVIDIA's GPUs, such as nvidia.com/gpu=all
}

// Image describes a local image.
type Image struct {
	ID      string   // content address of its configuration: sha256:…
	Digest  string   // registry digest sha256:…, empty for an image that was built here
	Tags    []string // references that name it
	Digests []string // of a list: references by digest, REPOSITORY@sha256:…
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

// Progress is one step of a pull or a build.
type Progress struct {
	Text           string // of a build, one line of its output without its end
	Current, Total int64  // bytes, or of a build's instruction its number and how many there are; Total 0 is not known
	Instruction    string // the keyword of the build's instruction that the line begins, such as RUN; else empty
}

// BuildSpec says how to build an image.
type BuildSpec struct {
	Tag        string
	Dockerfile []byte
	Files      map[string][]byte // the rest of the build context, by slash path; all files are executable
	Args       map[string]string
	Labels     Labels
	Network    string // "host", or "" for the runtime's default
}

// A BuildError is a build that ran and failed.
type BuildError struct {
	Tag    string
	Reason string   // the runtime's message
	Tail   []string // the last lines of the build's output
}

// Error names the image that could not be built, and the reason.
func (e *BuildError) Error() string { return "build " + e.Tag + ": " + e.Reason }

// Summary is one row of List.
type Summary struct {
	ID      string
	Name    string
	Image   string
	Labels  Labels
	Running bool // also while it is paused
	Paused  bool // its processes are frozen: it takes connections, and answers nothing
	Created time.Time
	Ports   map[uint16]netip.AddrPort // container port → where it is published, see DialAddr; TCP only
}
