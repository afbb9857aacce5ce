package target_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// textsOf returns the texts of a check's obstacles, with their remedies.
func textsOf(check target.CheckID, obstacles []target.Obstacle) string {
	var texts []string
	for _, o := range obstacles {
		if o.Check == check {
			texts = append(texts, fmt.Sprintf("%s → %s", o.Err, o.Remedy))
		}
	}
	return strings.Join(texts, "\n")
}

// What is here, or was, is not asked for in a registry.
func TestImagesAreFoundNearby(t *testing.T) {
	t.Parallel()
	const exporter, server = "nvcr.io/nvidia/pytorch:25.03-py3", "nvcr.io/nvidia/tritonserver:25.03-py3"
	env := map[string]string{"TRT_VERSION": "10.9.0.34", "CUDA_VERSION": "12.8.1"}
	local := container.Image{Env: env, Arch: "amd64", Layers: []string{"sha256:shared-unpacked"}}
	for name, c := range map[string]struct {
		images     map[string]container.Image
		remembered map[string]map[string]string
		want       [2]target.Found
		download   int64
	}{
		"a cold machine":     {nil, nil, [2]target.Found{target.InRegistry, target.InRegistry}, 6 << 30},
		"both are here":      {map[string]container.Image{exporter: local, server: local}, nil, [2]target.Found{target.InEngine, target.InEngine}, 0},
		"one was here":       {map[string]container.Image{exporter: local}, map[string]map[string]string{server: env}, [2]target.Found{target.InEngine, target.InCache}, 0},
		"one is, one is not": {map[string]container.Image{exporter: local}, nil, [2]target.Found{target.InEngine, target.InRegistry}, 1 << 30},
	} {
		m := withGPUs(h100())
		m.images, m.remembered = c.images, c.remembered
		lookups := 0
		var mu sync.Mutex
		m.onQuestion = func(question string) {
			mu.Lock()
			defer mu.Unlock()
			if question == "registry" {
				lookups++
			}
		}
		got, obstacles := resolve(t, withChange(request("e2e"), func(r *target.Request) { r.Release = "25.03" }), m)
		if err := target.Refusal(obstacles); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found := [2]target.Found{got.Images.Exporter.Found, got.Images.Server.Found}
		wantLookups := 0
		for _, where := range c.want {
			if where == target.InRegistry {
				wantLookups++
			}
		}
		if lookups != wantLookups {
			t.Errorf("%s: %d look-ups in a registry, want %d", name, lookups, wantLookups)
		}
		if found != c.want || got.Images.Download() != c.download || got.Images.Server.Image.Env["TRT_VERSION"] != "10.9.0.34" && name != "a cold machine" {
			t.Errorf("%s: found in %q, %d bytes to download, %+v", name, found, got.Images.Download(), got.Images.Server)
		}
	}
}

// Doctor has both images looked at in the time of one, beside the host of the weights.
func TestQuestionsAreAskedAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	all := make(chan struct{})
	var meet sync.WaitGroup
	meet.Add(3)
	go func() { meet.Wait(); close(all) }()
	m := withGPUs(h100())
	m.stored = false
	m.onQuestion = func(question string) {
		if question == "nvidia-smi" {
			return
		}
		meet.Done()
		select {
		case <-all:
		case <-ctx.Done():
			t.Errorf("%s: the others were not asked meanwhile", question)
		}
	}
	r := withChange(request("doctor"), func(r *target.Request) {
		r.Exhaustive, r.Weights = true, target.WeightsSource{Kind: target.AutoWeights}
	})
	if _, obstacles, err := target.Resolve(ctx, r, m.probes()); err != nil || target.Refusal(obstacles) != nil {
		t.Error(err, target.Refusal(obstacles))
	}
}

