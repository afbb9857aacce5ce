package cli

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
)

// without is a host with these files and an empty PATH.
func without(root fs.FS) thisHost {
	return thisHost{root: root, lookPath: func(program string) (string, error) {
		return "", &fs.PathError{Op: "look for", Path: program, Err: fs.ErrNotExist}
	}}
}

// parseGPUs reads what --gpus says.
func parseGPUs(t *testing.T, text string) container.GPUs {
	t.Helper()
	gpus, err := container.ParseGPUs(text)
	if err != nil {
		t.Fatal(err)
	}
	return gpus
}

func TestAccess(t *testing.T) {
	t.Parallel()
	spec := fstest.MapFS{"etc/cdi/nvidia.yaml": {Data: []byte("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")}, "etc/cdi/other.yaml": {Data: []byte("kind: x")}}
	onPath := without(fstest.MapFS{})
	onPath.lookPath = func(program string) (string, error) { return path.Join("/opt/bin", program), nil }
	cdi := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}
	podman := container.Info{Name: "Podman Engine"}
	for name, c := range map[string]struct {
		info  container.Info
		gpus  string
		on    thisHost
		says  string
		doubt bool
		fails string // the remedy's words
	}{
		"nvidia runtime":           {container.Info{Runtimes: []string{"nvidia", "runc"}}, "all", without(spec), "has the nvidia runtime", false, ""},
		"CDI":                      {container.Info{CDIDevices: cdi}, "device=0,1", without(spec), "lists nvidia.com/gpu=0, nvidia.com/gpu=1", false, ""},
		"CDI by count":             {container.Info{CDIDevices: cdi}, "2", without(spec), "lists", false, ""},
		"CDI without that":         {container.Info{CDIDevices: cdi}, "3", without(spec), "and not nvidia.com/gpu=2", false, "cdi generate"},
		"CDI without that, a hook": {container.Info{CDIDevices: cdi}, "device=7", onPath, "nvidia-container-runtime-hook is there", false, ""},
		"hook on our PATH":         {container.Info{}, "all", onPath, "/opt/bin/nvidia-container-runtime-hook is there", false, ""},
		"hook on systemd's PATH":   {container.Info{}, "all", without(fstest.MapFS{"usr/bin/" + toolkitHook: {Mode: 0o755}}), "/usr/bin/nvidia-container-runtime-hook is there", false, ""},
		"hook that cannot be run":  {container.Info{}, "all", without(fstest.MapFS{"usr/bin/" + toolkitHook: {Mode: 0o644}}), "offers no GPU", false, "apt-get install -y nvidia-container-toolkit"},
		"a hook here, for another": {container.Info{Remote: true}, "all", onPath, "offers no GPU", false, "nvidia-ctk runtime configure"},
		"nothing":                  {container.Info{}, "all", without(spec), "offers no GPU", false, "--accel cpu"},
		"Podman":                   {podman, "all", without(spec), "/etc/cdi/nvidia.yaml has NVIDIA's devices", false, ""},
		"Podman without CDI":       {podman, "all", onPath, "Podman does not list its devices", true, ""},
	} {
		got, err := c.on.access(c.info, parseGPUs(t, c.gpus))
		saw := got.saw
		if err != nil {
			saw = err.Error()
		}
		if !strings.Contains(saw, c.says) || got.doubt != c.doubt || (err != nil) != (c.fails != "") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err != nil && (exitCode(err) != ExitEnvironment || !strings.Contains(hintOf(err, ""), c.fails)) {
			t.Errorf("%s: exit code %d, hint %q", name, exitCode(err), hintOf(err, ""))
		}
	}
}

