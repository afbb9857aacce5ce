package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/dalirun/dalirun/pipeline"
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

// A disk that is too small for the images fails before anything is pulled, and one that is too small for the results before they are made.
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
	if images.Status != statusFail || !strings.HasPrefix(images.Saw, store+", where the container engine stores images, has 476.8 MiB free, and the images have ") || !strings.Contains(images.Remedy, "docker system df") {
		t.Errorf("images: %+v", images)
	}
	if err := verdict(findings); exitCode(err) != ExitEnvironment {
		t.Errorf("the verdict is %v, with %d", err, exitCode(err))
	}
}

// What the results of a lane take decides, and only of those that are not there yet. A disk on which they only just fit is a warning.
func TestDoctorCacheDisk(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "own.pth")
	if err := os.WriteFile(own, append([]byte(checkpoint), make([]byte, 3<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	for name, c := range map[string]struct {
		flags []string
		lane  steps.Lane
		there []pipeline.ID
		free  uint64
		want  status
		says  string
	}{
		"40 MiB":                 {nil, steps.CPU, nil, 40 * mib, statusFail, "40 MiB are free, and the results that are not there yet take 197.3 MiB"},
		"just enough":            {nil, steps.CPU, nil, 198 * mib, statusWarn, "198 MiB are free, and the results"},
		"enough":                 {nil, steps.CPU, nil, 400 * mib, statusOK, "400 MiB are free"},
		"none left":              {nil, steps.CPU, nil, 0, statusFail, "0 B are free"},
		"weights are there":      {nil, steps.CPU, []pipeline.ID{steps.IDWeights}, 100 * mib, statusWarn, "take 99"},
		"all is there":           {nil, steps.CPU, []pipeline.ID{"all"}, 1 * mib, statusOK, "1 MiB are free, and all results are there"},
		"a small file":           {[]string{"--weights=" + own}, steps.CPU, nil, 103 * mib, statusWarn, "take 102"},
		"an engine in fp16":      {nil, steps.GPU, nil, 240 * mib, statusFail, "take 247.9 MiB"},
		"an engine in fp32":      {[]string{"--precision=fp32"}, steps.GPU, nil, 290 * mib, statusFail, "take 298.4 MiB"},
		"it is not known though": {nil, "", nil, 40 * mib, statusOK, "40 MiB are free"},
		"nothing is free":        {nil, "", nil, 0, statusFail, "0 B are free"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := diagnose(t, container.Info{}, append([]string{"--weights=random:0"}, c.flags...)...)
			d.diskFree = func(string) (uint64, error) { return c.free, nil }
			d.planned = func() (planned, error) {
				if c.lane == "" {
					return planned{}, errors.New("no container engine")
				}
				source, _, err := d.wishes.weightsSource()
				o := steps.Options{Lane: c.lane, Precision: release.Precision(d.wishes.precision.value), Weights: source}
				p := planned{Options: o}
				for _, s := range steps.For(o, steps.Tools{}, steps.IDVerify) {
					kind := pipeline.WillRun
					if slices.Contains(c.there, s.ID()) || slices.Contains(c.there, "all") {
						kind = pipeline.WillReuse
					}
					p.rows = append(p.rows, pipeline.Planned{Step: s.ID(), Verdict: pipeline.Verdict{Kind: kind}})
				}
				return p, err
			}
			if f := d.cacheDisk(t.Context()); f.Status != c.want || !strings.Contains(f.Saw, c.says) || (f.Status == statusOK) != (f.Remedy == "") {
				t.Errorf("got %+v, want %s with %q", f, c.want, c.says)
			}
		})
	}
}

// The logs of a quiet run take little: what is free is a warning while it is more than nothing.
func TestDoctorWorkspaceDisk(t *testing.T) {
	t.Parallel()
	for free, want := range map[uint64]status{0: statusFail, 20 << 10: statusWarn, 16<<20 - 1: statusWarn, 16 << 20: statusOK} {
		d := diagnose(t, container.Info{}, "--weights=random:0")
		d.diskFree = func(string) (uint64, error) { return free, nil }
		f := d.workspaceDisk(t.Context())
		if f.Status != want || !strings.HasSuffix(f.Saw, " are free, and the logs of runs may take 16 MiB") || (f.Status == statusOK) != (f.Remedy == "") ||
			strings.Contains(f.Remedy, "docker") {
			t.Errorf("%d bytes: got %+v, want %s", free, f, want)
		}
	}
}

// Folders of somebody else are told of by name, whether this user may write to them or not.
func TestDoctorFoldersOfOthers(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	denied := func(path string) error { return &fs.PathError{Op: "write", Path: path, Err: fs.ErrPermission} }
	for name, c := range map[string]struct {
		flag     string
		writable func(path string) error
		owner    int
		want     status
		saw, do  string
	}{
		"ours":              {"--cache-dir", nil, os.Geteuid(), statusOK, "are free", ""},
		"another's":         {"--cache-dir", denied, nobody, statusFail, "permission denied; it belongs to user ", "`sudo chown -R "},
		"another's, by us":  {"--cache-dir", nil, nobody, statusWarn, "belongs to user ", "run dalirun as user "},
		"ours, without":     {"--workspace", denied, os.Geteuid(), statusFail, "permission denied", "let yourself write there"},
		"one that is known": {"--workspace", denied, nobody, statusFail, "permission denied; it belongs to user ", "or name another folder with --workspace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "d")
			below := filepath.Join(dir, map[string]string{"--cache-dir": "entries", "--workspace": "runs"}[c.flag])
			if err := os.MkdirAll(below, 0o700); err != nil {
				t.Fatal(err)
			}
			d := diagnose(t, container.Info{}, "--accel=cpu", "--weights=random:0", c.flag+"="+dir)
			// The folder itself may be ours, as after a run by sudo.
			d.owner = func(path string) (int, bool) {
				if path == below {
					return c.owner, true
				}
				return os.Geteuid(), true
			}
			if c.writable != nil {
				d.writable = func(path string) error {
					if path == below {
						return c.writable(path)
					}
					return nil
				}
			}
			look := d.workspaceDisk
			if c.flag == "--cache-dir" {
				look = d.cacheDisk
			}
			if f := look(t.Context()); f.Status != c.want || !strings.Contains(f.Saw, c.saw) || !strings.Contains(f.Remedy, c.do) || (c.do == "") != (f.Remedy == "") {
				t.Errorf("got %+v", f)
			}
		})
	}
}