// What surely does not fit is refused; what is assumed not to fit is a doubt.
func TestImageRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		info    container.Info
		free    uint64
		remote  bool
		refuses bool
		says    string // of the obstacle; empty for none
		room    string // of the target
	}{
		"not even the layers":  {container.Info{RootDir: "/", ImageDir: "/images"}, 5 << 30, false, true, "/images, where the container engine stores images, has 5 GiB free, and the images have 6 GiB to download", ""},
		"less than is assumed": {container.Info{RootDir: "/", ImageDir: "/images"}, 19 << 30, false, false, "has 19 GiB free, and the images may need 19.5 GiB (6 GiB to download, 2.25 times that unpacked (assumed)", ""},
		"enough":               {container.Info{RootDir: "/", ImageDir: "/images"}, 20 << 30, false, false, "", " may need 19.5 GiB"},
		"on another host":      {container.Info{RootDir: "/", ImageDir: "/images"}, 1, true, false, "", ""},
		"in a virtual machine": {container.Info{ImageDir: "/not/here"}, 0, false, false, "", ""},
		"where is not known":   {container.Info{RootDir: "/images"}, 5 << 30, false, false, "need not be where it stores images, has 5 GiB free, and the images have 6 GiB to download", ""},
		"it does not say":      {container.Info{}, 5 << 30, false, false, "", ""},
	} {
		m := noGPU()
		m.info.RootDir, m.info.ImageDir, m.free, m.remote = c.info.RootDir, c.info.ImageDir, c.free, c.remote
		r := withChange(request("setup"), func(r *target.Request) { r.Accel, r.Images = "cpu", "ngc" })
		got, obstacles := resolve(t, r, m)
		text := textsOf(target.CheckImageDisk, obstacles)
		if !strings.Contains(text, c.says) || (text == "") != (c.says == "") || c.refuses != (target.Refusal(obstacles) != nil) {
			t.Errorf("%s: %q, refused: %v", name, text, target.Refusal(obstacles))
		}
		if !strings.Contains(got.ImageRoom, c.room) {
			t.Errorf("%s: the room is %q", name, got.ImageRoom)
		}
		if advised := strings.Contains(text, "data-root"); advised != (text != "" && c.info.ImageDir != "") {
			t.Errorf("%s: moving data-root is advised: %t", name, advised)
		}
	}
	m := noGPU()
	m.info.ImageDir, m.diskErr = "/images", errBroken
	r := withChange(request("setup"), func(r *target.Request) { r.Accel, r.Images = "cpu", "ngc" })
	if _, obstacles := resolve(t, r, m); target.Refusal(obstacles) != nil || !strings.Contains(textsOf(target.CheckImageDisk, obstacles), errBroken.Error()) {
		t.Errorf("a disk that does not say: %+v", obstacles)
	}
}

// A container engine without a way to give GPUs is refused with the way to get one.
func TestGPUAccess(t *testing.T) {
	t.Parallel()
	cdi := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}
	podman := container.Info{Name: container.PodmanEngine}
	const hook, spec = "/usr/bin/nvidia-container-runtime-hook", "/etc/cdi/nvidia.yaml"
	for name, c := range map[string]struct {
		info          container.Info
		gpus          string
		hook, spec    string
		remote        bool
		access, fails string
		doubt         bool
	}{
		"nvidia runtime":           {info: container.Info{Runtimes: []string{"nvidia", "runc"}}, gpus: "all", access: "has the nvidia runtime"},
		"CDI":                      {info: container.Info{CDIDevices: cdi}, gpus: "device=0,1", access: "lists nvidia.com/gpu=0, nvidia.com/gpu=1"},
		"CDI by count":             {info: container.Info{CDIDevices: cdi}, gpus: "2", access: "lists"},
		"CDI without that":         {info: container.Info{CDIDevices: cdi[:1]}, gpus: "2", fails: "lists nvidia.com/gpu=0 and not nvidia.com/gpu=1 → make its CDI devices anew: `sudo nvidia-ctk cdi generate"},
		"CDI without that, a hook": {info: container.Info{CDIDevices: cdi[:1]}, gpus: "2", hook: hook, access: hook + " is there"},
		"CDI by another driver":    {info: container.Info{CDIDevices: cdi}, gpus: "device=0,driver=nvidia", fails: "driver=nvidia: the container engine lists nvidia.com/gpu=0, nvidia.com/gpu=1, nvidia.com/gpu=all, and has no nvidia runtime → leave out driver=nvidia", doubt: true},
		"a hook for that driver":   {info: container.Info{CDIDevices: cdi}, gpus: "device=0,driver=nvidia", hook: hook, access: hook + " is there"},
		"a hook":                   {info: container.Info{}, gpus: "all", hook: hook, access: hook + " is there"},
		"a hook here, for another": {info: container.Info{CDIDevices: cdi[1:2]}, gpus: "all", hook: hook, remote: true, fails: "lists nvidia.com/gpu=1 and not nvidia.com/gpu=all"},
		"nothing":                  {info: container.Info{}, gpus: "all", spec: spec, fails: "offers no GPU: it has no nvidia runtime, lists no CDI device of kind nvidia.com/gpu, and there is no nvidia-container-runtime-hook → install the NVIDIA Container Toolkit: `sudo apt-get install -y nvidia-container-toolkit"},
		"Podman":                   {info: podman, gpus: "all", spec: spec, access: spec + " has NVIDIA's devices"},
		"Podman without CDI":       {info: podman, gpus: "all", hook: hook, fails: "Podman does not list its devices", doubt: true},
	} {
		gpus, err := container.ParseGPUs(c.gpus)
		if err != nil {
			t.Fatal(err)
		}
		m := withGPUs(h100(), h100())
		m.info.Name, m.info.Runtimes, m.info.CDIDevices = c.info.Name, c.info.Runtimes, c.info.CDIDevices
		m.hook, m.cdi, m.remote = c.hook, c.spec, c.remote
		got, obstacles := resolve(t, withChange(request("setup"), func(r *target.Request) { r.GPUs = gpus }), m)
		text := textsOf(target.CheckContainerGPU, obstacles)
		if !strings.Contains(got.GPUAccess, c.access) || (got.GPUAccess == "") != (c.access == "") || !strings.Contains(text, c.fails) || (text == "") != (c.fails == "") {
			t.Errorf("%s: %q, %q", name, got.GPUAccess, text)
		}
		if refused := target.Refusal(obstacles); (refused != nil) != (c.fails != "" && !c.doubt) || refused != nil && kind(refused) != pipeline.Environment {
			t.Errorf("%s: %v", name, refused)
		}
	}
}

