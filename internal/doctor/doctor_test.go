package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/doctor"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/lock"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// machine is one that is examined: what its probes answer. Its registry has no image, and its cache the pretrained
// weights.
type machine struct {
	gpus    func(context.Context) (host.GPUs, error)
	kernel  string
	info    container.Info
	infoErr error
	free    func(folder string) (uint64, error)
}

func (m *machine) GPUs(ctx context.Context) (host.GPUs, error) {
	if m.gpus == nil {
		return host.GPUs{}, &host.NoGPUError{Reason: "nvidia-smi is not on PATH", NotInstalled: true}
	}
	return m.gpus(ctx)
}

func (m *machine) Kernel() string                                            { return m.kernel }
func (*machine) ToolkitHook() string                                         { return "" }
func (*machine) CDISpec() string                                             { return "" }
func (*machine) PortFree(context.Context, netip.AddrPort) (bool, error)      { return true, nil }
func (*machine) PortUser(netip.AddrPort) string                              { return "" }
func (m *machine) DiskFree(_ context.Context, folder string) (uint64, error) { return m.free(folder) }
func (*machine) Remote() bool                                                { return false }
func (m *machine) Info(context.Context) (container.Info, error)              { return m.info, m.infoErr }

func (*machine) Resolve(context.Context, string) (container.Image, error) {
	return container.Image{}, container.ErrNotFound
}

func (*machine) List(context.Context, container.Labels) ([]container.Summary, error) { return nil, nil }

func (*machine) Lookup(_ context.Context, ref, arch string) (registry.Image, error) {
	return registry.Image{Ref: ref, Arch: arch, Env: map[string]string{"TRT_VERSION": "10.9.0.34"}}, nil
}
func (*machine) RememberedImage(string) (string, map[string]string, bool) { return "", nil, false }
func (*machine) Unreached() time.Time                                     { return time.Time{} }
func (*machine) NoteUnreached(time.Time) error                            { return nil }
func (*machine) Stored(context.Context, target.Remote) bool               { return true }
func (*machine) Reachable(context.Context, target.Remote) error           { return nil }
func (*machine) FileSum(context.Context, string) (string, error)          { return "", nil }
func (*machine) Carried(context.Context, recipe.Recipe, string, string) (lock.Lock, error) {
	return lock.Lock{}, nil
}

// patient is a run on a machine with much of everything.
func patient(t *testing.T, m *machine) doctor.Patient {
	t.Helper()
	if m.free == nil {
		m.free = func(string) (uint64, error) { return 1 << 40, nil }
	}
	return doctor.Patient{
		Request: target.Request{
			Command: "doctor", Exhaustive: true, Accel: target.Auto, Images: target.Auto, GPUs: container.GPUs{Count: container.AllGPUs},
			Registry: release.DefaultRegistry, Weights: target.WeightsSource{Kind: target.Random}, Precision: release.FP16, MaxBatch: 256,
		},
		Probes: target.Probes{Host: m, Runtime: m, Registry: m, Cache: m, Weights: m, Program: m, Clock: time.Now},
		Host: doctor.HostProbe{
			Writable: func(string) error { return nil },
			Owner:    func(string) (int, bool) { return os.Geteuid(), true },
		},
		Plan:  func(context.Context, target.Target) ([]doctor.Planned, error) { return nil, nil },
		Cache: t.TempDir(), Workspace: t.TempDir(),
		OpenCache:   func() error { return nil },
		UnusedSteps: func(target.Target) []string { return nil },
	}
}

func h100(change func(*host.GPU)) func(context.Context) (host.GPUs, error) {
	gpu := host.GPU{UUID: "GPU-1", Name: "NVIDIA H100 80GB HBM3", Compute: "9.0", MemoryMiB: 81559, FreeMiB: 80000}
	change(&gpu)
	return func(context.Context) (host.GPUs, error) {
		return host.GPUs{Driver: "580.159.04", Devices: []host.GPU{gpu}}, nil
	}
}

