package status_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/schematest"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/status"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

var update = flag.Bool("update", false, "write the golden files and the schema")

const ensemble = "ensemble_dali_resnet50"

// engine is a container engine with one container, in which a server is.
type engine struct {
	container.Container

	server *tritontest.Server
	log    string
	smi    string // what nvidia-smi says of the GPUs

	mu  sync.Mutex
	all []container.Summary
}

func (e *engine) List(context.Context, container.Labels) ([]container.Summary, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all, nil
}
func (e *engine) Open(context.Context, string) (container.Container, error) { return e, nil }
func (e *engine) Remove(context.Context, string) error                      { return nil }

func (e *engine) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	return e.server.Dial(ctx, port)
}

func (e *engine) Exec(_ context.Context, argv []string, out container.Streams) (int, error) {
	if e.smi == "" {
		return 127, nil
	}
	if argv[0] == "nvidia-smi" && len(argv) > 1 {
		_, _ = io.WriteString(out.Stdout, e.smi)
	}
	return 0, nil
}

func (e *engine) Logs(_ context.Context, o container.LogOptions, each func(container.LogLine) error) error {
	lines := strings.Split(e.log, "\n")
	for _, line := range lines[max(0, len(lines)-o.Tail):] {
		if err := each(container.LogLine{Time: time.Unix(1_795_000_000, 0), Text: line}); err != nil {
			return err
		}
	}
	return nil
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

// served is a workspace whose server has stages of known times.
func served(t *testing.T) (status.Place, *engine) {
	t.Helper()
	server := tritontest.NewInMemory(t, tritontest.Staged(ensemble,
		tritontest.Stage{Name: "net", Instances: 4, MaxBatch: 8, Time: always(10 * time.Millisecond)},
		tritontest.Stage{Name: "dali", Instances: 2, MaxBatch: 8, Time: always(100 * time.Millisecond)},
	)...)
	server.MustLoad(ensemble)
	workspace := t.TempDir()
	e := &engine{server: server, all: []container.Summary{{
		ID: "c1", Name: "server", Image: "image:1", Running: true, Created: time.Now().Add(-time.Hour),
		Labels: container.Labels{
			container.LabelRun: "r1", container.LabelHost: "here", container.LabelBoot: "b1", container.LabelWorkspace: workspace,
			container.LabelStep: "serve", container.LabelRole: string(container.RoleServer),
		},
		Ports: map[uint16]netip.AddrPort{
			triton.PortGRPC: netip.MustParseAddrPort("127.0.0.1:8001"), triton.PortHTTP: netip.MustParseAddrPort("0.0.0.0:8000"),
		},
	}}}
	p := status.Place{
		Servers:   serving.Servers{Runtime: e, Me: owner.Identity{Host: "here", Boot: "b1", Now: time.Now()}, Step: "serve", Model: ensemble},
		Workspace: workspace, Window: status.UsualWindow,
	}
	record(t, p, func(*owner.ServerFile) {})
	return p, e
}

// record writes what is recorded of the server, changed.
func record(t *testing.T, p status.Place, change func(*owner.ServerFile)) {
	t.Helper()
	file := owner.ServerFile{
		Container: "c1", Name: "server", Run: "r1", Host: "here", Served: owner.Served{
			Lane: "cpu", Source: "local", Precision: "fp32", Weights: "random:0", LabelsMeanNothing: new(true),
		}, Repository: "/cache/a", Command: []string{"serve", "--detach"}, Image: "sha256:0123456789abcdef",
		Started: time.Now().Add(-time.Minute).UTC(),
	}
	change(&file)
	if err := owner.WriteServer(p.Workspace, file); err != nil {
		t.Fatal(err)
	}
}

// built records what was built last.
func built(t *testing.T, p status.Place, b owner.Built) {
	t.Helper()
	b.Run, b.Time, b.Target = "r2", time.Now().UTC(), []byte("{}")
	if err := os.MkdirAll(owner.RunDir(p.Workspace, "r2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := owner.WriteBuilt(p.Workspace, b); err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, p status.Place) status.Status {
	t.Helper()
	s, err := p.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Figures are what the server was asked: those of the window are not those since the models were loaded.
func TestFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, e := served(t)
		client, err := triton.DialIn(e.server)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close() //nolint:errcheck // nothing is in flight
		picture, err := serving.Picture()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for range 4 { // more than dali has instances: some share a batch
			clients.Go(func() {
				for ctx.Err() == nil {
					if _, err := client.Classify(ctx, ensemble, picture, 1); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
		}
		time.Sleep(10 * time.Second) // of the bubble's time
		s := look(t, p)
		stop()
		clients.Wait()

		var names []string
		for _, m := range s.Models {
			names = append(names, m.Name)
			if m.State != triton.StateReady || m.Version != "1" || m.Figures == nil || m.FiguresMissing != "" {
				t.Fatalf("%+v", m)
			}
		}
		if diff := cmp.Diff([]string{ensemble, "net", "dali"}, names); diff != "" { // as a request runs
			t.Fatalf("models (-want +got):\n%s", diff)
		}
		top, net, dali := s.Models[0].Figures, s.Models[1].Figures, s.Models[2].Figures
		if s.WindowSeconds != 1 || !top.Ensemble || top.Busy != 0 || top.MaxBatch != 8 || s.Served.MaxBatch != 8 {
			t.Errorf("window %v s, ensemble %+v", s.WindowSeconds, top)
		}
		if dali.Instances != 2 || dali.Busy < 0.8 || dali.Busy > 1.01 || math.Abs(dali.ComputeSeconds-0.1) > 1e-6 || net.Busy > 0.2 || net.Busy == 0 {
			t.Errorf("dali %+v, net %+v", dali, net)
		}
		if dali.Requests < 200 || dali.RequestsPerSecond < 20 || dali.RequestsPerSecond > 41 || dali.AverageBatch <= 1 || dali.Executions == 0 {
			t.Errorf("dali %+v", dali)
		}
		if since := time.Since(dali.LastInference); since < 0 || since > 2*time.Second {
			t.Errorf("the last inference was %s ago", since)
		}
		if err := s.Fault(); err != nil || s.Health.State != serving.Healthy {
			t.Errorf("%+v: %v", s.Health, err)
		}
		want := status.Server{
			Name: "server", Container: "c1", Image: "image:1", Run: "r1", Running: true,
			GRPC: "127.0.0.1:8001", HTTP: "127.0.0.1:8000",
		}
		if diff := cmp.Diff(want, s.Server, cmpopts.IgnoreTypes(time.Time{})); diff != "" {
			t.Errorf("server (-want +got):\n%s", diff)
		}
		if age := s.Judged.Sub(s.Server.Ready); age < time.Minute || s.Server.Created.After(s.Server.Ready) {
			t.Errorf("made %s, ready %s, judged %s", s.Server.Created, s.Server.Ready, s.Judged)
		}
		if s.Built != nil || len(s.Findings) > 0 || len(s.GPUs) > 0 || s.GPUsMissing != "" || s.ModelsMissing != "" {
			t.Errorf("%+v", s)
		}
	})
}

// What was built since is told with what differs of it and what serves it.
func TestBuilt(t *testing.T) {
	t.Parallel()
	last := func(repository, lane string, seed, maxBatch int) owner.Built {
		return owner.Built{Repository: repository, MaxBatch: maxBatch, Served: owner.Served{
			Lane: lane, Source: "local", Precision: "fp32", Weights: fmt.Sprintf("random:%d", seed),
		}}
	}
	for name, tt := range map[string]struct {
		built   owner.Built
		want    string // nothing if there is nothing to serve
		finding string
	}{
		"the same":              {built: last("/cache/a", "cpu", 1, 128)},
		"other weights":         {last("/cache/b", "cpu", 1, 8), "weights random:1 (served: random:0), at TIME: `dalirun reload --workspace W` serves it", ""},
		"another largest batch": {last("/cache/b", "cpu", 0, 128), "max batch 128 (served: 8), at TIME: `dalirun reload --workspace W` serves it", ""},
		"nothing with a word":   {last("/cache/b", "cpu", 0, 8), "of other settings, at TIME: `dalirun reload --workspace W` serves it", ""},
		"another lane":          {last("/cache/b", "gpu", 0, 8), "lane gpu (served: cpu), at TIME: `dalirun restart --workspace W` serves it", ""},
		"another image alone": {
			withImage(last("/cache/a", "cpu", 0, 8)),
			"server image fedcba987654 (served: 0123456789ab), at TIME: `dalirun restart --workspace W` serves it", "",
		},
		"an older record":     {owner.Built{Repository: "/cache/b"}, "of other settings, at TIME: `dalirun reload --workspace W` serves it", ""},
		"what cannot be read": {owner.Built{}, "", "it names no run or no repository"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, _ := served(t)
				built(t, p, tt.built)
				s := look(t, p)
				var text bytes.Buffer
				if err := s.WriteText(&text); err != nil {
					t.Fatal(err)
				}
				got := ""
				if _, rest, ok := strings.Cut(text.String(), "  built since  "); ok {
					got, _, _ = strings.Cut(rest, "\n")
					got = strings.NewReplacer(p.Workspace, "W", s.Built.Time.Format(time.RFC3339), "TIME").Replace(got)
				}
				if got != tt.want || (s.Built == nil) != (tt.want == "") {
					t.Errorf("built since: %q, want %q", got, tt.want)
				}
				if tt.finding != "" && (len(s.Findings) != 1 || !strings.Contains(s.Findings[0].Text, tt.finding)) {
					t.Errorf("findings %+v, want %q", s.Findings, tt.finding)
				}
			})
		})
	}
}

// On the gpu lane the memory is that of the GPUs in the container, and a full pool is told of.
func TestGPULane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, e := served(t)
		record(t, p, func(f *owner.ServerFile) { f.Lane = "gpu" })
		if s := look(t, p); len(s.GPUs) > 0 || !strings.Contains(s.GPUsMissing, "in the server's container: no usable NVIDIA GPU") {
			t.Errorf("%+v, %q", s.GPUs, s.GPUsMissing)
		}
		e.smi = "0, GPU-b2b1, NVIDIA H100 80GB HBM3, 580.95.05, 81559, 61559, 9.0, Disabled, 00000000:00:06.0, Default\n" +
			"1, GPU-b2b2, NVIDIA GB10, 580.95.05, [N/A], [N/A], 12.1, [N/A], 00000000:00:07.0, Default\n"
		e.log = tooltest.Output("tritonserver-gpu-stop.log")
		s := look(t, p)
		const mib = 1 << 20
		want := []status.GPU{
			{Index: 0, UUID: "GPU-b2b1", Name: "NVIDIA H100 80GB HBM3", MemoryUsedBytes: 20000 * mib, MemoryBytes: 81559 * mib},
			{Index: 1, UUID: "GPU-b2b2", Name: "NVIDIA GB10"},
		}
		if diff := cmp.Diff(want, s.GPUs); diff != "" || s.GPUsMissing != "" {
			t.Errorf("missing %q; (-want +got):\n%s", s.GPUsMissing, diff)
		}
		if len(s.Findings) != 1 || !strings.Contains(s.Findings[0].Text, "--serving cuda-pool=SIZE") || s.Findings[0].Time.IsZero() {
			t.Errorf("findings %+v", s.Findings)
		}
	})
}