// What a target has of its GPUs: names as the container engine has them, UUIDs for the proof, and what decides which
// release fits.
func TestGPUsOfTarget(t *testing.T) {
	t.Parallel()
	silent := h100()
	silent.UUID = ""
	got, _ := resolve(t, withChange(request("e2e"), func(r *target.Request) {
		r.GPUs = container.GPUs{Devices: []string{"GPU-b2b10123"}}
	}), withGPUs(h100()))
	if got.GPUs.String() != "device=0" || cmp.Diff([]string{h100UUID}, got.GPUUUIDs) != "" || got.Fits.CUDA != "" || !got.Fits.DataCenter {
		t.Errorf("by UUID: %s, %q, %+v", got.GPUs, got.GPUUUIDs, got.Fits)
	}
	// Another driver, by which the devices that the container engine lists are not asked for.
	got, _ = resolve(t, withChange(request("e2e"), func(r *target.Request) {
		r.GPUs = container.GPUs{Devices: []string{"GPU-b2b10123"}, Driver: "nvidia"}
	}), withGPUs(h100()))
	if got.GPUs.String() != "device="+h100UUID+",driver=nvidia" || got.Fits.CUDA != "13.0" {
		t.Errorf("by another driver: %s, %+v", got.GPUs, got.Fits)
	}
	if got, _ := resolve(t, request("e2e"), withGPUs(h100(), silent)); got.GPUUUIDs != nil {
		t.Errorf("a UUID that is not known: %q", got.GPUUUIDs)
	}
	// The nvidia runtime compares it with what an image requires; for a CDI device nothing does.
	m := withGPUs(h100())
	m.info.CDIDevices, m.info.Runtimes = nil, []string{container.NVIDIARuntime}
	if got, _ := resolve(t, request("e2e"), m); got.Fits.CUDA != "13.0" {
		t.Errorf("by the nvidia runtime: the newest CUDA is %q", got.Fits.CUDA)
	}
}

