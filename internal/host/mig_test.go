package host_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/host"
)

// split are two GPUs, of which MIG splits the first, as the driver tells of them by its three answers. The forms are those of NVIDIA's
// MIG User Guide; no such GPU was at hand.
func split(list, xml string) map[string]reply {
	return map[string]reply{
		fullQuery:          {out: migQuery},
		"nvidia-smi -L":    {out: list},
		"nvidia-smi -q -x": {out: xml},
	}
}

const (
	migQuery = "0, GPU-b614723c-e261-4605-066e-79daab4c00ff, NVIDIA A100-SXM4-80GB, 570.86.10, 81920, 80000, 8.0, Enabled, 00000000:07:00.0, Default\n" +
		"1, GPU-e52dfcc4-406d-a3d4-f787-4402b535877a, NVIDIA A100-SXM4-80GB, 570.86.10, 81920, 81000, 8.0, Disabled, 00000000:0F:00.0, Default\n"
	migList = `GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-b614723c-e261-4605-066e-79daab4c00ff)
  MIG 2g.20gb     Device  0: (UUID: MIG-ec4c3916-65fa-5948-b9b5-9f21a2ddfcc0)
  MIG 1c.3g.40gb  Device  1: (UUID: MIG-000d40d3-5924-5906-9879-8b69bf58689b)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-e52dfcc4-406d-a3d4-f787-4402b535877a)
`
	migXML = `<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
	<cuda_version>12.8</cuda_version>
	<gpu id="00000000:07:00.0">
		<mig_devices>
			<mig_device><index>0</index><gpu_instance_id>3</gpu_instance_id><fb_memory_usage><total>19968 MiB</total><reserved>0 MiB</reserved><used>38 MiB</used><free>19930 MiB</free></fb_memory_usage></mig_device>
			<mig_device><index>1</index><gpu_instance_id>5</gpu_instance_id><fb_memory_usage><total>40192 MiB</total><used>N/A</used><free>N/A</free></fb_memory_usage></mig_device>
		</mig_devices>
		<uuid>GPU-b614723c-e261-4605-066e-79daab4c00ff</uuid>
	</gpu>
	<gpu id="00000000:0F:00.0">
		<mig_devices>
			None
		</mig_devices>
		<uuid>GPU-e52dfcc4-406d-a3d4-f787-4402b535877a</uuid>
	</gpu>
</nvidia_smi_log>
`
)

func TestInstances(t *testing.T) {
	t.Parallel()
	got, err := host.Probe(t.Context(), smi(split(migList, migXML)))
	if err != nil {
		t.Fatal(err)
	}
	want := []host.Instance{
		{Index: 0, UUID: "MIG-ec4c3916-65fa-5948-b9b5-9f21a2ddfcc0", Profile: "2g.20gb", MemoryMiB: 19968, FreeMiB: 19930},
		{Index: 1, UUID: "MIG-000d40d3-5924-5906-9879-8b69bf58689b", Profile: "1c.3g.40gb", MemoryMiB: 40192},
	}
	if diff := cmp.Diff(want, got.Devices[0].Instances); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.CUDA != "12.8" {
		t.Errorf("CUDA %q", got.CUDA)
	}
	if in := got.Devices[1].Instances; in != nil {
		t.Errorf("a GPU that is not split has %+v", in)
	}
}

// Old drivers name instances after their GPU. What is damaged costs the memory and not the rest.
func TestInstancesOfOldDriver(t *testing.T) {
	t.Parallel()
	list := "GPU 0: A100-PCIE-40GB (UUID: GPU-b614723c-e261-4605-066e-79daab4c00ff)\n" +
		"  MIG 1g.5gb Device 0: (UUID: MIG-GPU-b614723c-e261-4605-066e-79daab4c00ff/9/0)\n"
	for _, xml := range []string{"", "<nvidia_smi_log><gpu>", "no XML"} {
		got, err := host.Probe(t.Context(), smi(split(list, xml)))
		if err != nil {
			t.Fatal(err)
		}
		want := []host.Instance{{UUID: "MIG-GPU-b614723c-e261-4605-066e-79daab4c00ff/9/0", Profile: "1g.5gb"}}
		if diff := cmp.Diff(want, got.Devices[0].Instances); diff != "" {
			t.Errorf("%q: (-want +got):\n%s", xml, diff)
		}
	}
}

