package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/steps"
)

// unpackBundle unpacks an archive that doctor wrote into the current folder.
func unpackBundle(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "unpack FILE")
	zip, err := gzip.NewReader(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		ts.Check(err)
		if !filepath.IsLocal(h.Name) || h.Typeflag != tar.TypeReg {
			ts.Fatalf("%s has a file %q of type %c", args[0], h.Name, h.Typeflag)
		}
		name := ts.MkAbs(h.Name)
		ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
		data, err := io.ReadAll(archive)
		ts.Check(err)
		ts.Check(os.WriteFile(name, data, 0o600))
	}
}

// allFiles prints the names and the contents of all files of a folder.
func allFiles(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "allfiles FOLDER")
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		_, _ = io.WriteString(ts.Stdout(), filepath.Base(path)+"\n"+string(data)+"\n")
		return err
	}))
}

// diagnose returns a diagnosis for flags, on a fake container engine.
func diagnose(t *testing.T, about container.Info, flags ...string) *diagnosis {
	t.Helper()
	engine := dockertest.New(t, &containertest.Fake{About: about})
	app := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "XDG_CACHE_HOME": t.TempDir()}, io.Discard, io.Discard)
	var w wishes
	cmd := &cobra.Command{}
	w.flags(app, cmd)
	if err := cmd.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	d, end := app.newDiagnosis(t.Context(), &w)
	t.Cleanup(end)
	return d
}

func find(t *testing.T, findings []finding, name string) finding {
	t.Helper()
	for _, f := range findings {
		if f.Check == name {
			return f
		}
	}
	t.Fatalf("there is no finding of %q: %+v", name, findings)
	return finding{}
}

// A disk that is too small for the images fails before anything is pulled; one that is too small for results warns.
func TestDoctorDiskTooSmall(t *testing.T) {
	t.Parallel()
	server := registrytest.New(t)
	server.PushNGC(t)
	store := t.TempDir()
	d := diagnose(t, container.Info{Version: "29.0.0", Arch: "amd64", RootDir: store},
		"--accel=cpu", "--images=ngc", "--release=25.03", "--weights=random:0", "--registry="+server.Host())
	d.diskFree = func(string) (uint64, error) { return 5e8, nil }
	findings := d.run()
	images := find(t, findings, "image disk")
	if images.Status != statusFail || !strings.HasPrefix(images.Saw, store+": 500MB are free, and the images need ") || !strings.Contains(images.Remedy, "docker system df") {
		t.Errorf("images: %+v", images)
	}
	cache := find(t, findings, "cache disk")
	if cache.Status != statusWarn || !strings.Contains(cache.Saw, "500MB are free, and the results of a run may need 1.074GB") {
		t.Errorf("cache: %+v", cache)
	}
	if err := verdict(findings); exitCode(err) != ExitEnvironment {
		t.Errorf("the verdict is %v, with %d", err, exitCode(err))
	}
}

// Local images may be there already, so too small a disk only warns; a store that cannot be seen says nothing.
func TestDoctorDiskOfLocalImages(t *testing.T) {
	t.Parallel()
	d := diagnose(t, container.Info{RootDir: t.TempDir()}, "--accel=cpu", "--weights=random:0")
	d.diskFree = func(string) (uint64, error) { return 2e9, nil }
	if f := d.imageDisk(t.Context()); f.Status != statusWarn || !strings.Contains(f.Saw, "the local images and their build may need 6.442GB") {
		t.Errorf("got %+v", f)
	}
	d = diagnose(t, container.Info{RootDir: filepath.Join(t.TempDir(), "in", "a", "machine")}, "--accel=cpu", "--weights=random:0")
	if f := d.imageDisk(t.Context()); f.Status != "" {
		t.Errorf("a store that is not here: %+v", f)
	}
}

