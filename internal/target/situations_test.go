package target_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

var update = flag.Bool("update", false, "write the golden file")

type named[T any] struct {
	name  string
	value T
}

// silent is the error of a container engine that does not answer, with the advice of its adapter.
type silent struct{ error }

func (silent) Advice() string { return "start it" }

func (s silent) Unwrap() error { return s.error }

func machines() []named[*machine] {
	change := func(m *machine, change func(*machine)) *machine {
		change(m)
		return m
	}
	prohibited, exclusive, unknown, old := h100(), h100(), h100(), h100()
	prohibited.ComputeMode, exclusive.ComputeMode = "Prohibited", "Exclusive_Process"
	unknown.Compute = ""
	old.Name, old.Compute = "Tesla V100-SXM2-16GB", "7.0"
	return []named[*machine]{
		{"no GPU", noGPU()},
		{"broken driver", change(noGPU(), func(m *machine) {
			m.gpuErr = &host.NoGPUError{Reason: "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch"}
		})},
		{"slow nvidia-smi", change(noGPU(), func(m *machine) { m.gpuErr = fmt.Errorf("nvidia-smi: %w", target.ErrSlow) })},
		{"H100", withGPUs(h100())},
		{"two H100, by the nvidia runtime", change(withGPUs(h100(), h100()), func(m *machine) {
			m.info.CDIDevices, m.info.Runtimes = nil, []string{container.NVIDIARuntime}
		})},
		{"V100", withGPUs(old)},
		{"H100 of unknown compute capability", withGPUs(unknown)},
		{"H100, Prohibited", withGPUs(prohibited)},
		{"H100, Exclusive_Process", withGPUs(exclusive)},
		{"H100, Exclusive_Process and Prohibited", withGPUs(exclusive, prohibited)},
		{"H100, no toolkit", change(withGPUs(h100()), func(m *machine) { m.info.CDIDevices = nil })},
		{"H100 on WSL", change(withGPUs(h100()), func(m *machine) { m.kernel = "Linux version 5.15.90.1-microsoft-standard-WSL2" })},
		{"H100, Podman", change(withGPUs(h100()), func(m *machine) { m.info.Name, m.info.CDIDevices = container.PodmanEngine, nil })},
		{"H100, old driver", change(withGPUs(h100()), func(m *machine) { m.gpus.Driver = "535.104.05" })},
		{"engine elsewhere, CDI", change(withGPUs(h100()), func(m *machine) {
			m.remote, m.info.Remote, m.info.Endpoint = true, true, "tcp://gpus:2376"
		})},
		{"engine elsewhere, no answer", change(withGPUs(h100()), func(m *machine) {
			m.remote, m.info, m.infoErr = true, container.Info{}, silent{container.ErrUnreachable}
		})},
		{"no engine by the environment", change(withGPUs(h100()), func(m *machine) {
			m.info = container.Info{}
			m.infoErr = pipeline.Faultf(pipeline.Environment, "correct DOCKER_HOST", "DOCKER_HOST: no such scheme")
		})},
		{"no engine", change(withGPUs(h100()), func(m *machine) { m.info, m.infoErr = container.Info{}, silent{container.ErrUnreachable} })},
		{"small disk", change(withGPUs(h100()), func(m *machine) { m.info.ImageDir, m.free = "/var/lib/docker", 1<<30 })},
		{"tight disk", change(withGPUs(h100()), func(m *machine) { m.info.ImageDir, m.free = "/var/lib/docker", 8<<30 })},
		{"no network", change(noGPU(), func(m *machine) {
			m.stored, m.reachErr = false, errors.New("no such host")
			m.registryErr = &registry.Error{Kind: registry.NoAnswer, Text: "look up an image: nvcr.io does not answer"}
		})},
		{"private registry", change(withGPUs(h100()), func(m *machine) {
			m.registryErr = &registry.Error{Kind: registry.Unauthorized, Registry: "nvcr.io", Text: "look up an image: nvcr.io wants credentials"}
		})},
		{"an engine that builds nothing", change(noGPU(), func(m *machine) { m.info.Name, m.info.NoBuilder = "Kubernetes", true })},
		{"H100, engine that builds nothing", change(withGPUs(h100()), func(m *machine) { m.info.Name, m.info.NoBuilder = "Kubernetes", true })},
		{"ports taken", change(noGPU(), func(m *machine) { m.ports = map[uint16]string{8000: "nginx (pid 7)", 9001: ""} })},
		{"base image made here", change(noGPU(), func(m *machine) {
			m.images = map[string]container.Image{target.MadeBaseImage: {}}
		})},
	}
}