func TestParseList(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]host.GPU{
		"":                        nil,
		"No devices were found\n": nil,
		"  MIG 1g.5gb Device 0: (UUID: MIG-of-no-GPU)": nil,
		migList: {
			{Name: "NVIDIA A100-SXM4-80GB", UUID: "GPU-b614723c-e261-4605-066e-79daab4c00ff", MIG: true, Instances: []host.Instance{
				{Index: 0, UUID: "MIG-ec4c3916-65fa-5948-b9b5-9f21a2ddfcc0", Profile: "2g.20gb"},
				{Index: 1, UUID: "MIG-000d40d3-5924-5906-9879-8b69bf58689b", Profile: "1c.3g.40gb"},
			}},
			{Index: 1, Name: "NVIDIA A100-SXM4-80GB", UUID: "GPU-e52dfcc4-406d-a3d4-f787-4402b535877a"},
		},
		"GPU 0: A (UUID: GPU-x)\r\nMIG 1g.5gb Device 0: (UUID: MIG-GPU-x/9/0)\r\n": {
			{Name: "A", UUID: "GPU-x", MIG: true, Instances: []host.Instance{{UUID: "MIG-GPU-x/9/0", Profile: "1g.5gb"}}},
		},
		"GPU 3: B": {{Index: 3, Name: "B"}},
		"GPU 99999999999999999999: C (UUID: GPU-y)": {{Index: -1, Name: "C", UUID: "GPU-y"}},
	} {
		if diff := cmp.Diff(want, host.ParseList(list)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", list, diff)
		}
	}
}