// Local images may be there already, so too small a disk only warns; a store that cannot be seen says nothing.
func TestDoctorDiskOfLocalImages(t *testing.T) {
	t.Parallel()
	d := diagnose(t, container.Info{RootDir: t.TempDir()}, "--accel=cpu", "--weights=random:0")
	d.diskFree = func(string) (uint64, error) { return 2e9, nil }
	if f := d.imageDisk(t.Context()); f.Status != statusWarn || !strings.Contains(f.Saw, "the local images and their build may need 6 GiB") {
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

// The longest ways through the checks end before doctor does: what is slow is told by what was slow.
func TestDoctorDeadlines(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]time.Duration{
		"nvidia-smi, then the registry":                         smiWithin + registryWithin,
		"a container engine on another host, then the registry": engineWithin + registryWithin,
		"weights": reachWithin,
	} {
		if way >= doctorWithin {
			t.Errorf("%s: %s, and doctor ends after %s", name, way, doctorWithin)
		}
	}
}

// An nvidia-smi that a run would wait for is no failure, and nothing is said of what rests on it.
func TestDoctorSlowSMI(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--weights=random:0"}, {"--weights=random:0", "--accel=gpu"}, {"--weights=random:0", "--server-image=a/b:c"}} {
		d := diagnose(t, container.Info{Version: "29.0.0", Arch: "amd64"}, flags...)
		d.on.smi = func(ctx context.Context) (host.GPUs, error) {
			if until, ok := ctx.Deadline(); !ok || time.Until(until) > smiWithin {
				t.Errorf("it may answer until %s", until)
			}
			return host.GPUs{}, errSlowSMI
		}
		findings := d.run()
		if f := find(t, findings, checkGPU); f.Status != statusWarn || f.Saw != "nvidia-smi gave no whole answer within 6s; a run waits longer" || f.Remedy == "" {
			t.Errorf("%q: %+v", flags, f)
		}
		if err := verdict(findings); err != nil {
			t.Errorf("%q: %v", flags, err)
		}
		for _, f := range findings {
			if slices.Contains([]string{"release", checkContainerGPU, "gpu memory", checkImages, "image disk"}, f.Check) {
				t.Errorf("%q: %+v", flags, f)
			}
		}
	}
}

// Ports of a container engine on another host cannot be seen from here; one that was not named may be taken.
func TestTakenPorts(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // only listened
	p := container.Port{Host: netip.MustParseAddrPort(listener.Addr().String()).Port()}
	taken, err := takenPorts(t.Context(), container.Info{}, p)
	if err != nil || len(taken) != 1 || !strings.Contains(taken[0].String(), " is in use by ") || taken[0].refusal() != nil {
		t.Errorf("here: %v, %v", taken, err)
	}
	p.Required = true
	if taken, err := takenPorts(t.Context(), container.Info{}, p); err != nil || len(taken) != 1 || exitCode(taken[0].refusal()) != ExitEnvironment {
		t.Errorf("named: %v, %v", taken, err)
	}
	if taken, err := takenPorts(t.Context(), container.Info{Remote: true}, p); err != nil || len(taken) > 0 {
		t.Errorf("on another host: %v, %v", taken, err)
	}
}

func TestDoctorPlatform(t *testing.T) {
	t.Parallel()
	for kernel, want := range map[string]finding{
		"Linux version 6.8.0-45-generic (buildd@lcy02)":       {Status: statusOK, Saw: ""},
		"Linux version 5.15.90.1-microsoft-standard-WSL2 (x)": {Status: statusOK, Saw: "WSL 2: its driver has no whole NVML, so DALI_DISABLE_NVML=1 is set in containers"},
		"Linux version 4.4.0-19041-Microsoft (x)":             {Status: statusWarn, Saw: "WSL 1, which has no GPU"},
	} {
		d := &diagnosis{on: thisHost{root: fstest.MapFS{"proc/version": {Data: []byte(kernel)}}}}
		if f := d.platform(t.Context()); f.Status != want.Status || !strings.Contains(f.Saw, want.Saw) {
			t.Errorf("%s: %+v", kernel, f)
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
		{release.FP16, 256, 3584, statusOK, "3.5 GiB of 79.65 GiB are free"},
		{release.FP16, 256, 3500, statusWarn, "takes 3.499 GiB if every kernel is tried"},
		{release.FP16, 256, 2700, statusWarn, "needs 2.757 GiB at least: build-engine would refuse, unless the engine is in the cache"},
		{release.FP32, 256, 3584, statusWarn, "and building an engine for up to 256 pictures needs"}, // and twice that in fp32
		{release.FP16, 8, 2000, statusOK, "1.953 GiB of"},
		{release.FP16, 1, 1000, statusWarn, "building an engine for up to 1 picture needs 1.779 GiB at least"},
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