// A server that is not healthy has an exit code and what mends it, and is asked no more than it answers.
func TestUnhealthy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		become func(*testing.T, status.Place, *engine)
		state  serving.State
		models int
		kind   pipeline.Kind
	}{
		"a killed stub": {func(_ *testing.T, _ status.Place, e *engine) { e.server.KillStub("dali") }, serving.Failing, 3, pipeline.NotReady},
		"a restart":     {func(_ *testing.T, _ status.Place, e *engine) { e.server.Restart() }, serving.Unloaded, 3, pipeline.NotReady},
		"a crash":       {func(_ *testing.T, _ status.Place, e *engine) { e.server.Stop() }, serving.Silent, 0, pipeline.NotReady},
		"an end":        {func(_ *testing.T, _ status.Place, e *engine) { e.all[0].Running = false }, serving.Ended, 0, pipeline.NotReady},
		"a damaged file": {func(t *testing.T, p status.Place, e *engine) {
			t.Helper()
			e.server.Restart()
			if err := os.WriteFile(owner.ServerPath(p.Workspace), []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, serving.Unloaded, 3, pipeline.NotReady},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, e := served(t)
				tt.become(t, p, e)
				s := look(t, p)
				fault, ok := errors.AsType[*pipeline.Fault](s.Fault())
				if s.Health.State != tt.state || len(s.Models) != tt.models || !ok || fault.Kind != tt.kind || !strings.Contains(fault.Hint, "dalirun stop") {
					t.Errorf("%+v, %d models, %v", s.Health, len(s.Models), s.Fault())
				}
				if s.ModelsMissing != "" {
					t.Errorf("missing: %s", s.ModelsMissing)
				}
				if damaged := name == "a damaged file"; damaged != (len(s.Findings) == 1) {
					t.Errorf("findings %+v", s.Findings)
				}
			})
		})
	}
}