func requests() []named[target.Request] {
	set := func(flag, value string) target.Setting { return target.Setting{Flag: flag, Value: value} }
	return []named[target.Request]{
		{"e2e", request("e2e")},
		{"e2e --accel cpu", withChange(request("e2e", set("accel", "cpu")), func(r *target.Request) { r.Accel = "cpu" })},
		{"e2e --require-gpu", withChange(request("e2e"), func(r *target.Request) { r.RequireGPU = true })},
		{"e2e --images ngc --accel cpu", withChange(request("e2e"), func(r *target.Request) { r.Images, r.Accel = "ngc", "cpu" })},
		{"e2e --images local --accel cpu", withChange(request("e2e", set("images", "local"), set("accel", "cpu")), func(r *target.Request) {
			r.Images, r.Accel = "local", "cpu"
		})},
		{"e2e --images local", withChange(request("e2e", set("images", "local")), func(r *target.Request) { r.Images = "local" })},
		{"setup --release 21.07", withChange(request("setup", set("release", "21.07")), func(r *target.Request) { r.Release = "21.07" })},
		{"e2e --host 0.0.0.0", withChange(request("e2e", set("host", "0.0.0.0")), func(r *target.Request) {
			r.Host = netip.IPv4Unspecified()
		})},
		{"setup, grpc-port: 9001", withChange(request("setup", target.Setting{Flag: "grpc-port", Value: "9001", From: "DALIRUN_GRPC_PORT"}),
			func(r *target.Request) { r.GRPCPort = 9001 })},
		{"tune, grpc-port: 9001", withChange(request("tune", target.Setting{Flag: "grpc-port", Value: "9001", From: "DALIRUN_GRPC_PORT"}),
			func(r *target.Request) { r.GRPCPort = 9001 })},
		{"serve --gpus device=1 --grpc-port 9001", withChange(
			request("serve", set("gpus", "device=1"), set("grpc-port", "9001")), func(r *target.Request) {
				r.GPUs, r.GRPCPort = container.GPUs{Devices: []string{"1"}}, 9001
			})},
		{"e2e, serving: dali-threads: 2", withChange(request("e2e"), func(r *target.Request) { r.Serving.DALIThreads = 2 })},
		{"plan --opt-batch 8 --precision fp32 --weights auto", withChange(request("plan", set("opt-batch", "8")), func(r *target.Request) {
			r.OptBatch, r.Precision, r.Weights = 8, release.FP32, target.WeightsSource{Kind: target.AutoWeights}
		})},
		{"e2e --frozen", withChange(request("e2e", target.Setting{Flag: "frozen", Value: "true", Switch: true}),
			func(r *target.Request) { r.Lock.Frozen = true })},
		{"e2e, with a lock", withChange(request("e2e"), func(r *target.Request) { r.Lock = lockOf2503() })},
		{"e2e --frozen, with a lock", withChange(request("e2e", target.Setting{Flag: "frozen", Value: "true", Switch: true}),
			func(r *target.Request) { r.Lock = lockOf2503(); r.Lock.Frozen = true })},
		{"doctor --weights pretrained", withChange(request("doctor"), func(r *target.Request) {
			r.Exhaustive, r.Weights = true, target.WeightsSource{Kind: target.Pretrained}
		})},
	}
}

// Each request on each machine comes to the target and the obstacles of the golden file, in a line of its own. The same
// answers, written down and read again, come to the same, byte for byte.
func TestSituations(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	for _, r := range requests() {
		fmt.Fprintf(&table, "%s\n", r.name)
		for _, m := range machines() {
			var answers target.Answers
			decided, obstacles, err := target.Resolve(t.Context(), r.value, target.Record(m.value.probes(), &answers))
			if err != nil {
				t.Fatalf("%s on %s: %v", r.name, m.name, err)
			}
			fmt.Fprintf(&table, "  %-35s %s\n", m.name, inALine(decided, obstacles))

			replay(t, r.name+" on "+m.name, r.value, &answers, decided, obstacles)
		}
	}
	golden := filepath.Join("testdata", "situations.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(table.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), table.String()); diff != "" {
		t.Errorf("-update writes it anew (-golden +now):\n%s", diff)
	}
	for _, check := range target.Checks() {
		if !strings.Contains(table.String(), strings.ReplaceAll(string(check), " ", "-")) {
			t.Errorf("no situation has an obstacle of the check %q", check)
		}
	}
}

