package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/doctor"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// The toolkit's hook is found where a container engine would find it, and CDI's files where CDI has them.
func TestHostProbe(t *testing.T) {
	t.Parallel()
	nowhere := func(program string) (string, error) {
		return "", &fs.PathError{Op: "look for", Path: program, Err: fs.ErrNotExist}
	}
	onPath := func(program string) (string, error) { return path.Join("/opt/bin", program), nil }
	spec := &fstest.MapFile{Data: []byte("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")}
	for name, c := range map[string]struct {
		root      fstest.MapFS
		lookPath  func(string) (string, error)
		hook, cdi string
	}{
		"nothing":            {fstest.MapFS{"etc/cdi/other.yaml": {Data: []byte("kind: x")}}, nowhere, "", ""},
		"on our PATH":        {fstest.MapFS{}, onPath, "/opt/bin/" + target.ToolkitHook, ""},
		"on systemd's":       {fstest.MapFS{"usr/bin/" + target.ToolkitHook: {Mode: 0o755}}, nowhere, "/usr/bin/" + target.ToolkitHook, ""},
		"cannot be run":      {fstest.MapFS{"usr/bin/" + target.ToolkitHook: {Mode: 0o644}}, nowhere, "", ""},
		"CDI":                {fstest.MapFS{"etc/cdi/a.yaml": {Data: []byte("kind: x")}, "etc/cdi/nvidia.yaml": spec}, nowhere, "", "/etc/cdi/nvidia.yaml"},
		"CDI, while it runs": {fstest.MapFS{"var/run/cdi/nvidia.json": spec}, nowhere, "", "/var/run/cdi/nvidia.json"},
	} {
		h := hostProbe{root: c.root, lookPath: c.lookPath}
		if hook, cdi := h.ToolkitHook(), h.CDISpec(); hook != c.hook || cdi != c.cdi {
			t.Errorf("%s: %q and %q", name, hook, cdi)
		}
	}
	h := hostProbe{root: fstest.MapFS{"proc/version": {Data: []byte("Linux version 6\n")}}}
	if kernel := h.Kernel(); kernel != "Linux version 6" {
		t.Errorf("the kernel is %q", kernel)
	}
	if _, err := h.DiskFree(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if free, err := h.DiskFree(t.Context(), t.TempDir()); err != nil || free == 0 {
		t.Errorf("a folder that is there: %d, %v", free, err)
	}
}

// The cache remembers for how long the weights' host did not answer; one that cannot be opened remembers nothing.
func TestCacheProbe(t *testing.T) {
	t.Parallel()
	cache, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("it has another format")
	for name, c := range map[string]struct {
		probe cacheProbe
		want  time.Time
	}{
		"a cache": {cacheProbe{func() (*store.Store, error) { return cache, nil }}, time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC)},
		"none":    {cacheProbe{func() (*store.Store, error) { return nil, broken }}, time.Time{}},
	} {
		if at := c.probe.Unreached(); !at.IsZero() {
			t.Errorf("%s, before: %s", name, at)
		}
		err := c.probe.NoteUnreached(time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC))
		if at := c.probe.Unreached(); !at.Equal(c.want) || (err != nil) != c.want.IsZero() {
			t.Errorf("%s: %s, %v", name, at, err)
		}
		if _, _, ok := c.probe.RememberedImage("a"); ok || (weightsProbe{c.probe}).Stored(t.Context()) {
			t.Errorf("%s remembers what nobody noted", name)
		}
	}
}

// The container engine is asked once what it is.
func TestEngineProbe(t *testing.T) {
	t.Parallel()
	fake := &containertest.Fake{About: container.Info{Version: "29.0.0"}}
	p := (&App{}).probes(fake, nil)
	for range 2 {
		if info, err := p.Runtime.Info(t.Context()); err != nil || info.Version != "29.0.0" {
			t.Errorf("%+v, %v", info, err)
		}
		fake.InfoErr = errors.New("it was asked again")
	}
	if p.Runtime.Remote() {
		t.Error("one that does not say it is on another host")
	}
}

// What doctor asks beside each other ends before it does.
func TestDoctorHasTime(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]time.Duration{
		"nvidia-smi, then the registry": doctor.SMIWithin + registryWithin, "a container engine, then the registry": doctor.EngineWithin + registryWithin,
		"weights": reachWithin, "a disk": diskWithin,
	} {
		if way >= doctor.Within {
			t.Errorf("%s: %s, and doctor ends after %s", name, way, doctor.Within)
		}
	}
}

func TestForced(t *testing.T) {
	t.Parallel()
	var every []pipeline.ID
	for _, id := range forcible() {
		every = append(every, pipeline.ID(id))
	}
	slices.Sort(every)
	for name, c := range map[string]struct {
		force []string
		want  []pipeline.ID
	}{
		"none":           {nil, nil},
		"one":            {[]string{"export-onnx"}, []pipeline.ID{"export-onnx"}},
		"all is no step": {[]string{"all"}, every},
		"all and one":    {[]string{"export-onnx", "all"}, every},
	} {
		r := runFlags{force: c.force}
		if diff := cmp.Diff(c.want, slices.Sorted(maps.Keys(r.forced()))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The steps that can be forced are those whose results are stored.
func TestForcibleSteps(t *testing.T) {
	t.Parallel()
	var stored []string
	for _, lane := range []target.Lane{target.GPU, target.CPU} {
		for _, s := range steps.For(target.Target{Lane: lane, Source: target.NGC}, steps.Tools{}, steps.IDVerify) {
			if _, builds := s.(pipeline.Builder); builds && !slices.Contains(stored, string(s.ID())) {
				stored = append(stored, string(s.ID()))
			}
		}
	}
	for _, id := range stored {
		if !slices.Contains(forcible(), id) {
			t.Errorf("%s cannot be forced", id)
		}
	}
}

// A bundle that is stopped half way leaves no file.
func TestBundleStopped(t *testing.T) {
	t.Parallel()
	app := appIn(map[string]string{"DOCKER_HOST": "unix:///nowhere.sock"}, io.Discard, io.Discard)
	var r runFlags
	cmd := &cobra.Command{Use: "doctor"}
	r.flags(app, cmd)
	if err := errors.Join(cmd.ParseFlags([]string{"--accel=cpu", "--weights=random:0", "--workspace=" + t.TempDir()}), r.check()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "report.tar.gz")
	f, err := newBundle(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&SignalError{Signal: os.Interrupt})
	x, findings := doctor.Examine(ctx, app.patient(&r))
	if err := app.writeBundle(ctx, f, cmd, &r, x, findings); err == nil {
		t.Error("no error")
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}