// A port that was named is refused if others have it, by whoever has it; for another one a free one is taken.
func TestPorts(t *testing.T) {
	t.Parallel()
	labels := func(role container.Role, workspace string) container.Labels {
		return container.Labels{container.LabelRun: "x", container.LabelRole: string(role), container.LabelWorkspace: workspace}
	}
	for name, c := range map[string]struct {
		holder *container.Summary
		says   string
	}{
		"a program": {nil, "port 8001 is in use by nginx (pid 7) → stop what uses it, name another"},
		"a server": {
			&container.Summary{Name: "dalirun-serve", Labels: labels(container.RoleServer, "/w")},
			"by dalirun-serve, the server of /w → stop it with `dalirun stop --workspace /w`, name another",
		},
		"a run": {&container.Summary{Name: "dalirun-serve", Labels: labels(container.RoleBatch, "/w")}, "of a run in /w → wait for that run to end"},
	} {
		m := noGPU()
		m.ports = map[uint16]string{8001: "nginx (pid 7)"}
		if c.holder != nil {
			c.holder.Ports = port(8001, 8001)
			m.containers = []container.Summary{*c.holder}
		}
		_, obstacles := resolve(t, withChange(request("serve"), func(r *target.Request) { r.GRPCPort = 8001 }), m)
		if text := textsOf(target.CheckPorts, obstacles); !strings.Contains(text, c.says) || kind(target.Refusal(obstacles)) != pipeline.Environment {
			t.Errorf("%s: %q", name, text)
		}
		if got, obstacles := resolve(t, request("serve"), m); len(obstacles) > 0 || len(got.Ports.Taken) > 0 {
			t.Errorf("%s, not named: %+v", name, obstacles)
		}
		got, _ := resolve(t, withChange(request("doctor"), func(r *target.Request) { r.Exhaustive = true }), m)
		if len(got.Ports.Taken) != 1 || got.Ports.Taken[0].Port != 8001 || got.Ports.Taken[0].User == "" {
			t.Errorf("%s, looked at: %+v", name, got.Ports.Taken)
		}
	}
	m := noGPU()
	m.ports, m.remote = map[uint16]string{8001: ""}, true
	if _, obstacles := resolve(t, withChange(request("setup"), func(r *target.Request) { r.GRPCPort = 8001 }), m); target.Refusal(obstacles) != nil {
		t.Errorf("on another host: %+v", obstacles)
	}
}

// The workspace's own server is in the way of another one alone: setup, reload and restart leave it its ports.
func TestOwnPorts(t *testing.T) {
	t.Parallel()
	for command, refused := range map[string]bool{"plan": false, "doctor": false, "serve": true, "e2e": true} {
		for workspace, own := range map[string]bool{"/w": true, "/other": false} {
			m := noGPU()
			m.ports = map[uint16]string{8000: "", 8001: ""}
			m.containers = []container.Summary{{
				Name: "dalirun-serve", Ports: map[uint16]netip.AddrPort{8000: port(8000, 8000)[8000], 8001: port(8001, 8001)[8001]},
				Labels: container.Labels{container.LabelRun: "x", container.LabelRole: string(container.RoleServer), container.LabelWorkspace: "/w"},
			}}
			_, obstacles := resolve(t, withChange(request(command), func(r *target.Request) {
				r.HTTPPort, r.GRPCPort, r.Workspace, r.Exhaustive = 8000, 8001, workspace, command == "doctor"
			}), m)
			text := textsOf(target.CheckPorts, obstacles)
			if got := target.Refusal(obstacles) != nil; got != (refused || !own) {
				t.Errorf("%s in %s is refused: %t (%s)", command, workspace, got, text)
			}
			if told := strings.Contains(text, "the server of this workspace has what is named: 8000, 8001"); told != (own && !refused) {
				t.Errorf("%s in %s: %s", command, workspace, text)
			}
		}
	}
}

// Who has a port of another address does not have the one that is asked for.
func TestPortsOfAnAddress(t *testing.T) {
	t.Parallel()
	for published, want := range map[string]string{
		"192.0.2.7:8001": "by dalirun-serve, the server of /w", "0.0.0.0:8001": "by dalirun-serve, the server of /w",
		"127.0.0.1:8001": "by nginx (pid 7)",
	} {
		m := noGPU()
		m.ports = map[uint16]string{8001: "nginx (pid 7)"}
		m.containers = []container.Summary{{
			Name: "dalirun-serve", Ports: map[uint16]netip.AddrPort{8001: netip.MustParseAddrPort(published)},
			Labels: container.Labels{container.LabelRun: "x", container.LabelRole: string(container.RoleServer), container.LabelWorkspace: "/w"},
		}}
		var asked netip.AddrPort
		m.onPortUser = func(addr netip.AddrPort) { asked = addr }
		_, obstacles := resolve(t, withChange(request("serve"), func(r *target.Request) {
			r.GRPCPort, r.Host = 8001, netip.MustParseAddr("192.0.2.7")
		}), m)
		if text := textsOf(target.CheckPorts, obstacles); !strings.Contains(text, want) {
			t.Errorf("a server on %s: %q, want %q", published, text, want)
		}
		if asked.IsValid() && asked.String() != "192.0.2.7:8001" {
			t.Errorf("a server on %s: who has %s was asked", published, asked)
		}
	}
}