// A check that waits for a disk that never answers ends with the others, and fails: a run would wait as well.
func TestDoctorHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w wishes
		app := appIn(map[string]string{"DOCKER_HOST": "unix:///nowhere.sock"}, io.Discard, io.Discard)
		cmd := &cobra.Command{}
		w.flags(app, cmd)
		if err := errors.Join(cmd.ParseFlags([]string{"--accel=cpu", "--weights=random:0"}), w.check()); err != nil {
			t.Fatal(err)
		}
		d, end := app.newDiagnosis(t.Context(), &w)
		defer end()
		never := make(chan struct{})
		defer close(never)
		d.diskFree = func(string) (uint64, error) { <-never; return 0, nil }
		start := time.Now()
		findings := d.run()
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if f := find(t, findings, "cache disk"); f.Status != statusFail || f.Saw != "no answer within 9.5s" {
			t.Errorf("got %+v", f)
		}
		if f := find(t, findings, "weights"); f.Status != statusOK {
			t.Errorf("the others: %+v", f)
		}
	})
}

func TestDoctorPlatform(t *testing.T) {
	t.Parallel()
	for kernel, want := range map[string]finding{
		"Linux version 6.8.0-45-generic (buildd@lcy02)":       {Status: statusOK, Saw: ""},
		"Linux version 5.15.90.1-microsoft-standard-WSL2 (x)": {Status: statusOK, Saw: "WSL 2: its driver has no whole NVML, so DALI_DISABLE_NVML=1 is set in containers"},
		"Linux version 4.4.0-19041-Microsoft (x)":             {Status: statusWarn, Saw: "WSL 1, which has no GPU"},
	} {
		d := &diagnosis{root: fstest.MapFS{"proc/version": {Data: []byte(kernel)}}}
		if f := d.platform(t.Context()); f.Status != want.Status || !strings.Contains(f.Saw, want.Saw) {
			t.Errorf("%s: %+v", kernel, f)
		}
	}
}

// gpuLane is a diagnosis that has settled for the GPU lane with info of a container engine.
func gpuLane(info container.Info, gpus string, hook bool, root fs.FS) *diagnosis {
	return &diagnosis{
		wishes: &wishes{gpus: gpus}, root: root,
		lane: func() (laned, error) { return laned{resolved: resolved{Options: steps.Options{Lane: steps.GPU}}}, nil },
		info: func() (container.Info, error) { return info, nil },
		lookPath: func(program string) (string, error) {
			if !hook {
				return "", &fs.PathError{Op: "look for", Path: program, Err: fs.ErrNotExist}
			}
			return "/usr/bin/" + program, nil
		},
	}
}