// replay holds that recorded answers, written down and read again, come to the same target and obstacles, byte for byte.
func replay(
	t *testing.T, name string, r target.Request, answers *target.Answers, decided target.Target, obstacles []target.Obstacle,
) {
	t.Helper()
	replayAs(t, name, r, answers, decided, obstacles, r.Picture.Data, func(text []byte) []byte { return text })
	// What a record of a run has: secrets and persons are taken out of each text, and the same decision comes of it. A
	// picture is a member of its own there.
	picture := r.Picture.Data
	decided.Picture.Data, r.Picture.Data = nil, nil
	redactor := bundle.New("/home/me", "somebody", []string{"A_TOKEN=hunter2secret"}).KeepGPUs()
	replayAs(t, name+", redacted", r, answers, decided, obstacles, picture, func(text []byte) []byte { return []byte(redactor.Text(string(text))) })
	for _, o := range obstacles {
		if o.Remedy == "" {
			t.Errorf("%s: an obstacle of the check %q says nothing of what to do: %v", name, o.Check, o.Err)
		}
	}
	var read target.Target
	if decode(t, encode(t, decided), &read); !bytes.Equal(encode(t, read), encode(t, decided)) {
		t.Errorf("%s: the target is not what is read of it", name)
	}
}

// replayAs is replay of texts that were written down in a way.
func replayAs(
	t *testing.T, name string, r target.Request, answers *target.Answers, decided target.Target, obstacles []target.Obstacle, picture []byte,
	written func([]byte) []byte,
) {
	t.Helper()
	var back target.Answers
	var again target.Request
	decode(t, written(encode(t, answers)), &back)
	decode(t, written(encode(t, r)), &again)
	again.Picture.Data = picture
	same := func(value any) any { // in one order of keys
		var v any
		decode(t, written(encode(t, value)), &v)
		return v
	}
	replayed, obstaclesAgain, err := target.Resolve(t.Context(), again, target.Replay(&back))
	replayed.Picture.Data = decided.Picture.Data // it is that of the request
	if err != nil || len(back.Missing()) > 0 {
		t.Errorf("%s, replayed: %v, and %q was not asked before", name, err, back.Missing())
	}
	if diff := cmp.Diff(same(decided), same(replayed)); diff != "" {
		t.Errorf("%s: the replayed target (-first +replayed):\n%s", name, diff)
	}
	if diff := cmp.Diff(same(obstacles), same(obstaclesAgain)); diff != "" {
		t.Errorf("%s: the replayed obstacles (-first +replayed):\n%s", name, diff)
	}
}

// inALine is a target in a few words, with its obstacles: "!" refuses, "?" is a doubt.
func inALine(t target.Target, obstacles []target.Obstacle) string {
	words := []string{"-"}
	if t.Lane != "" {
		words = []string{string(t.Lane)}
	}
	add := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(t.Source != "", "%s", t.Source)
	add(t.Release.Tag != "", "%s", t.Release.Tag)
	add(t.BaseImage != "" && t.BaseImage != target.UsualBaseImage, "on %s", t.BaseImage)
	add(t.OptBatch != 0, "%s %d/%d %s", t.Precision, t.OptBatch, t.MaxBatch, t.Weights.Kind)
	add(t.Serving.DALIThreads != 0, "DALI %dx%d", t.Serving.DALIInstances, t.Serving.DALIThreads)
	add(t.Serving.CUDAPool != 0, "pool %dM", t.Serving.CUDAPool>>20)
	add(!t.GPUs.IsZero(), "--gpus %s", t.GPUs)
	add(t.NoNVML, "no NVML")
	add(len(t.Ports.Taken) > 0, "taken%s", fmt.Sprint(t.Ports.Taken))
	for _, o := range obstacles {
		mark := "!"
		if o.Doubt {
			mark = "?"
		}
		words = append(words, mark+strings.ReplaceAll(string(o.Check), " ", "-"))
	}
	return strings.Join(slices.Compact(words), " ")
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}