func TestSelectInstances(t *testing.T) {
	t.Parallel()
	gpu := func(index int, instances ...host.Instance) host.GPU {
		return host.GPU{
			Index: index, UUID: "GPU-" + strings.Repeat(string(rune('a'+index)), 8), Name: "A100", Compute: "8.0", MemoryMiB: 40960, FreeMiB: 40000,
			MIG: index != 2, Instances: instances,
		}
	}
	mixed := host.GPUs{Driver: "570.86.10", Devices: []host.GPU{
		gpu(0, host.Instance{Index: 0, UUID: "MIG-11112222", Profile: "1g.5gb", MemoryMiB: 4864, FreeMiB: 4800},
			host.Instance{Index: 1, UUID: "MIG-33334444", Profile: "1g.5gb"}, host.Instance{Index: 2, UUID: "MIG-55556666", Profile: "2g.10gb"}),
		gpu(1),
		gpu(2),
	}}
	alike := host.GPUs{Driver: "570.86.10", Devices: []host.GPU{gpu(0, mixed.Devices[0].Instances[:2]...), gpu(1)}}
	old := host.GPUs{Driver: "565.57.01", Devices: alike.Devices}
	computing := host.GPUs{Driver: "580.10", Devices: []host.GPU{
		gpu(0, host.Instance{Profile: "1c.3g.20gb", UUID: "MIG-11112222"}, host.Instance{Index: 1, Profile: "1c.3g.20gb", UUID: "MIG-33334444"}),
	}}
	for _, c := range []struct {
		gpus    string
		gpuHost host.GPUs
		want    []string // name and UUID
		says    string
	}{
		{"device=MIG-33334444", mixed, []string{"A100 MIG 1g.5gb MIG-33334444"}, ""},
		{"device=MIG-5555", mixed, []string{"A100 MIG 2g.10gb MIG-55556666"}, ""},
		{"device=0:1", mixed, []string{"A100 MIG 1g.5gb MIG-33334444"}, ""},
		{"device=0:0,0:1", mixed, []string{"A100 MIG 1g.5gb MIG-11112222", "A100 MIG 1g.5gb MIG-33334444"}, ""},
		{"device=2", mixed, []string{"A100 GPU-cccccccc"}, ""},
		{"all", alike, []string{"A100 MIG 1g.5gb MIG-11112222", "A100 MIG 1g.5gb MIG-33334444"}, ""},
		{"1", alike, []string{"A100 MIG 1g.5gb MIG-11112222", "A100 MIG 1g.5gb MIG-33334444"}, ""},
		{"all", mixed, nil, "unlike GPUs cannot share an engine, which runs only on the model that it was built on: there are GPU 0 (A100, GPU-aaaaaaaa), instance 0:0 (MIG 1g.5gb, MIG-11112222)"},
		{"device=0", mixed, nil, "unlike GPUs"},
		{"device=0:0,2", mixed, nil, "unlike GPUs"},
		{"device=0,0:1", alike, nil, "GPU 0:1 is named twice"},
		{"device=2,2", mixed, nil, "GPU 2 is named twice"},
		{"all", old, []string{"A100 MIG 1g.5gb MIG-11112222"}, ""},
		{"device=0:1,0:0", old, nil, "2 GPUs are asked for, and with drivers before R570 a program that gets a MIG instance sees nothing else: name one, as in --gpus device=0:1; there are GPU 0 (A100, GPU-aaaaaaaa), instance 0:0 (MIG 1g.5gb, MIG-11112222)"},
		{"device=0:1", old, []string{"A100 MIG 1g.5gb MIG-33334444"}, ""},
		{"all", host.GPUs{Devices: alike.Devices}, []string{"A100 MIG 1g.5gb MIG-11112222"}, ""},
		{"1", host.GPUs{Devices: alike.Devices}, nil, "before R570"},
		{"all", computing, []string{"A100 MIG 1c.3g.20gb MIG-11112222"}, ""},
		{"1", computing, nil, "a program sees one compute instance of a GPU instance: name one, as in --gpus device=0:0"},
		{"device=0:1", computing, []string{"A100 MIG 1c.3g.20gb MIG-33334444"}, ""},
		{"device=0:3", mixed, nil, "there is no GPU 0:3: there are GPU 0 (A100, GPU-aaaaaaaa), instance 0:0 (MIG 1g.5gb, MIG-11112222), instance 0:1"},
		{"device=MIG-99990000", mixed, nil, "there is no GPU MIG-99990000: there are "},
		{"device=MIG-", mixed, nil, "there is no GPU MIG-"},
		{"device=1", mixed, nil, "GPU 1 is split by MIG and has no instance: make one (`sudo nvidia-smi mig -i 1 -cgi PROFILE -C`)"},
		{"all", host.GPUs{Devices: []host.GPU{gpu(1)}}, nil, "GPU 1 is split by MIG and has no instance"},
	} {
		t.Run(c.gpus, func(t *testing.T) {
			t.Parallel()
			chosen, err := c.gpuHost.Select(parseGPUs(t, c.gpus))
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v, want an error that says %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range chosen {
				got = append(got, d.Name+" "+d.UUID)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		chosen      []host.GPU
		free, total int64
	}{
		"one":                        {[]host.GPU{{MemoryMiB: 100, FreeMiB: 90}}, 90 * mib, 100 * mib},
		"the least free":             {[]host.GPU{{MemoryMiB: 100, FreeMiB: 90}, {MemoryMiB: 200, FreeMiB: 3}, {MemoryMiB: 100, FreeMiB: 50}}, 3 * mib, 200 * mib},
		"nothing free":               {[]host.GPU{{MemoryMiB: 100}}, 0, 100 * mib},
		"one does not tell":          {[]host.GPU{{MemoryMiB: 100, FreeMiB: 90}, {}}, 0, 0},
		"none":                       {nil, 0, 0},
		"more than an int32 of them": {[]host.GPU{{MemoryMiB: 290_000, FreeMiB: 280_000}}, 280_000 * mib, 290_000 * mib},
	} {
		if free, total := host.Memory(c.chosen); free != c.free || total != c.total {
			t.Errorf("%s: %d of %d, want %d of %d", name, free, total, c.free, c.total)
		}
	}
}

func TestDataCenter(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"NVIDIA H100 80GB HBM3": true, "NVIDIA A100-SXM4-80GB": true, "A100-PCIE-40GB": true, "Tesla T4": true, "Tesla V100-SXM2-16GB": true,
		"NVIDIA L4": true, "NVIDIA L40S": true, "NVIDIA A10G": true, "NVIDIA B200": true, "NVIDIA GH200 480GB": true, "NVIDIA H20": true,
		"NVIDIA A100-SXM4-80GB MIG 1g.10gb": true,
		"NVIDIA GeForce RTX 4090":           false, "NVIDIA GB10": false, "NVIDIA RTX A6000": false, "Quadro T2000": false, "NVIDIA TITAN V": false,
		"NVIDIA A1000": false, "NVIDIA T400": false, "Orin": false, "": false,
	} {
		if got := (host.GPU{Name: name}).DataCenter(); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestFromCDI(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		devices []string
		want    []host.GPU
	}{
		"as seen on Engine 29":     {[]string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}, []host.GPU{{}}},
		"by index and UUID":        {[]string{"nvidia.com/gpu=1", "nvidia.com/gpu=GPU-b", "nvidia.com/gpu=0", "nvidia.com/gpu=GPU-a", "nvidia.com/gpu=all"}, []host.GPU{{}, {Index: 1}}},
		"by UUID alone":            {[]string{"nvidia.com/gpu=GPU-a", "nvidia.com/gpu=GPU-b"}, []host.GPU{{UUID: "GPU-a"}, {Index: 1, UUID: "GPU-b"}}},
		"instances, and one whole": {[]string{"nvidia.com/gpu=0:0", "nvidia.com/gpu=0:1", "nvidia.com/gpu=1"}, []host.GPU{{MIG: true, Instances: []host.Instance{{}, {Index: 1}}}, {Index: 1}}},
	} {
		got, err := host.FromCDI(c.devices)
		if diff := cmp.Diff(c.want, got.Devices); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		if chosen, err := got.Select(parseGPUs(t, "all")); name == "by index and UUID" && (err != nil || len(chosen) != 2) {
			t.Errorf("%s: all is %+v, %v", name, chosen, err)
		}
	}
	for _, devices := range [][]string{nil, {"nvidia.com/gpu=all"}, {"nvidia.com/gpu="}, {"nvidia.com/gpu"}, {"nvidia.com/gpu=-1"}} {
		if got, err := host.FromCDI(devices); !errors.Is(err, host.ErrNoGPU) {
			t.Errorf("%q: %+v, %v", devices, got, err)
		}
	}
}

// Of GPUs on another host it is known which there are, and that has to tell them apart.
func TestSelectFromCDI(t *testing.T) {
	t.Parallel()
	const a, b, mig = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000", "MIG-cccc3333-0000"
	both := []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=" + a, "nvidia.com/gpu=" + b, "nvidia.com/gpu=all"}
	parts := []string{"nvidia.com/gpu=0:0", "nvidia.com/gpu=0:1", "nvidia.com/gpu=" + mig, "nvidia.com/gpu=1"}
	for _, c := range []struct {
		listed []string
		gpus   string
		want   []string // address, UUID
		says   string
	}{
		{both, "all", []string{"0 ", "1 "}, ""},
		{both, "device=1", []string{"1 "}, ""},
		{both, "device=" + b, []string{b + " " + b}, ""},
		{both, "device=GPU-bbbb", []string{b + " " + b}, ""},
		{both, "device=GPU-dddd", nil, "there is no GPU GPU-dddd: there are GPU 0 and GPU 1, by UUID " + a + ", " + b},
		{both, "device=" + b + ",GPU-bbbb2", nil, "is named twice"},
		{both, "device=0,0", nil, "GPU 0 is named twice"},
		{parts, "device=0:1", []string{"0:1 "}, ""},
		{parts, "device=MIG-cccc", []string{mig + " " + mig}, ""},
		{parts, "device=0", nil, "name one, as in --gpus device=0:0"},
		{parts, "device=1,0:1", nil, "name one, as in --gpus device=0:1"},
		{[]string{"nvidia.com/gpu=" + mig}, "all", []string{mig + " " + mig}, ""},
	} {
		t.Run(c.gpus, func(t *testing.T) {
			t.Parallel()
			offered, err := host.FromCDI(c.listed)
			if err != nil {
				t.Fatal(err)
			}
			chosen, err := offered.Select(parseGPUs(t, c.gpus))
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %+v, %v; want an error that says %q", chosen, err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range chosen {
				got = append(got, d.Address()+" "+d.UUID)
				if d.Name != "" {
					t.Errorf("%s is called %q, and nothing is known of it", d.Address(), d.Name)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCDIName(t *testing.T) {
	t.Parallel()
	whole := host.GPUs{Devices: []host.GPU{{Name: "T4", UUID: "GPU-aaaa1111"}, {Name: "T4", Index: 1, UUID: "GPU-bbbb2222"}}}
	split := host.GPUs{Devices: []host.GPU{{
		Name: "A100", UUID: "GPU-aaaa1111", MIG: true, Instances: []host.Instance{{UUID: "MIG-cccc3333"}, {Index: 1, UUID: "MIG-dddd4444"}},
	}}}
	for name, c := range map[string]struct {
		gpuHost host.GPUs
		gpus    string
		listed  []string
		want    string
	}{
		"by index":                     {whole, "device=1", []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"}, "nvidia.com/gpu=1"},
		"the beginning of a UUID":      {whole, "device=GPU-bbbb", []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}, "nvidia.com/gpu=1"},
		"UUIDs alone":                  {whole, "device=1", []string{"nvidia.com/gpu=GPU-aaaa1111", "nvidia.com/gpu=GPU-bbbb2222"}, "nvidia.com/gpu=GPU-bbbb2222"},
		"not listed":                   {whole, "device=1", []string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}, ""},
		"nothing is listed":            {whole, "device=1", nil, ""},
		"an instance":                  {split, "device=0:1", []string{"nvidia.com/gpu=0:0", "nvidia.com/gpu=0:1"}, "nvidia.com/gpu=0:1"},
		"an instance by UUID":          {split, "device=MIG-dddd", []string{"nvidia.com/gpu=0:0", "nvidia.com/gpu=0:1"}, "nvidia.com/gpu=0:1"},
		"an instance, UUIDs alone":     {split, "device=0:1", []string{"nvidia.com/gpu=MIG-cccc3333", "nvidia.com/gpu=MIG-dddd4444"}, "nvidia.com/gpu=MIG-dddd4444"},
		"an instance is not its GPU":   {split, "device=0:1", []string{"nvidia.com/gpu=0", "nvidia.com/gpu=GPU-aaaa1111"}, ""},
		"one that nobody knows better": {host.GPUs{Devices: []host.GPU{{}}}, "all", []string{"nvidia.com/gpu="}, ""},
	} {
		chosen, err := c.gpuHost.Select(parseGPUs(t, c.gpus))
		if err != nil || len(chosen) != 1 {
			t.Fatalf("%s: %+v, %v", name, chosen, err)
		}
		if got := host.CDIName(c.listed, chosen[0]); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Whatever the two answers about instances say, what is found is whole.
func FuzzInstances(f *testing.F) {
	f.Add(migList, migXML)
	f.Add("GPU 0: A (UUID: GPU-x)\n  MIG 1g.5gb Device 0: (UUID: MIG-GPU-x/9/0)\n", "<a><b></a>")
	f.Add("GPU 99999999999999999999: \n  MIG x Device 99999999999999999999: (UUID: MIG-)", "")
	f.Fuzz(func(t *testing.T, list, xml string) {
		got, err := host.Probe(t.Context(), smi(split(list, xml)))
		if err != nil || len(got.Devices) != 2 {
			t.Fatalf("got %+v, %v", got, err)
		}
		for _, d := range got.Devices {
			for _, i := range d.Instances {
				if !d.MIG || i.UUID == "" || i.Profile == "" || i.Index < 0 || i.MemoryMiB < 0 || i.FreeMiB < 0 {
					t.Errorf("GPU %d has %+v", d.Index, i)
				}
			}
		}
	})
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"} {
		got, err := host.Describe(t.Context(), smi(map[string]reply{program + " -q -x": {out: migXML}}))
		if err != nil || got != migXML {
			t.Errorf("%s: %q, %v", program, got, err)
		}
	}
	for says, replies := range map[string]map[string]reply{
		"nvidia-smi is not on PATH":                       nil,
		"nvidia-smi says: Failed to initialize NVML: xyz": {"nvidia-smi -q -x": {"Failed to initialize NVML:\nxyz\n", errors.New("exit status 18")}},
	} {
		if got, err := host.Describe(t.Context(), smi(replies)); !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q, %v; want %q", got, err, says)
		}
	}
}
