package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/host"
)

const (
	fullQuery = "nvidia-smi --query-gpu=index,uuid,name,driver_version,memory.total,memory.free,compute_cap,mig.mode.current,pci.bus_id,compute_mode --format=csv,noheader,nounits"
	r470Query = "nvidia-smi --query-gpu=index,uuid,name,driver_version,memory.total,memory.free,mig.mode.current,pci.bus_id,compute_mode --format=csv,noheader,nounits"
	r440Query = "nvidia-smi --query-gpu=index,uuid,name,driver_version,memory.total,memory.free,pci.bus_id,compute_mode --format=csv,noheader,nounits"
	noCompute = "Field \"compute_cap\" is not a valid field to query.\n"
)

type reply struct {
	out string
	err error
}

// smi answers the given command lines; any other program is not there.
func smi(replies map[string]reply) host.Runner {
	return func(_ context.Context, argv ...string) ([]byte, error) {
		r, ok := replies[strings.Join(argv, " ")]
		if !ok {
			return nil, &exec.Error{Name: argv[0], Err: exec.ErrNotFound}
		}
		return []byte(r.out), r.err
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func h100() host.GPU {
	return host.GPU{
		UUID: "GPU-b2b10123-43d8-7094-32ab-39106cb54c35", Name: "NVIDIA H100 80GB HBM3", Compute: "9.0",
		MemoryMiB: 81559, FreeMiB: 81079, BusID: "00000000:00:06.0", ComputeMode: "Default",
	}
}

// What an H100 printed.
func TestProbeH100(t *testing.T) {
	t.Parallel()
	got, err := host.Probe(t.Context(), smi(map[string]reply{
		fullQuery:    {out: read(t, "nvidia-smi-query.csv")},
		"nvidia-smi": {out: read(t, "nvidia-smi.txt")},
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := host.GPUs{Driver: "580.159.04", CUDA: "13.0", Devices: []host.GPU{h100()}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit status 2")
	tests := map[string]struct {
		replies map[string]reply
		want    host.GPUs
	}{
		"two GPUs, one split, no summary": {
			map[string]reply{
				fullQuery: {out: "0, GPU-a, NVIDIA A100-SXM4-40GB, 535.183.01, 40960, 40000, 8.0, Enabled, 00000000:07:00.0, Default\r\n" +
					"3, GPU-b, Tesla T4, 535.183.01, 15360, 15000, 7.5, [N/A], 00000000:08:00.0, Exclusive_Process\n\n"},
				"nvidia-smi -L": {},
				"nvidia-smi":    {err: failed},
			},
			host.GPUs{Driver: "535.183.01", Devices: []host.GPU{
				{UUID: "GPU-a", Name: "NVIDIA A100-SXM4-40GB", Compute: "8.0", MemoryMiB: 40960, FreeMiB: 40000, MIG: true, BusID: "00000000:07:00.0", ComputeMode: "Default"},
				{Index: 3, UUID: "GPU-b", Name: "Tesla T4", Compute: "7.5", MemoryMiB: 15360, FreeMiB: 15000, BusID: "00000000:08:00.0", ComputeMode: "Exclusive_Process"},
			}},
		},
		"what is not told is empty": {
			map[string]reply{fullQuery: {out: "0, GPU-a, NVIDIA GB10, 580.95.05, [N/A], [Not Supported], [N/A], N/A, [Unknown Error], [GPU is lost]\n"}},
			host.GPUs{Driver: "580.95.05", Devices: []host.GPU{{UUID: "GPU-a", Name: "NVIDIA GB10"}}},
		},
		"a name with a comma": {
			map[string]reply{fullQuery: {out: "0, GPU-a, NVIDIA X, rev 2, 580.95.05, 1, 1, 9.0, Disabled, 0, Default\n"}},
			host.GPUs{Driver: "580.95.05", Devices: []host.GPU{{UUID: "GPU-a", Name: "NVIDIA X, rev 2", Compute: "9.0", MemoryMiB: 1, FreeMiB: 1, BusID: "0", ComputeMode: "Default"}}},
		},
		"a driver that does not know compute_cap": {
			map[string]reply{
				fullQuery: {out: noCompute, err: failed},
				r470Query: {out: "0, GPU-a, A100-SXM4-40GB, 470.161.03, 40960, 40000, Enabled, 00000000:00:1E.0, Default\n"},
				"nvidia-smi -L": {out: "GPU 0: A100-SXM4-40GB (UUID: GPU-a)\n" +
					"  MIG 1g.5gb      Device  0: (UUID: MIG-x)\n"},
				"nvidia-smi": {out: "| NVIDIA-SMI 470.161.03   Driver Version: 470.161.03   CUDA Version: 11.4     |"},
			},
			host.GPUs{Driver: "470.161.03", CUDA: "11.4", Devices: []host.GPU{
				{
					UUID: "GPU-a", Name: "A100-SXM4-40GB", MemoryMiB: 40960, FreeMiB: 40000, BusID: "00000000:00:1E.0", ComputeMode: "Default",
					MIG: true, Instances: []host.Instance{{UUID: "MIG-x", Profile: "1g.5gb"}},
				},
			}},
		},
		"a driver that knows no MIG either": {
			map[string]reply{
				fullQuery:    {out: noCompute, err: failed},
				r470Query:    {out: "Field \"mig.mode.current\" is not a valid field to query.\n", err: failed},
				r440Query:    {out: "0, GPU-a, Tesla V100-SXM2-16GB, 440.33.01, 16160, 16000, 00000000:00:1E.0, Default\n"},
				"nvidia-smi": {out: "| NVIDIA-SMI 440.33.01    Driver Version: 440.33.01    CUDA Version: 10.2     |"},
			},
			host.GPUs{Driver: "440.33.01", CUDA: "10.2", Devices: []host.GPU{
				{UUID: "GPU-a", Name: "Tesla V100-SXM2-16GB", MemoryMiB: 16160, FreeMiB: 16000, BusID: "00000000:00:1E.0", ComputeMode: "Default"},
			}},
		},
		"WSL, nvidia-smi not on PATH": {
			map[string]reply{
				"/usr/lib/wsl/lib/" + fullQuery: {out: "0, GPU-a, NVIDIA GeForce RTX 4080, 610.43.02, 16376, 15000, 8.9, [N/A], 0, Default\n"},
				"/usr/lib/wsl/lib/nvidia-smi":   {out: "| NVIDIA-SMI 610.43.02     KMD Version: 610.43.02     CUDA UMD Version: 13.3 |"},
			},
			host.GPUs{Driver: "610.43.02", CUDA: "13.3", Devices: []host.GPU{
				{UUID: "GPU-a", Name: "NVIDIA GeForce RTX 4080", Compute: "8.9", MemoryMiB: 16376, FreeMiB: 15000, BusID: "0", ComputeMode: "Default"},
			}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := host.Probe(t.Context(), smi(tt.replies))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestProbeNoGPU(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit status 9")
	tests := map[string]struct {
		reply *reply
		want  string
	}{
		"not there": {nil, "no usable NVIDIA GPU: nvidia-smi is not on PATH: install NVIDIA's driver"},
		"no driver": {
			&reply{"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nMake sure that the latest NVIDIA driver is installed and running.\n\n", failed},
			"nvidia-smi says: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure",
		},
		"driver and library differ": {&reply{"Failed to initialize NVML: Driver/library version mismatch\n", failed}, "says: Failed to initialize NVML: Driver/library version mismatch"},
		"no devices":                {&reply{"No devices were found\n", nil}, "says: No devices were found"},
		"no devices, and failed":    {&reply{"No devices were found\n", failed}, "says: No devices were found"},
		"nothing":                   {&reply{"", nil}, "nvidia-smi lists none"},
		"failed without a word":     {&reply{"", failed}, "nvidia-smi: exit status 9"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replies := map[string]reply{}
			if tt.reply != nil {
				replies[fullQuery] = *tt.reply
			}
			got, err := host.Probe(t.Context(), smi(replies))
			var none *host.NoGPUError
			if !errors.Is(err, host.ErrNoGPU) || !errors.As(err, &none) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %+v, %v; want ErrNoGPU with %q", got, err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
			if tt.reply != nil && tt.reply.err != nil && !errors.Is(err, failed) {
				t.Errorf("%v hides the runner's error", err)
			}
		})
	}
}

func TestProbeBadOutput(t *testing.T) {
	t.Parallel()
	for _, out := range []string{"hello\n", "x, GPU-a, N, 580, 1, 1, 9.0, Disabled, 0, Default\n", "-1, GPU-a, N, 580, 1, 1, 9.0, Disabled, 0, Default\n", "0, GPU-a\n"} {
		got, err := host.Probe(t.Context(), smi(map[string]reply{fullQuery: {out: out}}))
		if err == nil || errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "nvidia-smi's line") {
			t.Errorf("%q: %+v, %v", out, got, err)
		}
	}
}

// A driver that hangs leaves nvidia-smi where no signal reaches it.
func TestProbeHangs(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]time.Duration{"killed in time": 5 * time.Second, "cannot be killed": 5500 * time.Millisecond} {
		obeys := name == "killed in time"
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				end := make(chan struct{})
				defer close(end)
				start := time.Now()
				_, err := host.Probe(t.Context(), func(ctx context.Context, _ ...string) ([]byte, error) {
					if obeys {
						<-ctx.Done()
						return []byte("half a line"), errors.New("signal: killed")
					}
					<-end
					return nil, errors.New("too late")
				})
				if took := time.Since(start); took != want {
					t.Errorf("took %v", took)
				}
				if !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "gave no answer in 5s") || !strings.Contains(err.Error(), "nvidia-smi -pm 1") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// slow takes 4 s for each call, as with several GPUs and persistence mode off.
func slow(run host.Runner) host.Runner {
	return func(ctx context.Context, argv ...string) ([]byte, error) {
		select {
		case <-time.After(4 * time.Second):
			return run(ctx, argv...)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Each call takes seconds, and all of them more than one may.
func TestProbeSlow(t *testing.T) {
	t.Parallel()
	replies := split(migList, migXML)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got, err := host.Probe(t.Context(), slow(smi(replies)))
		if took := time.Since(start); err != nil || got.CUDA != "12.8" || len(got.Devices[0].Instances) != 2 || took != 12*time.Second {
			t.Errorf("after %v: %+v, %v", took, got, err)
		}
	})
}

// Where instances cannot be listed, none was looked for: that is not the same as a GPU without any.
func TestProbeInstancesUnlisted(t *testing.T) {
	t.Parallel()
	replies := split(migList, migXML)
	synctest.Test(t, func(t *testing.T) {
		_, err := host.Probe(t.Context(), func(ctx context.Context, argv ...string) ([]byte, error) {
			if argv[len(argv)-1] == "-L" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return smi(replies)(ctx, argv...)
		})
		none, ok := errors.AsType[*host.NoGPUError](err)
		if !ok || !none.Hangs || !strings.Contains(none.Reason, "nvidia-persistenced") {
			t.Errorf("got %v", err)
		}
	})
	replies["nvidia-smi -L"] = reply{"Unable to determine the device handle\n", errors.New("exit status 15")}
	if _, err := host.Probe(t.Context(), smi(replies)); !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "says: Unable to determine") {
		t.Errorf("got %v", err)
	}
}

// A caller's own end, sooner than the probe's, is the caller's.
func TestProbeWithinLess(t *testing.T) {
	t.Parallel()
	replies := split(migList, migXML)
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("no answer within 7s")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 7*time.Second, why)
		defer cancel()
		_, err := host.Probe(ctx, slow(smi(replies)))
		if !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
}

// A summary that hangs costs its field and not the result.
func TestProbeSummaryHangs(t *testing.T) {
	t.Parallel()
	csv := read(t, "nvidia-smi-query.csv")
	synctest.Test(t, func(t *testing.T) {
		got, err := host.Probe(t.Context(), func(ctx context.Context, argv ...string) ([]byte, error) {
			if len(argv) > 1 {
				return []byte(csv), nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if err != nil || got.CUDA != "" || len(got.Devices) != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestProbeCancelled(t *testing.T) {
	t.Parallel()
	why := errors.New("the user left")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := host.Probe(ctx, func(ctx context.Context, _ ...string) ([]byte, error) {
		cancel(why)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if !errors.Is(err, why) || errors.Is(err, host.ErrNoGPU) {
		t.Errorf("got %v, want the cause of the end", err)
	}
}

// The real runner, with a shell in nvidia-smi's place.
func TestCommand(t *testing.T) {
	t.Parallel()
	out, err := host.Command(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 9")
	var exit *exec.ExitError
	if string(out) != "out\nerr\n" || !errors.As(err, &exit) || exit.ExitCode() != 9 {
		t.Errorf("got %q, %v", out, err)
	}
	for _, program := range []string{"a-program-that-is-not-there", filepath.Join(t.TempDir(), "nothing")} {
		_, err := host.Probe(t.Context(), func(ctx context.Context, _ ...string) ([]byte, error) {
			return host.Command(ctx, program)
		})
		if !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "not on PATH") {
			t.Errorf("%s: got %v", program, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	// The child of the shell keeps the pipe open after the shell is killed.
	if _, err := host.Command(ctx, "sh", "-c", "sleep 30 & wait"); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("ended after %v with %v", time.Since(start), err)
	}
}

// A program that prints without end is ended by what it printed, and by no clock.
func TestEndlessOutput(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("it was not ended"))
	defer cancel()
	for _, script := range []string{"exec yes", "yes & wait", "yes >&2"} {
		out, err := host.Command(ctx, "sh", "-c", script)
		if out != nil || err == nil || err.Error() != "it printed more than 4 MiB, and was ended" {
			t.Fatalf("%s: %d bytes, %v, %v", script, len(out), err, context.Cause(ctx))
		}
	}
	_, err := host.Probe(ctx, func(ctx context.Context, _ ...string) ([]byte, error) { return host.Command(ctx, "yes") })
	if !errors.Is(err, host.ErrNoGPU) || !strings.Contains(err.Error(), "nvidia-smi: it printed more than 4 MiB, and was ended") {
		t.Errorf("got %v", err)
	}
}

// A program that hangs is gone when the probe returns: the process may end right after.
func TestProbeLeavesNoProgram(t *testing.T) {
	t.Parallel()
	var running atomic.Int32
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := host.Probe(ctx, func(ctx context.Context, _ ...string) ([]byte, error) {
		running.Add(1)
		defer running.Add(-1)
		return host.Command(ctx, "sh", "-c", "while :; do :; done")
	})
	if left := running.Load(); left != 0 {
		t.Errorf("%d are still there when the probe has returned: %v", left, err)
	}
}

// The calls of a usual probe run at the same time: each waits for the other here.
func TestProbeAsksAtOnce(t *testing.T) {
	t.Parallel()
	csv, summary := read(t, "nvidia-smi-query.csv"), read(t, "nvidia-smi.txt")
	var begun sync.WaitGroup
	begun.Add(2)
	got, err := host.Probe(t.Context(), func(ctx context.Context, argv ...string) ([]byte, error) {
		begun.Done()
		begun.Wait()
		return smi(map[string]reply{fullQuery: {out: csv}, "nvidia-smi": {out: summary}})(ctx, argv...)
	})
	if err != nil || got.CUDA == "" || got.Driver == "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzProbe(f *testing.F) {
	f.Add("0, GPU-a, NVIDIA H100 80GB HBM3, 580.159.04, 81559, 81079, 9.0, Disabled, 00000000:00:06.0, Default\n", "| CUDA Version: 13.0 |")
	f.Add("No devices were found\n", "")
	f.Add("0, [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]", "CUDA Version: N/A")
	f.Add(",,,,,,,,,,,,", "")
	f.Fuzz(func(t *testing.T, query, summary string) {
		got, err := host.Probe(t.Context(), smi(map[string]reply{fullQuery: {out: query}, "nvidia-smi": {out: summary}}))
		if err != nil {
			if diff := cmp.Diff(host.GPUs{}, got); diff != "" {
				t.Errorf("an error and GPUs: %s", diff)
			}
			return
		}
		if len(got.Devices) == 0 {
			t.Error("no error and no GPU")
		}
		for _, gpu := range got.Devices {
			if gpu.Index < 0 || gpu.MemoryMiB < 0 || gpu.FreeMiB < 0 {
				t.Errorf("negative: %+v", gpu)
			}
			for _, s := range []string{gpu.UUID, gpu.Name, gpu.Compute, got.Driver} {
				if s != strings.TrimSpace(s) {
					t.Errorf("spaces around %q in %s", s, fmt.Sprint(gpu))
				}
			}
		}
	})
}
