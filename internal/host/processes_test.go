package host_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/host"
)

const (
	processQuery = "nvidia-smi --query-compute-apps=gpu_uuid,pid,process_name,used_memory --format=csv,noheader,nounits"
	containerID  = "cd699678813b16f02f1c945deb3f5f20cd699678813b16f02f1c945deb3f5f20"
)

func TestProcesses(t *testing.T) {
	t.Parallel()
	const gpu = "GPU-5d40f87a-ae62-c503-c118-c43ac892613f"
	for name, c := range map[string]struct {
		reply reply
		want  []host.Process
		says  string
		err   string
	}{
		"an H100 with R580":  {reply{out: read(t, "nvidia-smi-processes.csv")}, []host.Process{{GPU: gpu, PID: 500, Name: "python3", MemoryMiB: 1542}}, "python3 (PID 500, 1.506 GiB)", ""},
		"nobody":             {reply{}, nil, "", ""}, // what R580 says, also in a PID namespace of its own
		"a name with commas": {reply{out: gpu + ", 7, /opt/a, b/run, 12\n"}, []host.Process{{GPU: gpu, PID: 7, Name: "/opt/a, b/run", MemoryMiB: 12}}, "/opt/a, b/run (PID 7, 12 MiB)", ""},
		"no names":           {reply{out: gpu + ", 2314, [Not Found], [N/A]\n"}, []host.Process{{GPU: gpu, PID: 2314}}, "a program without a name (PID 2314)", ""},
		"a summary":          {reply{out: read(t, "nvidia-smi.txt")}, nil, "", "1 columns, want 4"},
		"no PID":             {reply{out: gpu + ", [N/A], python3, 1\n"}, nil, "", `PID "[N/A]" is no number`},
		"an unknown field":   {reply{out: "Field \"used_memory\" is not a valid field to query.\n", err: errors.New("exit status 2")}, nil, "", `nvidia-smi says: Field "used_memory" is not`},
	} {
		got, err := host.Processes(t.Context(), smi(map[string]reply{processQuery: c.reply}))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if c.says != "" && len(got) == 1 && got[0].String() != c.says {
			t.Errorf("%s: it is %q, not %q", name, got[0], c.says)
		}
	}
	if _, err := host.Processes(t.Context(), smi(nil)); !errors.Is(err, host.ErrNoGPU) {
		t.Errorf("without nvidia-smi: %v", err)
	}
	wsl := map[string]reply{strings.Replace(processQuery, "nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi", 1): {out: gpu + ", 1, a, 1\n"}}
	if got, err := host.Processes(t.Context(), smi(wsl)); err != nil || len(got) != 1 {
		t.Errorf("on WSL: %v, %v", got, err)
	}
}

// TestNeighbours leaves out those of other GPUs and of the caller's containers, by what the control groups of Docker Engine and Podman are called.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	groups := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	s := host.System{
		Root: fstest.MapFS{
			"proc/1/cgroup": groups("0::/system.slice/docker-" + containerID + ".scope\n"),
			"proc/2/cgroup": groups("12:pids:/docker/" + containerID + "\n0::/docker/" + containerID + "\n"),
			"proc/3/cgroup": groups("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + containerID + ".scope/container\n"),
			"proc/4/cgroup": groups("0::/system.slice/docker-" + strings.Repeat("0", 64) + ".scope\n"),
			"proc/5/cgroup": groups("0::/user.slice\n"),
		},
		Command: smi(map[string]reply{processQuery: {out: "GPU-a, 1, own, 1\nGPU-a, 2, own, 1\nGPU-b, 3, own, 1\nGPU-a, 4, another, 1\nGPU-b, 5, python3, 1\n" +
			"GPU-c, 5, python3, 1\nGPU-a, 6, hidden, 1\n[N/A], 5, python3, 1\n"}}),
	}
	for _, c := range []struct {
		gpus []host.GPU
		own  []string
		want []string
	}{
		{[]host.GPU{{UUID: "GPU-a"}, {UUID: "GPU-b"}}, []string{containerID, ""}, []string{"another", "python3", "hidden, cannot be looked at"}},
		{[]host.GPU{{UUID: "GPU-b"}}, nil, []string{"own", "python3"}},
		{[]host.GPU{{UUID: "GPU-a"}}, nil, []string{"own", "own", "another", "hidden"}},
		{[]host.GPU{{UUID: "MIG-a", Part: "0:1"}}, nil, nil},
		{[]host.GPU{{}}, nil, nil},
	} {
		others, err := s.Neighbours(t.Context(), c.gpus, c.own)
		var got []string
		for _, p := range others {
			if p.Hidden {
				p.Name += ", cannot be looked at"
			}
			got = append(got, p.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("of %+v (-want +got):\n%s%v", c.gpus, diff, err)
		}
	}
}