func TestDoctorContainerGPU(t *testing.T) {
	t.Parallel()
	spec := fstest.MapFS{"etc/cdi/nvidia.yaml": {Data: []byte("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")}, "etc/cdi/other.yaml": {Data: []byte("kind: x")}}
	cdi := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}
	for name, c := range map[string]struct {
		info container.Info
		gpus string
		hook bool
		root fs.FS
		want status
		says string
	}{
		"nvidia runtime":           {container.Info{Runtimes: []string{"nvidia", "runc"}}, "all", false, spec, statusOK, "has the nvidia runtime"},
		"CDI":                      {container.Info{CDIDevices: cdi}, "device=0,1", false, spec, statusOK, "lists nvidia.com/gpu=0, nvidia.com/gpu=1"},
		"CDI by count":             {container.Info{CDIDevices: cdi}, "2", false, spec, statusOK, "lists"},
		"CDI without that":         {container.Info{CDIDevices: cdi}, "3", false, spec, statusFail, "and not nvidia.com/gpu=2"},
		"CDI without that, a hook": {container.Info{CDIDevices: cdi}, "device=7", true, spec, statusOK, "nvidia-container-runtime-hook is there"},
		"hook":                     {container.Info{}, "all", true, spec, statusOK, "/usr/bin/nvidia-container-runtime-hook is there"},
		"a hook here, for another": {container.Info{Remote: true}, "all", true, spec, statusFail, "offers no GPU"},
		"nothing":                  {container.Info{}, "all", false, spec, statusFail, "offers no GPU"},
		"Podman":                   {container.Info{Name: "Podman Engine"}, "all", true, spec, statusOK, "/etc/cdi/nvidia.yaml has NVIDIA's devices"},
		"Podman without CDI":       {container.Info{Name: "Podman Engine"}, "all", true, fstest.MapFS{}, statusFail, "Podman has no CDI specification"},
	} {
		f := gpuLane(c.info, c.gpus, c.hook, c.root).containers(t.Context())
		if f.Status != c.want || !strings.Contains(f.Saw, c.says) || (f.Status == statusFail) != (f.Remedy != "") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// The GPUs of a container engine on another host are its own: this host's nvidia-smi is not asked.
func TestProbeRemote(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		info container.Info
		gpus string
		want []int
	}{
		"CDI":                     {container.Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}}, "all", []int{0, 1}},
		"nvidia runtime":          {container.Info{Runtimes: []string{"nvidia"}}, "all", []int{0}},
		"nvidia runtime, a GPU":   {container.Info{Runtimes: []string{"nvidia"}}, "device=3", []int{3}},
		"nvidia runtime, by UUID": {container.Info{Runtimes: []string{"nvidia"}}, "device=GPU-aaaabbbb", []int{0}},
		"nothing":                 {container.Info{Runtimes: []string{"runc"}}, "all", nil},
	} {
		c.info.Remote, c.info.Endpoint = true, "tcp://gpus:2376"
		gpus, err := probeGPUs(c.info, c.gpus)(t.Context())
		if c.want == nil {
			if !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "on another host") {
				t.Errorf("%s: %+v, %v", name, gpus, err)
			}
			continue
		}
		chosen, selectErr := gpus.Select(c.gpus)
		if err := errors.Join(err, selectErr); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []int
		for _, g := range chosen {
			got = append(got, g.Index)
		}
		if len(got) != len(c.want) || got[0] != c.want[0] {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if says := nameGPUs(gpus, chosen); !strings.Contains(says, "driver not known from here") {
			t.Errorf("%s: %q", name, says)
		}
		// An engine for a GPU that is not known is for no other container engine's.
		if d := device(c.info, gpus, chosen); !strings.Contains(d.Name, "tcp://gpus:2376") || d.Driver != "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestDoctorGPUMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		precision release.Precision
		batch     int
		freeMiB   int
		want      status
		says      string
	}{
		// What trtexec 10.6 took on an H100: 1,818 MiB at once, 1,765 MiB more while it built for 256 pictures in fp16.
		{release.FP16, 256, 3584, statusOK, "3.758GB of 85.52GB are free"},
		{release.FP16, 256, 3500, statusWarn, "takes 3.757GB if every kernel is tried"},
		{release.FP16, 256, 2700, statusFail, "needs 2.96GB at least"},
		{release.FP32, 256, 3584, statusFail, "and building an engine for up to 256 pictures needs"}, // and twice that in fp32
		{release.FP16, 8, 2000, statusOK, "2.097GB of"},
		{release.FP16, 1, 1000, statusFail, "needs 1.91GB at least"},
	} {
		d := &diagnosis{lane: func() (laned, error) {
			o := steps.Options{Lane: steps.GPU, Precision: c.precision, MaxBatch: c.batch}
			return laned{resolved: resolved{Options: o}, chosen: []host.GPU{{MemoryMiB: 81559, FreeMiB: c.freeMiB}}}, nil
		}}
		if f := d.memory(t.Context()); f.Status != c.want || !strings.Contains(f.Saw, c.says) || (f.Status == statusOK) != (f.Remedy == "") {
			t.Errorf("%s at %d with %d MiB: %+v", c.precision, c.batch, c.freeMiB, f)
		}
	}
}

// A log of any size is read from its end, a link not at all.
func TestTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	line := bytes.Repeat([]byte("x"), 99)
	if err := os.WriteFile(long, bytes.Repeat(append(line, '\n'), 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	text, size, err := tail(long)
	if err != nil || size != 2_000_000 || len(text) > bundledTail || len(text) < bundledTail-100 || len(text)%100 != 0 {
		t.Errorf("%d of %d bytes, %v", len(text), size, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(long, link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tail(link); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("a link: %v", err)
	}
	if _, _, err := tail(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// A bundle that is stopped half way leaves no file.
func TestBundleStopped(t *testing.T) {
	t.Parallel()
	d := diagnose(t, container.Info{}, "--accel=cpu", "--weights=random:0", "--workspace="+t.TempDir())
	name := filepath.Join(t.TempDir(), "report.tar.gz")
	f, err := newBundle(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&SignalError{Signal: os.Interrupt})
	if err := d.writeBundle(ctx, f, nil, nil); err == nil {
		t.Error("no error")
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}