// A server without a model of which the container engine alone knows something, and a workspace without a server.
func TestNoServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, e := served(t)
		e.all = nil
		_, err := p.Look(t.Context())
		if fault, ok := errors.AsType[*pipeline.Fault](err); !ok || fault.Kind != pipeline.NotReady || !strings.Contains(fault.Hint, "dalirun serve") {
			t.Errorf("%v", err)
		}
		record(t, p, func(f *owner.ServerFile) { f.Host = "there" })
		_, err = p.Look(t.Context())
		if fault, ok := errors.AsType[*pipeline.Fault](err); !ok || fault.Kind != pipeline.Environment || !strings.Contains(fault.Hint, "dalirun status") {
			t.Errorf("%v", err)
		}
	})
}

// A model that is loaded anew in the window, as by a reload, takes the figures of no other away.
func TestLoadedAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, e := served(t)
		look(t, p) // which asks once
		client, err := triton.DialIn(e.server)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close() //nolint:errcheck // nothing is in flight
		reloaded := time.AfterFunc(500*time.Millisecond, func() {
			if err := errors.Join(client.Unload(t.Context(), "dali"), client.Load(t.Context(), "dali")); err != nil {
				t.Error(err)
			}
		})
		defer reloaded.Stop()
		s := look(t, p)
		for _, m := range s.Models {
			if missing := m.Name != "net"; missing != (m.FiguresMissing != "") || missing != (m.Figures == nil) { // the ensemble went with dali
				t.Errorf("%s: %+v, missing %q", m.Name, m.Figures, m.FiguresMissing)
			}
		}
	})
}

