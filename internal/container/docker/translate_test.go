package docker

import (
	"encoding/json"
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/opts"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update accepts it):\n%s", path, diff)
	}
}

// specs are one of each kind that the steps have.
func specs() map[string]container.Spec {
	batch := container.Spec{
		Step: "export-onnx", Image: "dalirun/exporter:1", Command: []string{"python3", "/in/export.py", "--out=/out/model.onnx", "it's"},
		Env:     map[string]string{"TORCH_HOME": "/tmp/torch", "HOME": "/tmp", "EMPTY": ""},
		Network: container.NetworkNone, Role: container.RoleBatch,
		Inputs:   []container.Mount{{Source: "/home/me/my files, all", Target: "/in"}},
		Outputs:  []container.Mount{{Source: "/cache/tmp", Target: "/out"}},
		ReadOnly: true, Tmpfs: map[string]int64{"/tmp": 1 << 30}, Init: true, Memory: 4 << 30, Pids: 512, Shm: 1 << 30,
	}
	server := batch
	server.Step, server.Role, server.Network = "serve", container.RoleServer, container.NetworkPublish
	server.Inputs = []container.Mount{{Source: "/repository", Target: "/models"}}
	server.Outputs, server.Env = nil, nil
	server.Command = []string{"tritonserver", "--model-repository=/models"}
	server.Publish = []container.Port{
		{Container: 8000, Host: 8000}, {Container: 8001}, {Container: 8002, Host: 8002, Address: netip.MustParseAddr("::1")},
	}
	server.GPUs, server.Grace = container.GPUs{Count: container.AllGPUs}, 35*time.Second
	plain := container.Spec{Step: "versions", Image: "debian:bookworm", Network: container.NetworkNone}
	return map[string]container.Spec{"batch": batch, "server": server, "plain": plain}
}

func testRuntime(t *testing.T) *Runtime {
	t.Helper()
	r, err := New(Options{
		Host: "unix:///run/test.sock", UID: 1000, GID: 100,
		Labels: container.Labels{container.LabelRun: "20260823T101500Z-7f3a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	for name, spec := range specs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := testRuntime(t).translate(spec, facts{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(struct {
				Config     dcontainer.Config
				HostConfig dcontainer.HostConfig
			}{q.config, q.host}, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", append(got, '\n'))
		})
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	var got []byte
	all := specs()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		got = append(got, testRuntime(t).Repeat(all[name])+"\n"...)
	}
	golden(t, "commands.txt", got)
}

// The line that repeats a container asks for GPUs as Run does.
func TestRepeatByDevice(t *testing.T) {
	t.Parallel()
	r := testRuntime(t)
	for want, info := range map[string]container.Info{
		" --gpus=all ":                  {Name: "Docker Engine", Runtimes: []string{container.NVIDIARuntime}},
		" --device=nvidia.com/gpu=all ": {Name: container.PodmanEngine},
	} {
		r.lastFacts = &facts{info: info}
		q, err := r.translate(specs()["server"], *r.lastFacts)
		if err != nil {
			t.Fatal(err)
		}
		byDevice := strings.Contains(want, "device")
		if got := r.Repeat(specs()["server"]); !strings.Contains(got, want) || strings.Contains(got, "--gpus") == byDevice ||
			(q.host.DeviceRequests[0].Driver == "cdi") != byDevice {
			t.Errorf("%s: %s, and Run asks with %+v", info.Name, got, q.host.DeviceRequests)
		}
	}
}