// An address that this host lacks is refused; a port that was named is a doubt where it cannot be tried.
func TestAddressesAndPortsElsewhere(t *testing.T) {
	t.Parallel()
	m := noGPU()
	m.portErr = fmt.Errorf("trying port 8000: %w", syscall.EADDRNOTAVAIL)
	r := withChange(request("serve", target.Setting{Flag: "host", Value: "192.0.2.1"}), func(r *target.Request) {
		r.Host = netip.MustParseAddr("192.0.2.1")
	})
	_, obstacles := resolve(t, r, m)
	text := textsOf(target.CheckPorts, obstacles)
	if !strings.Contains(text, "--host 192.0.2.1: this host has no such address → name an address") ||
		kind(target.Refusal(obstacles)) != pipeline.Environment {
		t.Errorf("an address of nobody: %q", text)
	}
	m = noGPU()
	m.info.OtherLoopback = true
	r = withChange(request("serve", target.Setting{Flag: "grpc-port", Value: "8001"}), func(r *target.Request) { r.GRPCPort = 8001 })
	_, obstacles = resolve(t, r, m)
	if text := textsOf(target.CheckPorts, obstacles); !strings.Contains(text, "--grpc-port 8001: whether it is free") ||
		target.Refusal(obstacles) != nil {
		t.Errorf("a port that cannot be tried: %q", text)
	}
}

// Auto takes the pretrained weights if they can be had. That they cannot holds for some minutes, and a run does not ask
// again; one that examines does.
func TestWeights(t *testing.T) {
	t.Parallel()
	auto := func(r *target.Request) { r.Weights = target.WeightsSource{Kind: target.AutoWeights} }
	away := errors.New("no such host")
	for name, c := range map[string]struct {
		stored    bool
		reachErr  error
		unreached time.Time
		exhaust   bool
		want      target.WeightsKind
		reaches   bool
		doubt     string
		notes     bool
	}{
		"stored":                   {stored: true, reachErr: away, want: target.Pretrained},
		"reachable":                {want: target.Pretrained, reaches: true},
		"unreachable":              {reachErr: away, want: target.Random, reaches: true, doubt: "the pretrained weights cannot be had: no such host", notes: true},
		"not a minute ago":         {unreached: now().Add(-time.Minute).UTC(), want: target.Random, doubt: "their host did not answer at 13:59:00"},
		"not an hour ago":          {unreached: now().Add(-time.Hour), want: target.Pretrained, reaches: true},
		"examined a minute after":  {unreached: now().Add(-time.Minute), exhaust: true, want: target.Pretrained, reaches: true},
		"examined and unreachable": {reachErr: away, exhaust: true, want: target.Random, reaches: true, doubt: "no such host"},
	} {
		m := noGPU()
		var noted time.Time
		reached := false
		m.stored, m.reachErr, m.unreached, m.noted = c.stored, c.reachErr, c.unreached, &noted
		m.onQuestion = func(question string) { reached = reached || question == "weights" }
		r := withChange(request("e2e"), auto)
		r.Exhaustive = c.exhaust
		got, obstacles := resolve(t, r, m)
		text := textsOf(target.CheckWeights, obstacles)
		if got.Weights.Kind != c.want || reached != c.reaches || !strings.Contains(text, c.doubt) || (text == "") != (c.doubt == "") || noted.IsZero() == c.notes {
			t.Errorf("%s: %s, asked: %t, noted: %v, %q", name, got.Weights, reached, noted, text)
		}
	}
	// Who asks for them by name learns beforehand only from doctor that they cannot be had.
	m := noGPU()
	m.stored, m.reachErr = false, away
	named := withChange(request("e2e"), func(r *target.Request) { r.Weights = target.WeightsSource{Kind: target.Pretrained} })
	if _, obstacles := resolve(t, named, m); len(obstacles) > 0 {
		t.Errorf("named: %+v", obstacles)
	}
	named.Exhaustive = true
	if _, obstacles := resolve(t, named, m); kind(target.Refusal(obstacles)) != pipeline.Environment {
		t.Errorf("named, and examined: %+v", obstacles)
	}
}