// A watch goes on over a server that is not healthy, and ends when it is gone, with its context, and when nobody looks.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, e := served(t)
		var states []serving.State
		var times []time.Time
		err := p.Watch(t.Context(), 2*time.Second, func(s status.Status) error {
			states, times = append(states, s.Health.State), append(times, time.Now())
			switch len(states) {
			case 1:
				e.server.Restart()
			case 2:
				e.server.MustLoad(ensemble)
			case 3:
				e.all = nil
			}
			return nil
		})
		if diff := cmp.Diff([]serving.State{serving.Healthy, serving.Unloaded, serving.Healthy}, states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if fault, ok := errors.AsType[*pipeline.Fault](err); !ok || fault.Kind != pipeline.NotReady {
			t.Errorf("%v", err)
		}
		if len(times) == 3 && times[2].Sub(times[0]) != 4*time.Second {
			t.Errorf("it looked at %v", times)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p, e := served(t)
		e.all[0].Running = false
		err := p.Watch(t.Context(), 2*time.Second, func(status.Status) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "its container has ended") {
			t.Errorf("%v", err)
		}
		ended := errors.New("ended")
		e.all[0].Running = true
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := p.Watch(ctx, 2*time.Second, func(status.Status) error { cancel(ended); return nil }); !errors.Is(err, ended) {
			t.Errorf("%v", err)
		}
		if err := p.Watch(t.Context(), time.Second, func(status.Status) error { return io.EOF }); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	})
}