// Podman reads a comma in a path of the Mounts API as the end of an option, and publishes on every address if it is given
// none. The line that repeats a container asks as Run does.
func TestTranslateForPodman(t *testing.T) {
	t.Parallel()
	spec := container.Spec{
		Image: "image", Network: container.NetworkPublish, Publish: []container.Port{{Container: 8001, Host: 81, Address: netip.IPv4Unspecified()}, {Container: 8000}},
		Inputs:  []container.Mount{{Source: "/a, b", Target: "/in"}, {Source: "/c", Target: "/c"}, {Source: "/d,e:f", Target: "/d"}},
		Outputs: []container.Mount{{Source: "/g,h", Target: "/out"}},
	}
	for name, want := range map[string]struct {
		binds, sources []string
		address        string
		line           string
	}{
		"Docker Engine": {nil, []string{"/a, b", "/c", "/d,e:f", "/g,h"}, "0.0.0.0", ` --publish=0.0.0.0:81:8001 --publish=127.0.0.1::8000 '--mount=type=bind,"source=/a, b",target=/in,readonly' `},
		container.PodmanEngine: {
			[]string{"/a, b:/in:ro", "/g,h:/out"},
			[]string{"/c", "/d,e:f"},
			"",
			` --publish=:81:8001 --publish=127.0.0.1::8000 '--volume=/a, b:/in:ro' --volume=/g,h:/out --mount=type=bind,source=/c,target=/c,readonly `,
		},
	} {
		r := testRuntime(t)
		r.lastFacts = &facts{info: container.Info{Name: name}}
		q, err := r.translate(spec, *r.lastFacts)
		if err != nil {
			t.Fatal(err)
		}
		var sources []string
		for _, m := range q.host.Mounts {
			sources = append(sources, m.Source)
		}
		if diff := cmp.Diff([][]string{want.binds, want.sources}, [][]string{q.host.Binds, sources}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if ip := q.host.PortBindings[tcp(8001)][0].HostIP; ip != want.address || q.host.PortBindings[tcp(8000)][0].HostIP != "127.0.0.1" {
			t.Errorf("%s: published on %q, want %q", name, ip, want.address)
		}
		if line := r.Repeat(spec); !strings.Contains(line, want.line) {
			t.Errorf("%s: %s\nwant%s", name, line, want.line)
		}
	}
}

func TestTranslateByEngine(t *testing.T) {
	t.Parallel()
	spec := specs()["server"]
	for name, tt := range map[string]struct {
		facts facts
		check func(request) bool
	}{
		"rootless": {
			facts{info: container.Info{Rootless: true}},
			func(q request) bool { return q.config.User == "0:0" },
		},
		"selinux": {
			facts{selinux: true},
			func(q request) bool { return slices.Contains(q.host.SecurityOpt, "label=disable") },
		},
		"cdi": {
			facts{info: container.Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}}},
			func(q request) bool { return q.host.DeviceRequests[0].Driver == "cdi" },
		},
	} {
		q, err := testRuntime(t).translate(spec, tt.facts)
		if err != nil || !tt.check(q) {
			t.Errorf("%s: %v, %+v", name, err, q)
		}
	}
}

func TestTranslateRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*container.Spec){
		"ports without a network": func(s *container.Spec) { s.Network = container.NetworkNone },
		"a relative source":       func(s *container.Spec) { s.Inputs = []container.Mount{{Source: "a", Target: "/a"}} },
		"a relative target":       func(s *container.Spec) { s.Outputs = []container.Mount{{Source: "/a", Target: "a"}} },
	} {
		spec := specs()["server"]
		change(&spec)
		if q, err := testRuntime(t).translate(spec, facts{}); err == nil {
			t.Errorf("%s: %+v", name, q)
		}
	}
}

func TestDeviceRequests(t *testing.T) {
	t.Parallel()
	cdi := container.Info{CDIDevices: []string{
		"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=GPU-1-2", "nvidia.com/gpu=all",
	}}
	both := cdi
	both.Runtimes = []string{"nvidia", "runc"}
	capability := [][]string{{"gpu"}}
	none := map[string]string{}
	for _, tt := range []struct {
		name, gpus string
		info       container.Info
		want       []dcontainer.DeviceRequest
	}{
		{"none", "", cdi, nil},
		{"all", "all", container.Info{}, []dcontainer.DeviceRequest{{Count: -1, Capabilities: capability, Options: none}}},
		{"count", "2", container.Info{}, []dcontainer.DeviceRequest{{Count: 2, Capabilities: capability, Options: none}}},
		{"list", "device=0,1", container.Info{}, []dcontainer.DeviceRequest{{DeviceIDs: []string{"0", "1"}, Capabilities: capability, Options: none}}},
		{"all by cdi", "all", cdi, []dcontainer.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}}},
		{"count by cdi", "2", cdi, []dcontainer.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}}}},
		{"uuid by cdi", "device=GPU-1-2", cdi, []dcontainer.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=GPU-1-2"}}}},
		{"not listed", "device=7", cdi, []dcontainer.DeviceRequest{{DeviceIDs: []string{"7"}, Capabilities: capability, Options: none}}},
		{"another driver", "driver=x,device=0", cdi, []dcontainer.DeviceRequest{{Driver: "x", DeviceIDs: []string{"0"}, Capabilities: capability, Options: none}}},
		{"nvidia runtime", "all", both, []dcontainer.DeviceRequest{{Count: -1, Capabilities: capability, Options: none}}},
		{"podman", "all", container.Info{Name: container.PodmanEngine}, []dcontainer.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}}},
	} {
		var gpus container.GPUs
		if err := gpus.UnmarshalText([]byte(tt.gpus)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, deviceRequests(gpus, tt.info)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Docker's own CLI reads what Repeat writes, and asks the engine for the same.
func FuzzDeviceRequests(f *testing.F) {
	for _, seed := range []string{
		"all", "2", "device=0,1", `"device=0,1",capabilities=utility`, "count=1,device=0", "", "=", `"`, `1,driver=x,"options=a=1,b"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		gpus, err := container.ParseGPUs(text)
		if err != nil {
			return
		}
		var docker opts.GpuOpts
		if err := docker.Set(gpus.CSV()); err != nil {
			t.Fatalf("%q, written as %q: %v", text, gpus.CSV(), err)
		}
		if diff := cmp.Diff(docker.Value(), deviceRequests(gpus, container.Info{})); diff != "" {
			t.Errorf("%q, written as %q (-docker +got):\n%s", text, gpus.CSV(), diff)
		}
	})
}