// Devices are asked for by the names that the container engine has for them; all stays.
func TestAsListed(t *testing.T) {
	t.Parallel()
	const uuid, second = "GPU-b2b10123-43d8-7094-32ab-39106cb54c35", "GPU-c3c20234-43d8-7094-32ab-39106cb54c35"
	gpus := host.GPUs{Devices: []host.GPU{{Index: 0, UUID: uuid}, {Index: 1, UUID: second}}}
	indexes := container.Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}}
	named := container.Info{CDIDevices: []string{"nvidia.com/gpu=" + uuid, "nvidia.com/gpu=" + second, "nvidia.com/gpu=all"}}
	for name, c := range map[string]struct {
		info       container.Info
		gpus, want string
	}{
		"all":                          {indexes, "all", "all"},
		"a count":                      {indexes, "2", "device=0,1"},
		"a count where UUIDs are":      {named, "1", "device=" + uuid},
		"what goes with a count":       {named, "count=1,capabilities=utility", "device=" + uuid + ",capabilities=utility"},
		"a count, by the runtime":      {container.Info{Runtimes: []string{"nvidia"}}, "2", "2"},
		"a UUID where indexes are":     {indexes, "device=" + second, "device=1"},
		"its first letters":            {indexes, "device=GPU-c3c20234", "device=1"},
		"an index where UUIDs are":     {named, "device=1", "device=" + second},
		"two":                          {named, "device=1,0", "device=" + second + "," + uuid},
		"all where UUIDs are":          {named, "all", "all"},
		"what is not listed":           {container.Info{CDIDevices: []string{"nvidia.com/gpu=all"}}, "device=1", "device=1"},
		"Podman, which lists nothing":  {container.Info{Name: "Podman Engine"}, "device=GPU-c3c20234", "device=1"},
		"the runtime knows indexes":    {container.Info{Runtimes: []string{"nvidia"}}, "device=1", "device=1"},
		"and UUIDs, which are whole":   {container.Info{Runtimes: []string{"nvidia"}}, "device=GPU-c3c20234,0", "device=" + second + ",0"},
		"what else is said goes along": {indexes, `"device=GPU-c3c20234,0","capabilities=compute,utility"`, `"device=1,0","capabilities=compute,utility"`},
	} {
		asked := parseGPUs(t, c.gpus)
		chosen, err := gpus.Select(asked)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := asListed(c.info, asked, chosen); got.String() != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// What a lane came to: names as the container engine has them, UUIDs for the proof; and what refuses it.
func TestSettleLane(t *testing.T) {
	t.Parallel()
	const uuid = "GPU-b2b10123-43d8-7094-32ab-39106cb54c35"
	h100 := host.GPU{UUID: uuid, Name: "NVIDIA H100 80GB HBM3", Compute: "9.0"}
	cdi := container.Info{CDIDevices: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}}
	far := container.Info{Remote: true, Endpoint: "tcp://gpus:2376", Runtimes: []string{"nvidia"}}
	prohibitedMode, silent := h100, h100
	prohibitedMode.ComputeMode, silent.UUID = "Prohibited", ""
	for name, c := range map[string]struct {
		info  container.Info
		gpu   host.GPU
		flags []string
		gpus  string
		uuids []string
		want  []string // checks that refuse
	}{
		"sound":           {cdi, h100, nil, "all", []string{uuid}, nil},
		"nvidia runtime":  {container.Info{Runtimes: []string{"nvidia"}}, h100, nil, "all", []string{uuid}, nil},
		"by UUID":         {cdi, h100, []string{"--gpus=device=GPU-b2b10123"}, "device=0", []string{uuid}, nil},
		"UUID not known":  {cdi, silent, nil, "all", nil, nil},
		"Prohibited":      {cdi, prohibitedMode, nil, "all", []string{uuid}, []string{checkGPU}},
		"no way to a GPU": {container.Info{}, h100, nil, "all", []string{uuid}, []string{checkContainerGPU}},
		"local images":    {cdi, h100, []string{"--images=local"}, "all", []string{uuid}, []string{checkImages}},
		"no such GPU":     {cdi, h100, []string{"--gpus=device=7"}, "device=7", nil, []string{checkGPU}},
		"Podman":          {container.Info{Name: "Podman Engine"}, h100, nil, "all", []string{uuid}, nil},
		"another host":    {far, h100, nil, "all", nil, nil},
		"to serve there":  {far, h100, nil, "all", nil, []string{checkEngine}},
		"UUIDs, by count": {container.Info{CDIDevices: []string{"nvidia.com/gpu=" + uuid, "nvidia.com/gpu=all"}}, h100, []string{"--gpus=1"}, "device=" + uuid, []string{uuid}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := diagnose(t, c.info, c.flags...)
			d.wishes.serves = name == "to serve there"
			on := without(fstest.MapFS{})
			on.smi = func(context.Context) (host.GPUs, error) {
				return host.GPUs{Driver: "580.159.04", CUDA: "13.0", Devices: []host.GPU{c.gpu}}, nil
			}
			l, err := d.app.settleLane(t.Context(), d.wishes, c.info, on)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range l.refused {
				got = append(got, o.check)
			}
			if diff := cmp.Diff(c.want, got) + cmp.Diff(c.uuids, l.GPUUUIDs); diff != "" || l.GPUs.String() != c.gpus {
				t.Errorf("--gpus %s, (-want +got):\n%s", l.GPUs, diff)
			}
			// The nvidia runtime compares it with what an image requires; for a CDI device nothing does.
			if name == "nvidia runtime" && l.host.CUDA != "13.0" || name == "sound" && l.host.CUDA != "" {
				t.Errorf("the newest CUDA is %q", l.host.CUDA)
			}
			if doubts := strings.Join(l.Doubts, ""); strings.Contains(doubts, "Podman") != (name == "Podman") {
				t.Errorf("the doubts are %q", doubts)
			}
			if d.choice, d.lane = nil, func() (laned, error) { return l, l.err }; len(got) == 0 {
				return
			}
			for _, check := range d.checks() {
				if check.name == got[0] && d.refusal(check.name) != nil {
					return
				}
			}
			t.Errorf("doctor has no check %q", got[0])
		})
	}
}

