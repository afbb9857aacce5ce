package target_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
)

// machine is a machine for a run, as its probes describe it.
type machine struct {
	gpus              host.GPUs
	gpuErr            error
	kernel, hook, cdi string
	ports             map[uint16]string // in use, and by which program
	portErr           error
	free              uint64 // bytes on the disk of the images; 0 is that there is no such folder here
	diskErr           error

	remote     bool
	info       container.Info
	infoErr    error
	images     map[string]container.Image
	imageErr   error
	containers []container.Summary

	registry    map[string]registry.Image
	registryErr error
	remembered  map[string]map[string]string // environments of images
	unreached   time.Time
	noted       *time.Time // that it was unreached
	stored      bool
	sum         string                // SHA-256 of a file of weights
	builds      map[string]lock.Build // of the local images
	carriedErr  error
	reachErr    error
	onQuestion  func(question string) // called with questions that may take long
	onPortUser  func(addr netip.AddrPort)
}

// now is the time on every machine.
func now() time.Time { return time.Date(2026, 11, 27, 14, 0, 0, 0, time.FixedZone("CET", 3600)) }

func (m *machine) probes() target.Probes {
	return target.Probes{
		Host: hostOf{m}, Runtime: engineOf{m}, Registry: registryOf{m}, Cache: cacheOf{m}, Weights: weightsOf{m}, Program: programOf{m}, Clock: now,
	}
}

func (m *machine) notify(question string) {
	if m.onQuestion != nil {
		m.onQuestion(question)
	}
}

type (
	hostOf     struct{ *machine }
	engineOf   struct{ *machine }
	registryOf struct{ *machine }
	cacheOf    struct{ *machine }
	weightsOf  struct{ *machine }
	programOf  struct{ *machine }
)

func (m hostOf) GPUs(context.Context) (host.GPUs, error) {
	m.notify("nvidia-smi")
	return m.gpus, m.gpuErr
}
func (m hostOf) Kernel() string      { return m.kernel }
func (m hostOf) ToolkitHook() string { return m.hook }
func (m hostOf) CDISpec() string     { return m.cdi }

func (m hostOf) PortFree(_ context.Context, addr netip.AddrPort) (bool, error) {
	_, taken := m.ports[addr.Port()]
	return !taken, m.portErr
}

func (m hostOf) PortUser(addr netip.AddrPort) string {
	if m.onPortUser != nil {
		m.onPortUser(addr)
	}
	return m.ports[addr.Port()]
}

func (m hostOf) DiskFree(_ context.Context, folder string) (uint64, error) {
	if m.free == 0 && m.diskErr == nil {
		return 0, &fs.PathError{Op: "stat", Path: folder, Err: fs.ErrNotExist}
	}
	return m.free, m.diskErr
}

func (m engineOf) Remote() bool                                 { return m.remote }
func (m engineOf) Info(context.Context) (container.Info, error) { return m.info, m.infoErr }

func (m engineOf) Resolve(_ context.Context, ref string) (container.Image, error) {
	if m.imageErr != nil {
		return container.Image{}, m.imageErr
	}
	if image, ok := m.images[ref]; ok {
		return image, nil
	}
	return container.Image{}, container.ErrNotFound
}

func (m engineOf) List(context.Context, container.Labels) ([]container.Summary, error) {
	return m.containers, nil
}

func (m registryOf) Lookup(_ context.Context, ref, arch string) (registry.Image, error) {
	m.notify("registry")
	if m.registryErr != nil {
		return registry.Image{}, m.registryErr
	}
	if image, ok := m.registry[ref]; ok {
		return image, nil
	}
	return registry.Image{}, &registry.Error{
		Kind: registry.NotFound, Ref: ref, Registry: "nvcr.io", Text: "look up " + ref + " for " + arch + ": there is none",
	}
}

func (m cacheOf) RememberedImage(ref string) (id string, env map[string]string, ok bool) {
	env, ok = m.remembered[ref]
	return "sha256:remembered", env, ok
}
func (m cacheOf) Unreached() time.Time { return m.unreached }
func (m cacheOf) NoteUnreached(since time.Time) error {
	if m.noted != nil {
		*m.noted = since
	}
	return nil
}

func (m weightsOf) Stored(context.Context, target.Remote) bool { return m.stored }
func (m weightsOf) Reachable(context.Context, target.Remote) error {
	m.notify("weights")
	return m.reachErr
}

func (m weightsOf) FileSum(context.Context, string) (string, error) { return m.sum, nil }

func (m programOf) Carried(_ context.Context, _ recipe.Recipe, base, _ string) (lock.Lock, error) {
	l := lock.Lock{Scripts: map[string]lock.Digest{"program.py": digest("5")}, Labels: digest("6")}
	if base != "" {
		l.Builds = m.builds
	}
	return l, m.carriedErr
}