func sound(*host.GPU) {}

var cdi = []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}

func examine(t *testing.T, p doctor.Patient) []doctor.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), doctor.Within, fmt.Errorf("no answer within %s", doctor.Within))
	defer cancel()
	_, findings := doctor.Examine(ctx, p)
	return findings
}

// findingOf returns the finding of a check; zero if it did not apply.
func findingOf(findings []doctor.Finding, check target.CheckID) doctor.Finding {
	i := slices.IndexFunc(findings, func(f doctor.Finding) bool { return f.Check == check })
	if i < 0 {
		return doctor.Finding{}
	}
	return findings[i]
}

// Every obstacle of a resolution has a check that shows it, and no check stands twice.
func TestEachObstacleHasACheck(t *testing.T) {
	t.Parallel()
	var names []target.CheckID
	for _, c := range doctor.Checks() {
		names = append(names, c.Name)
	}
	for _, obstacle := range target.Checks() {
		if n := len(names) - len(slices.DeleteFunc(slices.Clone(names), func(c target.CheckID) bool { return c == obstacle })); n != 1 {
			t.Errorf("%q has %d checks", obstacle, n)
		}
	}
}

// On a machine that has everything each check is ok, and a run would begin.
func TestSound(t *testing.T) {
	t.Parallel()
	findings := examine(t, patient(t, &machine{gpus: h100(sound), info: container.Info{Arch: "amd64", CDIDevices: cdi, ImageDir: "/images"}}))
	for _, f := range findings {
		if f.Status != doctor.OK || f.Saw == "" || f.Remedy != "" {
			t.Errorf("%+v", f)
		}
	}
	want := []target.CheckID{
		target.CheckEngine, "platform", target.CheckGPU, target.CheckRelease, target.CheckContainerGPU, "gpu memory", target.CheckImages,
		target.CheckImageDisk, "cache disk", "workspace disk", target.CheckPorts, target.CheckWeights,
	}
	var said []target.CheckID
	for _, f := range findings {
		said = append(said, f.Check)
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("checks that say something (-want +got):\n%s", diff)
	}
	if got := doctor.Summary(findings); got != fmt.Sprintf("ready: %d ok", len(want)) {
		t.Errorf("%q", got)
	}
}

// Without a container engine what rests on it has nothing to say, and the rest goes on.
func TestNoEngine(t *testing.T) {
	t.Parallel()
	findings := examine(t, patient(t, &machine{gpus: h100(sound), infoErr: container.ErrUnreachable}))
	if f := findingOf(findings, target.CheckEngine); f.Status != doctor.Fail {
		t.Errorf("%+v", f)
	}
	for _, check := range []target.CheckID{target.CheckContainerGPU, target.CheckImages, target.CheckImageDisk} {
		if f := findingOf(findings, check); f.Check != "" {
			t.Errorf("%+v", f)
		}
	}
	for _, check := range []target.CheckID{target.CheckGPU, target.CheckRelease, "gpu memory", target.CheckPorts, target.CheckWeights} {
		if f := findingOf(findings, check); f.Status != doctor.OK {
			t.Errorf("%s: %+v", check, f)
		}
	}
	if got := doctor.Summary(findings); !strings.HasPrefix(got, "not ready: 1 failed, ") {
		t.Errorf("%q", got)
	}
}

// What a runtime does not say of itself leaves no empty brackets.
func TestEngineNamed(t *testing.T) {
	t.Parallel()
	for want, info := range map[string]container.Info{
		"Docker Engine 29.1 (API 1.52) at unix:///d": {Name: "Docker Engine", Version: "29.1", APIVersion: "1.52", Endpoint: "unix:///d"},
		"Docker Engine 29.1 (API 1.40, by DOCKER_API_VERSION) at unix:///d": {
			Name: "Docker Engine", Version: "29.1", APIVersion: "1.40", APISetting: "DOCKER_API_VERSION", Endpoint: "unix:///d",
		},
		"Kubernetes 1.34 at https://k": {Name: "Kubernetes", Version: "1.34", Endpoint: "https://k"},
	} {
		if f := findingOf(examine(t, patient(t, &machine{info: info})), target.CheckEngine); f.Saw != want {
			t.Errorf("%q, want %q", f.Saw, want)
		}
	}
}