// The tutorial's release is tuned for single pictures, whoever says that it is taken.
func TestOptBatchOfTheTutorial(t *testing.T) {
	t.Parallel()
	m := noGPU()
	for from, to := range map[string]string{"21.07": "team/tutorial:prod", "25.03": "team/newer:prod"} {
		r, err := release.Find(from)
		if err != nil {
			t.Fatal(err)
		}
		m.registry[to] = m.registry[r.ServerRef(release.DefaultRegistry)]
	}
	const tutorial, newer = "team/tutorial:prod", "team/newer:prod"
	exporter := "nvcr.io/nvidia/pytorch:21.07-py3"
	for name, c := range map[string]struct {
		change func(*target.Request)
		want   int
	}{
		"release":             {func(r *target.Request) { r.Release = "21.07" }, 1},
		"server image":        {func(r *target.Request) { r.ServerImage = tutorial }, 1},
		"both images":         {func(r *target.Request) { r.ServerImage, r.ExporterImage = tutorial, exporter }, 1},
		"release and image":   {func(r *target.Request) { r.Release, r.ServerImage = "21.07", tutorial }, 1},
		"another release":     {func(r *target.Request) { r.Release, r.ServerImage = "25.03", newer }, 64},
		"another image":       {func(r *target.Request) { r.ServerImage = newer }, 64},
		"few at a time":       {func(r *target.Request) { r.MaxBatch, r.ServerImage = 8, newer }, 8},
		"asked for otherwise": {func(r *target.Request) { r.OptBatch, r.Release = 16, "21.07" }, 16},
	} {
		r := withChange(request("setup"), func(r *target.Request) { r.Accel, r.Images = "cpu", "ngc" })
		got, obstacles := resolve(t, withChange(r, c.change), m)
		if err := target.Refusal(obstacles); err != nil || got.OptBatch != c.want {
			t.Errorf("%s: %d with %v, want %d", name, got.OptBatch, err, c.want)
		}
	}
	contradicted := withChange(request("setup"), func(r *target.Request) {
		r.Accel, r.Images, r.Release, r.ServerImage = "cpu", "ngc", "25.03", tutorial
	})
	if _, obstacles := resolve(t, contradicted, m); kind(target.Refusal(obstacles)) != pipeline.Usage {
		t.Errorf("another release than the image's: %+v", obstacles)
	}
}