// example has everything that a status can have.
func example() status.Status {
	at := time.Unix(1_795_000_000, 0).UTC()
	return status.Status{
		Version: status.Version, Workspace: "/home/me/p/.dalirun", Judged: at,
		Health: serving.Health{State: serving.Busy, Model: ensemble, Reason: "others were answered meanwhile: no answer\x1b[2J"},
		Server: status.Server{
			Name: "dalirun-serve-4f1c2d", Container: "4f1c2d", Image: "nvcr.io/nvidia/tritonserver:25.03-py3", Run: "20261126T225026Z-ad382c",
			Running: true, Created: at.Add(-2 * time.Hour), Ready: at.Add(-time.Hour - 48*time.Minute),
			GRPC: "127.0.0.1:8001", HTTP: "127.0.0.1:8000", Metrics: "127.0.0.1:8002", Engine: "tcp://gpus:2376",
		},
		Served: status.Served{
			Served:   owner.Served{Lane: "gpu", Source: "ngc", Release: "25.03", Precision: "fp16", Weights: "random:0", LabelsMeanNothing: new(true)},
			MaxBatch: 256, Repository: "/cache/a",
		},
		Built: &status.Built{
			Served: status.Served{
				Served:   owner.Served{Lane: "gpu", Source: "ngc", Release: "25.03", Precision: "fp32", Weights: "/w.pth", LabelsMeanNothing: new(false)},
				MaxBatch: 256, Repository: "/cache/b",
			},
			Run: "20261126T235026Z-bd382c", Time: at.Add(-time.Minute), Command: "dalirun reload",
			Differences: []owner.Difference{
				{Fact: "weights", Served: "random:0", Built: "/w.pth"}, {Fact: "precision", Served: "fp16", Built: "fp32"},
			},
		},
		GPUs:        []status.GPU{{UUID: "GPU-b2b1", Name: "NVIDIA H100 80GB HBM3", MemoryUsedBytes: 20 << 30, MemoryBytes: 85_520_809_984}, {Index: 1, UUID: "GPU-b2b2", Name: "NVIDIA GB10"}},
		GPUsMissing: "the container engine does not answer",
		Models: []status.Model{
			{Name: ensemble, Version: "1", State: triton.StateReady, Figures: &status.Figures{
				Ensemble: true, MaxBatch: 256, Requests: 10400, Failures: 3, Pictures: 10400, Executions: 10400, AverageBatch: 1,
				QueueSeconds: 0.0001, InputSeconds: 0.0021, ComputeSeconds: 0.0153, OutputSeconds: 0.0004, LastInference: at, RequestsPerSecond: 7933, PicturesPerSecond: 7933,
			}},
			{Name: "dali", Version: "1", State: triton.StateReady, Figures: &status.Figures{
				Instances: 4, MaxBatch: 256, Requests: 10400, Pictures: 10400, Executions: 200, AverageBatch: 52,
				QueueSeconds: 0.0054, InputSeconds: 0.0021, ComputeSeconds: 0.0121, OutputSeconds: 0.0004, LastInference: at.Add(-90 * time.Second), RequestsPerSecond: 7933, PicturesPerSecond: 7933, Busy: 0.912,
			}},
			{Name: "resnet50_trt", Version: "1,2", State: triton.StateReady, FiguresMissing: "model resnet50_trt was loaded anew while it was measured: its counts became less"},
			{Name: "dali_candidate1", Version: "1", State: triton.StateUnavailable, Reason: "unloaded"},
			{Name: "other"},
		},
		ModelsMissing: "the server did not say it within 10s", WindowSeconds: 1.004,
		Findings: []status.Finding{{Text: "the pool is full: give it more", Time: at.Add(-time.Minute)}, {Text: "server.json is damaged"}},
	}
}

func TestWriteText(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := example().WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/status.txt", text.Bytes())
}

// What programs read stays what docs/schemas has, and that is what the types say.
func TestSchema(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := stdout.WriteJSON(&text, example()); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/status.json", text.Bytes())
	words := schematest.Words{}
	var states []serving.State
	for _, s := range serving.States() {
		states = append(states, s.State)
	}
	schematest.Add(words, states...)
	schematest.Check[status.Status](t, "../../docs/schemas/status.schema.json", "What dalirun status says of a server", words, text.Bytes(), *update)
}

// golden compares a text with a file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got); go test -update writes it:\n%s", name, diff)
	}
}

// withImage is what was built with another image than the server's.
func withImage(b owner.Built) owner.Built {
	b.Image = "sha256:fedcba9876543210"
	return b
}