// One instance of a GPU that is split is called by its address.
func TestAsListedInstance(t *testing.T) {
	t.Parallel()
	info := container.Info{CDIDevices: []string{"nvidia.com/gpu=0:0", "nvidia.com/gpu=all"}}
	gpus, err := host.FromCDI(info.CDIDevices)
	if err != nil {
		t.Fatal(err)
	}
	asked := container.GPUs{Count: 1}
	chosen, err := gpus.Select(asked)
	if got := asListed(info, asked, chosen); err != nil || got.String() != "device=0:0" {
		t.Errorf("%s, %v", got, err)
	}
}

// What is not known of a release is told of the release; what is not known of its GPUs is another check's.
func TestDoctorReleaseDoubts(t *testing.T) {
	t.Parallel()
	podman := container.Info{Name: container.PodmanEngine}
	for name, c := range map[string]struct {
		compute string
		status  status
		says    string
	}{
		"a GPU that is known":   {"9.0", statusOK, "25.03 with TensorRT 10.9"},
		"one that is not known": {"", statusWarn, "25.03: "},
	} {
		d := diagnose(t, podman, "--release=25.03", "--weights=random:0")
		on := without(fstest.MapFS{})
		on.smi = func(context.Context) (host.GPUs, error) {
			return host.GPUs{Driver: "580.159.04", Devices: []host.GPU{{UUID: "GPU-1", Name: "NVIDIA H100 80GB HBM3", Compute: c.compute}}}, nil
		}
		l, err := d.app.settleLane(t.Context(), d.wishes, podman, on)
		if err != nil || len(l.Doubts) != 1 {
			t.Fatalf("%s: %q, %v", name, l.Doubts, err)
		}
		d.lane = func() (laned, error) { return l, l.err }
		if f := d.release(t.Context()); f.Status != c.status || !strings.HasPrefix(f.Saw, c.says) || strings.Contains(f.Saw, "Podman") {
			t.Errorf("%s: %+v", name, f)
		}
		if f := d.containers(t.Context()); f.Status != statusWarn || !strings.Contains(f.Saw, "Podman does not list its devices") {
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
		asked := parseGPUs(t, c.gpus)
		gpus, err := thisHost{}.gpus(t.Context(), c.info, asked)
		if c.want == nil {
			if !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "on another host") {
				t.Errorf("%s: %+v, %v", name, gpus, err)
			}
			continue
		}
		chosen, selectErr := gpus.Select(asked)
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
		if d := device(c.info, gpus, chosen); d.Name != "" || !strings.HasSuffix(d.Where, " at tcp://gpus:2376") || d.Driver != "" || len(c.want) == 2 && !strings.HasPrefix(d.Where, "GPU 0, 1 ") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