// A mirror has both images under NVIDIA's names, whatever the release.
func TestImagesOfAReleaseAreNVIDIAs(t *testing.T) {
	t.Parallel()
	for _, tested := range release.All() {
		r := withChange(request("plan"), func(r *target.Request) {
			r.Accel, r.Images, r.Release, r.Registry = "cpu", "ngc", tested.Tag, "mirror.example:5000/ngc"
		})
		got, _ := resolve(t, r, noGPU())
		refs := []string{got.Images.Exporter.Ref, got.Images.Server.Ref}
		want := []string{
			"mirror.example:5000/ngc/nvidia/pytorch:" + tested.Tag + "-py3", "mirror.example:5000/ngc/nvidia/tritonserver:" + tested.Tag + "-py3",
		}
		if diff := cmp.Diff(want, refs); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// A container engine that builds nothing runs NVIDIA's images, and says so to who names the others.
func TestEngineThatBuildsNothing(t *testing.T) {
	t.Parallel()
	unbuilding := func(m *machine) *machine {
		m.info.Name, m.info.NoBuilder = "Kubernetes", true
		return m
	}
	m := unbuilding(noGPU())
	decided, obstacles := resolve(t, request("e2e"), m)
	if decided.Source != target.NGC || len(obstacles) > 0 {
		t.Errorf("images %s, %v", decided.Source, obstacles)
	}
	local := withChange(request("e2e", target.Setting{Flag: "images", Value: "local"}), func(r *target.Request) { r.Images = "local" })
	for name, m := range map[string]*machine{"no GPU": m, "a GPU": unbuilding(withGPUs(h100()))} {
		_, obstacles = resolve(t, local, m)
		const want = "--images local: the container engine, Kubernetes, builds no images, and the local ones have to be built"
		if len(obstacles) != 1 || obstacles[0].Check != target.CheckImages || obstacles[0].Err.Error() != want ||
			obstacles[0].Remedy != "--images ngc runs NVIDIA's, which are pulled" {
			t.Fatalf("%s: %+v", name, obstacles)
		}
		fault, ok := errors.AsType[*pipeline.Fault](target.Refusal(obstacles))
		if !ok || fault.Kind != pipeline.Environment {
			t.Errorf("%s: %+v", name, fault)
		}
	}
}

// A server image that cannot be looked at says no release, and what to name instead.
func TestNamedServerImageThatIsNotSeen(t *testing.T) {
	t.Parallel()
	m := noGPU()
	m.registryErr = &registry.Error{Kind: registry.NoAnswer, Text: "look up a/b:c: a does not answer"}
	r := withChange(request("setup"), func(r *target.Request) {
		r.Accel, r.Images, r.ServerImage = "cpu", "ngc", "registry.example/team/image:prod"
	})
	_, obstacles := resolve(t, r, m)
	if text := textsOf(target.CheckImages, obstacles); !strings.Contains(text, "or a release with --release, which only the server image says") {
		t.Errorf("%q", text)
	}
	m.registryErr = nil
	m.registry["registry.example/team/image:prod"] = registry.Image{Arch: "amd64", Env: map[string]string{"A": "b"}}
	if _, obstacles := resolve(t, r, m); kind(target.Refusal(obstacles)) != pipeline.Usage {
		t.Errorf("an image that says no release: %+v", obstacles)
	}
}

// Other releases and registries are advice for a release's images alone.
func TestAdviceForNamedImages(t *testing.T) {
	t.Parallel()
	for kind, want := range map[registry.Kind]string{
		registry.NotFound: "--release", registry.NoAnswer: "--registry", registry.Failing: "--registry", registry.Unauthorized: "docker login",
	} {
		m := noGPU()
		m.registryErr = &registry.Error{Kind: kind, Registry: "registry.example", Text: "look up an image"}
		r := withChange(request("setup"), func(r *target.Request) { r.Accel, r.Images = "cpu", "ngc" })
		_, obstacles := resolve(t, r, m)
		named := withChange(r, func(r *target.Request) {
			r.ServerImage, r.ExporterImage = "registry.example/team/a:1", "registry.example/team/b:1"
		})
		_, ofNamed := resolve(t, named, m)
		if text := textsOf(target.CheckImages, obstacles); !strings.Contains(text, want) {
			t.Errorf("%s: of a release: %s", kind, text)
		}
		if text := textsOf(target.CheckImages, ofNamed); text == "" || strings.Contains(text, "--re") {
			t.Errorf("%s: named: %s", kind, text)
		}
	}
}

// A run ends with the first obstacle; whoever examines sees each.
func TestFirstObstacleEndsARun(t *testing.T) {
	t.Parallel()
	m := withGPUs(h100())
	m.info.CDIDevices = nil                                                                           // no way to a GPU
	m.ports = map[uint16]string{9000: ""}                                                             // nor the port
	m.registryErr = &registry.Error{Kind: registry.NotFound, Text: "look up an image: there is none"} // nor the images
	r := withChange(request("serve"), func(r *target.Request) { r.HTTPPort = 9000 })
	_, first := resolve(t, r, m)
	r.Exhaustive = true
	_, all := resolve(t, r, m)
	checks := func(obstacles []target.Obstacle) []target.CheckID {
		var names []target.CheckID
		for _, o := range obstacles {
			names = append(names, o.Check)
		}
		return slices.Compact(names)
	}
	if diff := cmp.Diff([]target.CheckID{target.CheckContainerGPU}, checks(first)); diff != "" {
		t.Errorf("a run (-want +got):\n%s", diff)
	}
	want := []target.CheckID{target.CheckContainerGPU, target.CheckPorts, target.CheckImages}
	if diff := cmp.Diff(want, checks(all)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
}

// A resolution ends with its context, whatever was being asked.
func TestResolveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if _, _, err := target.Resolve(ctx, request("e2e"), noGPU().probes()); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

func kind(err error) pipeline.Kind {
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok {
		return fault.Kind
	}
	return pipeline.Unclassified
}