// advised is an error of a container engine, with the advice of its adapter.
type advised struct{ error }

func (advised) Advice() string { return "turn it off and on" }

func (a advised) Unwrap() error { return a.error }

// What the adapter of a container engine says is to be done is what doctor says, as a run does.
func TestEngineRemedies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"advised": {advised{container.ErrSettings}, "turn it off and on"},
		"silent":  {container.ErrFailing, ""},
		"a fault": {pipeline.Faultf(pipeline.Environment, "correct DOCKER_HOST", "no such scheme"), "correct DOCKER_HOST"},
	} {
		f := findingOf(examine(t, patient(t, &machine{infoErr: c.err})), target.CheckEngine)
		if f.Status != doctor.Fail || f.Saw != c.err.Error() || f.Remedy != c.want {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Whether the local images are here is not known where the container engine answers no more, whatever it says instead.
func TestLocalImagesUnknown(t *testing.T) {
	t.Parallel()
	for _, err := range []error{container.ErrUnreachable, container.ErrFailing, container.ErrSettings} {
		p := patient(t, &machine{})
		p.Plan = func(context.Context, target.Target) ([]doctor.Planned, error) {
			return nil, pipeline.Faultf(pipeline.Environment, "ask again", "image x: %w", err)
		}
		want := doctor.Finding{Check: target.CheckImages, Status: doctor.Fail, Saw: "image x: " + err.Error(), Remedy: "ask again"}
		if f := findingOf(examine(t, p), target.CheckImages); f != want {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
}

// A folder whose disk is known to be silent is not asked again, and hides nothing but itself.
func TestSilentFolders(t *testing.T) {
	t.Parallel()
	silent := fmt.Errorf("the disk of /w gave %w within 2s", host.ErrSilentDisk)
	p := patient(t, &machine{})
	p.SilentWorkspace = silent
	p.Plan = func(context.Context, target.Target) ([]doctor.Planned, error) {
		t.Error("the silent workspace is read for a plan")
		return nil, nil
	}
	findings := examine(t, p)
	if f := findingOf(findings, "workspace disk"); f.Status != doctor.Fail || f.Saw != silent.Error() || !strings.Contains(f.Remedy, "findmnt") || !strings.HasSuffix(f.Remedy, "--workspace") {
		t.Errorf("%+v", f)
	}
	if got := doctor.Summary(findings); !strings.HasPrefix(got, "not ready: 1 failed, ") || strings.Contains(got, "warning") {
		t.Errorf("%s: %+v", got, findings)
	}
}

func TestPlatform(t *testing.T) {
	t.Parallel()
	for kernel, want := range map[string]doctor.Finding{
		"Linux version 6.8.0-45-generic (buildd@lcy02)":       {Status: doctor.OK},
		"Linux version 5.15.90.1-microsoft-standard-WSL2 (x)": {Status: doctor.OK, Saw: "WSL 2: its driver has no whole NVML, so DALI_DISABLE_NVML=1 is set in containers"},
		"Linux version 4.4.0-19041-Microsoft (x)":             {Status: doctor.Warn, Saw: "WSL 1, which has no GPU"},
	} {
		f := findingOf(examine(t, patient(t, &machine{kernel: kernel})), "platform")
		if f.Status != want.Status || !strings.Contains(f.Saw, want.Saw) || strings.Contains(f.Saw, "WSL") != (want.Saw != "") {
			t.Errorf("%s: %+v", kernel, f)
		}
	}
}

// A GPU that others may keep a run out of, and one that others have filled.
func TestGPU(t *testing.T) {
	t.Parallel()
	exclusive := func(g *host.GPU) { g.ComputeMode = "Exclusive_Process" }
	findings := examine(t, patient(t, &machine{gpus: h100(exclusive), info: container.Info{CDIDevices: cdi}}))
	if f := findingOf(findings, target.CheckGPU); f.Status != doctor.Warn || !strings.Contains(f.Saw, "compute mode Exclusive_Process") || !strings.Contains(f.Remedy, "-c DEFAULT") {
		t.Errorf("%+v", f)
	}
	for _, c := range []struct {
		precision release.Precision
		batch     int
		freeMiB   int
		want      doctor.Status
		says      string
	}{
		// What trtexec 10.6 took on an H100: 1,818 MiB at once, 1,765 MiB more while it built for 256 pictures in fp16.
		{release.FP16, 256, 3584, doctor.OK, "3.5 GiB of 79.65 GiB are free"},
		{release.FP16, 256, 3500, doctor.Warn, "takes 3.499 GiB if every kernel is tried"},
		{release.FP16, 256, 2700, doctor.Warn, "needs 2.757 GiB at least: build-engine would refuse, unless the engine is in the cache"},
		{release.FP32, 256, 3584, doctor.Warn, "and building an engine for up to 256 pictures needs"}, // and twice that in fp32
		{release.FP16, 8, 2000, doctor.OK, "1.953 GiB of"},
		{release.FP16, 1, 1000, doctor.Warn, "building an engine for up to 1 picture needs 1.779 GiB at least"},
	} {
		p := patient(t, &machine{gpus: h100(func(g *host.GPU) { g.FreeMiB = c.freeMiB }), info: container.Info{CDIDevices: cdi}})
		p.Request.Precision, p.Request.MaxBatch = c.precision, c.batch
		f := findingOf(examine(t, p), "gpu memory")
		if f.Status != c.want || !strings.Contains(f.Saw, c.says) || (f.Status == doctor.OK) != (f.Remedy == "") {
			t.Errorf("%s at %d with %d MiB: %+v", c.precision, c.batch, c.freeMiB, f)
		}
	}
}

// What is not known of a release is told of the release; what is not known of its GPUs is another check's.
func TestReleaseDoubts(t *testing.T) {
	t.Parallel()
	for compute, want := range map[string]doctor.Finding{
		"9.0": {Status: doctor.OK, Saw: "25.03 with TensorRT 10.9"},
		"":    {Status: doctor.Warn, Saw: "25.03: "},
	} {
		p := patient(t, &machine{
			gpus: h100(func(g *host.GPU) { g.Compute = compute }), info: container.Info{Name: container.PodmanEngine, Arch: "amd64"},
		})
		p.Request.Release = "25.03"
		findings := examine(t, p)
		if f := findingOf(findings, target.CheckRelease); f.Status != want.Status || !strings.HasPrefix(f.Saw, want.Saw) || strings.Contains(f.Saw, "Podman") {
			t.Errorf("%q: %+v", compute, f)
		}
		if f := findingOf(findings, target.CheckContainerGPU); f.Status != doctor.Warn || !strings.Contains(f.Saw, "Podman does not list its devices") || f.Remedy == "" {
			t.Errorf("%q: %+v", compute, f)
		}
	}
}

// A check that waits for what never answers ends with the others, and fails: a run would wait as well.
func TestHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		p := patient(t, &machine{free: func(string) (uint64, error) { <-never; return 0, nil }})
		start := time.Now()
		findings := examine(t, p)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if f := findingOf(findings, "cache disk"); f.Status != doctor.Fail || f.Saw != "no answer within 9.5s" {
			t.Errorf("%+v", f)
		}
		if f := findingOf(findings, target.CheckWeights); f.Status != doctor.OK {
			t.Errorf("the others: %+v", f)
		}
	})
}

// A disk that does not answer fails by its name, long before doctor's own end, whatever is asked of it.
func TestSilentDisk(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(p *doctor.Patient, never chan struct{}){
		"may be written": func(p *doctor.Patient, never chan struct{}) {
			p.Host.Writable = func(string) error { <-never; return nil }
		},
		"an owner": func(p *doctor.Patient, never chan struct{}) {
			p.Host.Owner = func(string) (int, bool) { <-never; return 0, true }
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			never := make(chan struct{})
			defer close(never)
			p := patient(t, &machine{info: container.Info{Arch: "amd64"}})
			ask(&p, never)
			start := time.Now()
			findings := examine(t, p)
			if took := time.Since(start); took > host.DiskWithin {
				t.Errorf("%s: it took %s", name, took)
			}
			for check, want := range map[target.CheckID]string{
				"cache disk": "the disk of " + p.Cache + " gave no answer within 2s", "workspace disk": "the disk of " + p.Workspace + " gave no answer within 2s",
			} {
				if f := findingOf(findings, check); f.Status != doctor.Fail || f.Saw != want || !strings.Contains(f.Remedy, "or name another folder with --") {
					t.Errorf("%s: %+v", name, f)
				}
			}
		})
	}
}