// digest is a digest of one digit.
func digest(c string) lock.Digest { return lock.Digest("sha256:" + strings.Repeat(c, 64)) }

const (
	h100UUID = "GPU-b2b10123-43d8-7094-32ab-39106cb54c35"
	driver   = "580.159.04"
)

func h100() host.GPU {
	return host.GPU{UUID: h100UUID, Name: "NVIDIA H100 80GB HBM3", Compute: "9.0", MemoryMiB: 81559, FreeMiB: 80000}
}

func devices(gpus ...host.GPU) host.GPUs {
	for i := range gpus {
		gpus[i].Index = i
	}
	return host.GPUs{Driver: driver, CUDA: "13.0", Devices: gpus}
}

// noGPU is a machine without a GPU and a driver.
func noGPU() *machine {
	return &machine{
		gpuErr:   &host.NoGPUError{Reason: "nvidia-smi is not on PATH: install NVIDIA's driver", NotInstalled: true},
		info:     container.Info{Name: "Docker Engine", Version: "29.0.0", Endpoint: "unix:///var/run/docker.sock", Arch: "amd64"},
		registry: ngc("21.07", "24.05", "25.03", "26.09"),
		stored:   true,
	}
}

// withGPUs is a machine whose container engine lists a CDI device for each GPU.
func withGPUs(gpus ...host.GPU) *machine {
	m := noGPU()
	m.gpus, m.gpuErr = devices(gpus...), nil
	m.info.CDIDevices = []string{"nvidia.com/gpu=all"}
	for _, g := range m.gpus.Devices {
		m.info.CDIDevices = append(m.info.CDIDevices, "nvidia.com/gpu="+g.Address())
	}
	return m
}

// ngc returns both images of releases as in NVIDIA's registry: each has a layer of 4 GiB, which both share, and one of 1 GiB.
func ngc(tags ...string) map[string]registry.Image {
	images := map[string]registry.Image{}
	locked := lockOf2503().Lock.Images
	defer func() { // by their digests too
		for _, image := range locked {
			repository, _, _ := strings.Cut(image.Ref, ":")
			images[repository+"@"+string(image.Digest)] = images[image.Ref]
		}
	}()
	for _, tag := range tags {
		r, err := release.Find(tag)
		if err != nil {
			panic(err)
		}
		env := map[string]string{"TRT_VERSION": r.TensorRT, "CUDA_VERSION": r.CUDA, "DALI_VERSION": r.DALI}
		server := map[string]string{"NVIDIA_TRITON_SERVER_VERSION": tag}
		maps.Copy(server, env)
		shared := registry.Layer{Digest: "sha256:shared", Unpacked: "sha256:shared-unpacked", Size: 4 << 30}
		layer := func(image string) registry.Layer {
			return registry.Layer{Digest: "sha256:" + image + tag, Unpacked: "sha256:unpacked-" + image + tag, Size: 1 << 30}
		}
		for ref, image := range map[string]registry.Image{
			r.ExporterRef(release.DefaultRegistry): {Env: env, Layers: []registry.Layer{shared, layer("exporter")}},
			r.ServerRef(release.DefaultRegistry):   {Env: server, Layers: []registry.Layer{shared, layer("server")}},
		} {
			image.Ref, image.Arch = ref, "amd64"
			images[ref] = image
		}
	}
	return images
}

// request returns a request for a command, with flags on the command line.
func request(command string, flags ...target.Setting) target.Request {
	r := target.Request{
		Command: command, Accel: target.Auto, Images: target.Auto, GPUs: container.GPUs{Count: container.AllGPUs},
		Registry: release.DefaultRegistry, BuildNetwork: "host", Weights: target.WeightsSource{Kind: target.Random},
		Picture: target.Picture{Data: []byte("a picture")}, Precision: release.FP16, MaxBatch: 256, ReadyTimeout: time.Minute,
	}
	r.Settings = flags
	return r
}

// withChange returns a changed request.
func withChange(r target.Request, change func(*target.Request)) target.Request {
	change(&r)
	return r
}

func port(container, host uint16) map[uint16]netip.AddrPort {
	return map[uint16]netip.AddrPort{container: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), host)}
}

// resolve decides a request on a machine, and once more by what was recorded of it.
func resolve(t *testing.T, r target.Request, m *machine) (target.Target, []target.Obstacle) {
	t.Helper()
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	var answers target.Answers
	decided, obstacles, err := target.Resolve(t.Context(), r, target.Record(m.probes(), &answers))
	if err != nil {
		t.Fatal(err)
	}
	replay(t, r.Command, r, &answers, decided, obstacles)
	return decided, obstacles
}

var errBroken = errors.New("the container engine is gone")
