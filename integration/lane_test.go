//go:build integration

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/integration/stub/record"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// lane is what the tests of the GPU lane share: an engine that knows --gpus, stub images on it, and an nvidia-smi.
type lane struct {
	engine engine
	stubs  stubs
	smi    string // folder of the nvidia-smi
	cache  string // shared by the runs that are to fail late
}

func newLane(t *testing.T) lane {
	t.Helper()
	e := startEngine(t)
	l := lane{engine: e, stubs: newStubs(t, e), smi: nvidiaSMI(t), cache: t.TempDir()}
	t.Cleanup(func() {
		if left := e.containers(t, ""); len(left) != 0 {
			t.Errorf("containers are left: %v", left)
		}
	})
	l.stubs.pytorch(t, pytorchRef(stubRegistry, "25.03"), pytorch2503...)
	l.stubs.triton(t, tritonRef(stubRegistry, "25.03"), triton2503...)
	return l
}

// smiProcesses is the file beside an nvidia-smi that has the programs that compute on the GPU: none.
const smiProcesses = "nvidia-smi-processes.csv"

// nvidiaSMI makes an nvidia-smi that says what it said on an H100, and returns its folder, which every user can read.
func nvidiaSMI(t *testing.T) string {
	t.Helper()
	dir := user{UID: os.Getuid(), GID: os.Getgid()}.folder(t)
	var errs []error
	errs = append(errs, os.WriteFile(filepath.Join(dir, smiProcesses), nil, 0o644))
	for _, name := range []string{"nvidia-smi-query.csv", "nvidia-smi.txt"} {
		text, err := os.ReadFile(filepath.Join("..", "internal", "host", "testdata", name))
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	script := fmt.Sprintf("#!/bin/sh\ncase \"$1\" in\n--query-gpu=*) cat %[1]s/nvidia-smi-query.csv ;;\n--query-compute-apps=*) cat %[1]s/"+smiProcesses+" ;;\n*) cat %[1]s/nvidia-smi.txt ;;\nesac\n", dir)
	if err := errors.Join(append(errs, os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755))...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// opts are those of runs in a new workspace, with a cache of their own.
func (l lane) opts(t *testing.T) opts {
	t.Helper()
	return opts{Dir: t.TempDir(), Path: []string{l.smi}}
}

// flags name the lane and the stub images of a registry's release.
func flags(registry, release string, further ...string) []string {
	return append([]string{"--accel", "gpu", "--registry", registry, "--release", release, "--weights", "random:0"}, further...)
}

// variant makes images that are those of 25.03 but for a server, or a PyTorch, that fails in a way, and returns their registry.
func (l lane) variant(t *testing.T, fail string) string {
	t.Helper()
	registry := stubRegistry + "/" + fail
	if fail == "bad-onnx" {
		l.stubs.pytorch(t, pytorchRef(registry, "25.03"), append(slices.Clone(pytorch2503), "STUB_FAIL="+fail)...)
		l.stubs.tag(t, tritonRef(stubRegistry, "25.03"), tritonRef(registry, "25.03"))
		return registry
	}
	l.stubs.tag(t, pytorchRef(stubRegistry, "25.03"), pytorchRef(registry, "25.03"))
	l.stubs.triton(t, tritonRef(registry, "25.03"), append(slices.Clone(triton2503), "STUB_FAIL="+fail)...)
	return registry
}

// outcome is the report of a run, and what the programs in its containers recorded.
type outcome struct {
	report.Report
	dir string // of the run's logs
}

// e2e runs dalirun e2e and reads its report.
func (l lane) e2e(t *testing.T, o opts, want int, args ...string) (outcome, result) {
	t.Helper()
	r := mustRun(t, want, l.engine, o, append([]string{"e2e", "--format", "json"}, args...)...)
	return read(t, o, r), r
}

func read(t *testing.T, o opts, r result) outcome {
	t.Helper()
	var out outcome
	if err := json.Unmarshal([]byte(r.Stdout), &out.Report); err != nil {
		t.Fatalf("its output is not one JSON object: %v\n%s", err, r.Stdout)
	}
	out.dir = owner.RunDir(filepath.Join(o.Dir, ".dalirun"), out.Run)
	return out
}

// states says how each step ended.
func (o outcome) states() map[pipeline.ID]pipeline.EndState {
	states := map[pipeline.ID]pipeline.EndState{}
	for _, s := range o.Steps {
		states[s.ID] = s.State
	}
	return states
}

// step returns what became of one.
func (o outcome) step(t *testing.T, id pipeline.ID) report.Step {
	t.Helper()
	i := slices.IndexFunc(o.Steps, func(s report.Step) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("there is no step %s in %v", id, o.Steps)
	}
	return o.Steps[i]
}

// log returns what a step's container wrote; empty if it had none.
func (o outcome) log(t *testing.T, id pipeline.ID) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.dir, string(id)+".log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// record returns what the one program of a step's container recorded.
func (o outcome) record(t *testing.T, id pipeline.ID) record.Record {
	t.Helper()
	records, err := record.Parse(o.log(t, id))
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 {
		t.Fatalf("%s: %d programs recorded themselves, want 1", id, len(records))
	}
	return records[0]
}

// engineMounts are in every container, beside what is under /proc, /sys and /dev.
var engineMounts = []string{"/", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/sbin/docker-init", "/sys", "/proc"}

// sandbox says what every container must be: the caller's, without rights, with a read-only root, and with these folders
// and files of the host and no others.
type sandbox struct {
	uid, gid        int
	inputs, outputs []string
	gpus            string // NVIDIA_VISIBLE_DEVICES
	network         bool
}

func (s sandbox) check(t *testing.T, id pipeline.ID, r record.Record) {
	t.Helper()
	if r.UID != s.uid || r.GID != s.gid {
		t.Errorf("%s ran as %d:%d, want the caller, %d:%d", id, r.UID, r.GID, s.uid, s.gid)
	}
	if strings.Trim(r.Caps, "0") != "" || !r.NoNewPrivs || !r.Init {
		t.Errorf("%s: capabilities %s, no_new_privs %v, an init %v; want none, true, true", id, r.Caps, r.NoNewPrivs, r.Init)
	}
	if root := r.Mounts["/"]; !root.ReadOnly {
		t.Errorf("%s: its root file system is writable", id)
	}
	if tmp := r.Mounts["/tmp"]; tmp.Type != "tmpfs" || tmp.ReadOnly {
		t.Errorf("%s: /tmp is %+v, want a writable tmpfs", id, tmp)
	}
	got := map[string]string{}
	for target, m := range r.Mounts {
		if target == "/tmp" || slices.Contains(engineMounts, target) || strings.HasPrefix(target, "/proc/") ||
			strings.HasPrefix(target, "/sys/") || strings.HasPrefix(target, "/dev/") {
			continue
		}
		got[target] = map[bool]string{true: "read-only", false: "writable"}[m.ReadOnly]
	}
	want := map[string]string{}
	for _, target := range s.inputs {
		want[target] = "read-only"
	}
	for _, target := range s.outputs {
		want[target] = "writable"
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: mounts (-want +got):\n%s", id, diff)
	}
	if s.network != (len(r.Interfaces) > 0) {
		t.Errorf("%s: its network interfaces are %v, want some: %v", id, r.Interfaces, s.network)
	}
	for name, value := range map[string]string{
		"NVIDIA_VISIBLE_DEVICES": s.gpus, "HOME": "/tmp", "USER": "dalirun", "TORCH_HOME": "/tmp/torch",
	} {
		if r.Env[name] != value {
			t.Errorf("%s: %s=%q, want %q", id, name, r.Env[name], value)
		}
	}
}

// checkSandboxes checks every container of a whole run of the GPU lane.
func (o outcome) checkSandboxes(t *testing.T, uid, gid int) {
	t.Helper()
	const programs = "/dalirun/python"
	all := map[pipeline.ID]sandbox{
		steps.IDWeights:       {inputs: []string{programs}, outputs: []string{"/out"}},
		steps.IDExportONNX:    {inputs: []string{programs, "/in/weights.pth"}, outputs: []string{"/out"}},
		steps.IDReference:     {inputs: []string{programs, "/in/weights.pth", "/dalirun/picture"}, outputs: []string{"/out"}},
		steps.IDBuildEngine:   {inputs: []string{"/in/model.onnx"}, outputs: []string{"/out"}, gpus: "all"},
		steps.IDSerializeDALI: {inputs: []string{programs}, outputs: []string{"/out"}, gpus: "all"},
		steps.IDServe:         {inputs: []string{"/models"}, gpus: "all", network: true},
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		s := all[id]
		s.uid, s.gid = uid, gid
		s.check(t, id, o.record(t, id))
	}
}