// What is free is asked by the probe, of the nearest folder that is there.
func TestFreeOfAFolderToBe(t *testing.T) {
	t.Parallel()
	there := t.TempDir()
	p := patient(t, &machine{free: func(folder string) (uint64, error) {
		if folder != there {
			return 0, fmt.Errorf("free space of %s: %w", folder, fs.ErrNotExist)
		}
		return 3 * mib, nil
	}})
	p.Cache, p.Workspace = filepath.Join(there, "a", "cache"), there
	for _, check := range []target.CheckID{"cache disk", "workspace disk"} {
		if f := findingOf(examine(t, p), check); !strings.Contains(f.Saw, "3 MiB are free") {
			t.Errorf("%+v", f)
		}
	}
}

// An nvidia-smi that a run would wait for is no failure, and nothing is said of what rests on it.
func TestSlowSMI(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*target.Request){
		"auto": func(*target.Request) {}, "the gpu lane": func(r *target.Request) { r.Accel = string(target.GPU) },
		"an image": func(r *target.Request) { r.ServerImage = "registry.example/team/image:prod" },
	} {
		p := patient(t, &machine{
			info: container.Info{Arch: "amd64", CDIDevices: cdi},
			gpus: func(ctx context.Context) (host.GPUs, error) {
				if until, ok := ctx.Deadline(); !ok || time.Until(until) > doctor.SMIWithin {
					t.Errorf("%s: it may answer until %s", name, until)
				}
				return host.GPUs{}, fmt.Errorf("nvidia-smi gave no whole answer within %s; %w", doctor.SMIWithin, target.ErrSlow)
			},
		})
		change(&p.Request)
		findings := examine(t, p)
		if f := findingOf(findings, target.CheckGPU); f.Status != doctor.Warn || f.Saw != "nvidia-smi gave no whole answer within 6s; a run waits longer" || f.Remedy == "" {
			t.Errorf("%s: %+v", name, f)
		}
		for _, f := range findings {
			rests := []target.CheckID{target.CheckRelease, target.CheckContainerGPU, "gpu memory", target.CheckImages, target.CheckImageDisk}
			if f.Status == doctor.Fail || slices.Contains(rests, f.Check) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

const mib = 1 << 20

// What the results of a run take decides, and only of those that are not there yet. A disk on which they only just fit
// is a warning.
func TestCacheDisk(t *testing.T) {
	t.Parallel()
	plan := func(all ...doctor.Planned) func(context.Context, target.Target) ([]doctor.Planned, error) {
		return func(context.Context, target.Target) ([]doctor.Planned, error) { return all, nil }
	}
	unknown := func(context.Context, target.Target) ([]doctor.Planned, error) {
		return nil, errors.New("no container engine")
	}
	two := plan(doctor.Planned{Step: "weights", Runs: true, Bytes: 98 * mib}, doctor.Planned{Step: "export-onnx", Runs: true, Bytes: 99 * mib})
	one := plan(doctor.Planned{Step: "weights", Bytes: 98 * mib}, doctor.Planned{Step: "export-onnx", Runs: true, Bytes: 99 * mib})
	for name, c := range map[string]struct {
		plan func(context.Context, target.Target) ([]doctor.Planned, error)
		free uint64
		want doctor.Status
		says string
	}{
		"too little":             {two, 40 * mib, doctor.Fail, "40 MiB are free, and the results that are not there yet take 197 MiB"},
		"just enough":            {two, 198 * mib, doctor.Warn, "198 MiB are free, and the results"},
		"enough":                 {two, 400 * mib, doctor.OK, "400 MiB are free"},
		"none left":              {two, 0, doctor.Fail, "0 B are free"},
		"one is there":           {one, 100 * mib, doctor.Warn, "take 99 MiB"},
		"all are there":          {plan(), 1 * mib, doctor.OK, "1 MiB are free, and all results are there"},
		"it is not known though": {unknown, 40 * mib, doctor.OK, "40 MiB are free"},
		"nothing is free":        {unknown, 0, doctor.Fail, "0 B are free"},
	} {
		p := patient(t, &machine{info: container.Info{Arch: "amd64"}, free: func(string) (uint64, error) { return c.free, nil }})
		p.Plan, p.CacheFlags = c.plan, []string{"--cache-dir=/c"}
		f := findingOf(examine(t, p), "cache disk")
		if f.Status != c.want || !strings.Contains(f.Saw, c.says) || (f.Status == doctor.OK) != (f.Remedy == "") {
			t.Errorf("%s: %+v, want %s with %q", name, f, c.want, c.says)
		}
		if f.Remedy != "" && !strings.Contains(f.Remedy, "`dalirun gc --dry-run --cache-dir=/c`") {
			t.Errorf("%s: %q", name, f.Remedy)
		}
	}
	p := patient(t, &machine{})
	p.CacheDoubt = "the cache /x is not used"
	if f := findingOf(examine(t, p), "cache disk"); f.Status != doctor.Warn || !strings.HasSuffix(f.Saw, "; the cache /x is not used") {
		t.Errorf("another cache than expected: %+v", f)
	}
	p.OpenCache = func() error { return errors.New("it has no format") }
	if f := findingOf(examine(t, p), "cache disk"); f.Status != doctor.Fail || !strings.HasPrefix(f.Saw, "it has no format") {
		t.Errorf("a cache that cannot be opened: %+v", f)
	}
}

// The logs of a quiet run take little: what is free is a warning while it is more than nothing.
func TestWorkspaceDisk(t *testing.T) {
	t.Parallel()
	for free, want := range map[uint64]doctor.Status{0: doctor.Fail, 20 << 10: doctor.Warn, 16*mib - 1: doctor.Warn, 16 * mib: doctor.OK} {
		f := findingOf(examine(t, patient(t, &machine{free: func(string) (uint64, error) { return free, nil }})), "workspace disk")
		if f.Status != want || !strings.HasSuffix(f.Saw, " are free, and the logs of runs may take 16 MiB") ||
			(f.Status == doctor.OK) != (f.Remedy == "") || strings.Contains(f.Remedy, "docker") {
			t.Errorf("%d bytes: %+v, want %s", free, f, want)
		}
	}
}

// Folders of somebody else are told of by name, whether this user may write to them or not.
func TestFoldersOfOthers(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	denied := func(path string) error { return &fs.PathError{Op: "write", Path: path, Err: fs.ErrPermission} }
	for name, c := range map[string]struct {
		flag         string
		writable     func(path string) error
		owner        int
		want         doctor.Status
		text, remedy string
	}{
		"ours":              {"--cache-dir", nil, os.Geteuid(), doctor.OK, "are free", ""},
		"another's":         {"--cache-dir", denied, nobody, doctor.Fail, "permission denied; it belongs to user ", "`sudo chown -R "},
		"another's, by us":  {"--cache-dir", nil, nobody, doctor.Warn, "belongs to user ", "run dalirun as user "},
		"ours, without":     {"--workspace", denied, os.Geteuid(), doctor.Fail, "permission denied", "let yourself write there"},
		"one that is known": {"--workspace", denied, nobody, doctor.Fail, "permission denied; it belongs to user ", "or name another folder with --workspace"},
	} {
		p := patient(t, &machine{})
		dir, check := p.Cache, target.CheckID("cache disk")
		below := filepath.Join(dir, "entries")
		if c.flag == "--workspace" {
			dir, check = p.Workspace, "workspace disk"
			below = filepath.Join(dir, "runs")
		}
		if err := os.MkdirAll(below, 0o700); err != nil {
			t.Fatal(err)
		}
		// The folder itself may be ours, as after a run by sudo.
		p.Host.Owner = func(path string) (int, bool) {
			if path == below {
				return c.owner, true
			}
			return os.Geteuid(), true
		}
		p.Host.Writable = func(path string) error {
			if path == below && c.writable != nil {
				return c.writable(path)
			}
			return nil
		}
		f := findingOf(examine(t, p), check)
		if f.Status != c.want || !strings.Contains(f.Saw, c.text) || !strings.Contains(f.Remedy, c.remedy) || (c.remedy == "") != (f.Remedy == "") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Local images may be there already, so too small a disk only warns; a store that cannot be seen says nothing.
func TestDiskOfLocalImages(t *testing.T) {
	t.Parallel()
	missing := func(steps ...string) func(context.Context, target.Target) ([]doctor.Planned, error) {
		return func(context.Context, target.Target) (all []doctor.Planned, err error) {
			for _, step := range steps {
				all = append(all, doctor.Planned{Step: pipeline.ID(step), ImageMissing: true})
			}
			return all, nil
		}
	}
	visible := t.TempDir()
	for name, c := range map[string]struct {
		root string
		plan func(context.Context, target.Target) ([]doctor.Planned, error)
		want doctor.Status
		says string
	}{
		"both are missing":     {visible, missing("exporter-image", "server-image"), doctor.Warn, "the local images and their build may need 6 GiB"},
		"one is":               {visible, missing("server-image"), doctor.Warn, "server-image and its build may need 3 GiB"},
		"none is":              {visible, missing(), doctor.OK, "no image is to be built"},
		"in a virtual machine": {filepath.Join(visible, "not", "here"), missing("server-image"), "", ""},
	} {
		p := patient(t, &machine{info: container.Info{RootDir: c.root}, free: func(folder string) (uint64, error) {
			_, err := os.Stat(folder)
			return 2e9, err
		}})
		p.Plan = c.plan
		if f := findingOf(examine(t, p), target.CheckImageDisk); f.Status != c.want || !strings.Contains(f.Saw, c.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Whoever has several ports is named once.
func TestTakenPorts(t *testing.T) {
	t.Parallel()
	const nginx, server = " by nginx (pid 7)", " by dalirun-serve, the server of /w"
	for want, taken := range map[string][]target.TakenPort{
		"port 8000 is in use: a free one will be taken":                                                {{Port: 8000}},
		"ports 8000 and 8001 are in use" + nginx + ": free ones will be taken":                         {{Port: 8000, User: nginx}, {Port: 8001, User: nginx}},
		"port 8000 is in use" + nginx + "; port 8001 is in use" + server + ": free ones will be taken": {{Port: 8000, User: nginx}, {Port: 8001, User: server}},
	} {
		if got := doctor.TakenPorts(taken); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
