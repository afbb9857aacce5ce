// Package host finds out facts of this host: its GPUs and their driver, free disk space, who uses a port, whether it is
// WSL. What it reads is passed in where that is possible, so that each answer can be tested with what real hosts said.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// GPU is one GPU. Figures that the driver does not tell are empty or zero.
type GPU struct {
	Index       int
	UUID        string // GPU-b2b10123-…
	Name        string // NVIDIA H100 80GB HBM3
	Compute     string // compute capability, 9.0; drivers before R510 do not tell it
	MemoryMiB   int
	FreeMiB     int
	MIG         bool       // split into instances: containers get those, not the GPU
	BusID       string     // 00000000:00:06.0
	ComputeMode string     // Default; Exclusive_Process or Prohibited keep a second process away
	Instances   []Instance // of a GPU that MIG splits
	// Part is which part of its GPU a chosen MIG instance is, 0:1, or its UUID where that alone is known. Empty for a
	// whole GPU.
	Part string
}

// Address is what names the GPU or the instance after --gpus device=: 0, 0:1, or its UUID where no index is known.
func (g GPU) Address() string {
	switch {
	case g.Part != "":
		return g.Part
	case g.Index < 0:
		return g.UUID
	default:
		return strconv.Itoa(g.Index)
	}
}

// GPUs are the GPUs of a host with what they share.
type GPUs struct {
	Driver  string // 580.159.04
	CUDA    string // the newest CUDA that the driver runs, 13.0; empty if nvidia-smi does not say it
	Devices []GPU  // at least one, in nvidia-smi's order
	// Also are further names of those devices, by UUID, of which it is not known which device they name. They can be
	// chosen by name.
	Also []GPU
}

// ErrNoGPU is what [Probe] returns, as a [*NoGPUError], if no GPU can be used.
var ErrNoGPU = errors.New("no usable NVIDIA GPU")

// NoGPUError says why there is no GPU.
type NoGPUError struct {
	Reason string // what was seen: "nvidia-smi is not on PATH", "nvidia-smi says: …"
	Hangs  bool   // nvidia-smi gave no answer
	// NotInstalled says that there is no nvidia-smi, so that nobody meant a GPU to be there.
	NotInstalled bool
	Err          error `json:"-"` // the runner's error; nil if it had none
}

// Error is one line.
func (e *NoGPUError) Error() string { return ErrNoGPU.Error() + ": " + e.Reason }

// Is makes every NoGPUError an [ErrNoGPU].
func (e *NoGPUError) Is(target error) bool { return target == ErrNoGPU }

// Unwrap returns the runner's error.
func (e *NoGPUError) Unwrap() error { return e.Err }

// Runner runs a command and returns what it wrote to its standard output and its standard error, also if it failed. A
// program that is not there is an error that is [exec.ErrNotFound] or [fs.ErrNotExist]. [Command] is the real one.
type Runner func(ctx context.Context, argv ...string) ([]byte, error)

const (
	// callLimit is how long nvidia-smi may take. It answers in well under a second, or with persistence mode off in 1
	// to 3 s a GPU, since it starts the GPUs anew for each call (https://docs.nvidia.com/deploy/driver-persistence).
	// With a hung driver it never does, and then cannot be killed either.
	callLimit = 5 * time.Second
	// probeLimit is how long all calls of a probe may take.
	probeLimit = 20 * time.Second
)

// wslSMI is where WSL has nvidia-smi, which root's PATH may lack.
const wslSMI = "/usr/lib/wsl/lib/nvidia-smi"

// Probe asks nvidia-smi for the GPUs: 5 s for each call at most, and 20 s for all of them. That there are none, for
// whatever reason, is an [ErrNoGPU], and so is that the instances of one that MIG splits cannot be listed; other errors
// are the context's, and output that cannot be understood.
func Probe(ctx context.Context, run Runner) (GPUs, error) {
	limited, cancel := context.WithTimeout(ctx, probeLimit)
	p := prober{run: run, program: "nvidia-smi"}
	defer func() { // no program stays when the probe has returned
		cancel()
		p.asking.Wait()
	}()
	// Each call takes 40 to 100 ms on an H100, so both run at the same time.
	summary := p.summary(limited)
	out, fields, err := p.query(limited)
	if notFound(err) {
		p.program = wslSMI
		summary = p.summary(limited)
		out, fields, err = p.query(limited)
	}
	if ctx.Err() != nil {
		return GPUs{}, context.Cause(ctx)
	}
	if err != nil {
		return GPUs{}, noGPU(out, err, callLimit)
	}
	gpus, err := parseQuery(string(out), fields)
	if err != nil {
		return GPUs{}, err
	}
	if slices.ContainsFunc(gpus.Devices, func(d GPU) bool { return d.MIG }) {
		if err := p.instances(limited, &gpus); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return GPUs{}, err
		}
	}
	// Of the short answers the summary alone has the CUDA version. Without it the rest still holds.
	if gpus.CUDA == "" {
		gpus.CUDA = parseCUDA(<-summary)
	}
	return gpus, nil
}

type prober struct {
	run     Runner
	program string
	asking  sync.WaitGroup // of summaries
}

// smi runs nvidia-smi for callLimit at most.
func (p *prober) smi(ctx context.Context, args ...string) ([]byte, error) {
	return p.smiOf(ctx, p.program, args...)
}

func (p *prober) smiOf(ctx context.Context, program string, args ...string) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return call(limited, p.run, append([]string{program}, args...)...)
}

// summary sends what nvidia-smi prints without arguments; empty if it fails.
func (p *prober) summary(ctx context.Context) <-chan string {
	printed := make(chan string, 1)
	program := p.program // it may become another one
	p.asking.Go(func() {
		out, err := p.smiOf(ctx, program)
		if err != nil {
			out = nil
		}
		printed <- string(out)
	})
	return printed
}

// query returns the columns that this nvidia-smi has, and their names: drivers before R510 have no compute_cap, and
// those before R450 no MIG. nvidia-smi names a column that it does not have.
func (p *prober) query(ctx context.Context) (out []byte, fields []string, err error) {
	fields = queryFields()
	for {
		out, err = p.smi(ctx, "--query-gpu="+strings.Join(fields, ","), "--format=csv,noheader,nounits")
		i := slices.IndexFunc(fields, func(field string) bool {
			return (field == "compute_cap" || field == "mig.mode.current") &&
				strings.Contains(string(out), `Field "`+field+`" is not a valid field to query`)
		})
		if err == nil || i < 0 {
			return out, fields, err
		}
		fields = slices.Delete(fields, i, i+1)
	}
}

// killedWithin bounds the time from the kill of a program to its end.
const killedWithin = time.Second / 2

// call returns soon after the context's end even if the runner does not, since a process that waits in the kernel
// cannot be killed. It waits a little for a process that can: if dalirun ended before, the process would remain.
func call(ctx context.Context, run Runner, argv ...string) ([]byte, error) {
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := run(ctx, argv...)
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		if ctx.Err() != nil {
			return nil, ctx.Err() // the program failed because it was killed
		}
		return r.out, r.err
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(killedWithin):
		}
		return nil, ctx.Err()
	}
}

func notFound(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist)
}

func noGPU(out []byte, err error, within time.Duration) error {
	switch text := strings.Join(strings.Fields(string(out)), " "); {
	case notFound(err):
		return &NoGPUError{Reason: "nvidia-smi is not on PATH: install NVIDIA's driver", NotInstalled: true, Err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &NoGPUError{
			Hangs: true, Err: err,
			Reason: fmt.Sprintf("nvidia-smi gave no answer in %v: the driver hangs, or it starts the GPUs anew for "+
				"each call, which nvidia-persistenced, or `sudo nvidia-smi -pm 1`, spares it", within),
		}
	case text != "":
		return &NoGPUError{Reason: "nvidia-smi says: " + text, Err: err}
	default:
		return &NoGPUError{Reason: "nvidia-smi: " + err.Error(), Err: err}
	}
}

// queryFields returns the columns to query. Only the name could have a comma.
func queryFields() []string {
	return []string{
		"index", "uuid", "name", "driver_version", "memory.total", "memory.free", "compute_cap", "mig.mode.current",
		"pci.bus_id", "compute_mode",
	}
}

const nameColumn = 2

// parseQuery reads nvidia-smi's comma separated lines, one a GPU.
func parseQuery(out string, fields []string) (GPUs, error) {
	var gpus GPUs
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if strings.HasPrefix(line, "No devices") {
			return GPUs{}, &NoGPUError{Reason: "nvidia-smi says: " + line}
		}
		gpu, driver, err := parseLine(line, fields)
		if err != nil {
			return GPUs{}, fmt.Errorf("nvidia-smi's line %q: %w", line, err)
		}
		gpus.Devices = append(gpus.Devices, gpu)
		gpus.Driver = driver
	}
	if len(gpus.Devices) == 0 {
		return GPUs{}, &NoGPUError{Reason: "nvidia-smi lists none"}
	}
	return gpus, nil
}

func parseLine(line string, fields []string) (gpu GPU, driver string, err error) {
	values := strings.Split(line, ",")
	extra := len(values) - len(fields)
	if extra < 0 {
		return GPU{}, "", fmt.Errorf("%d columns, want %d", len(values), len(fields))
	}
	name := strings.Join(values[nameColumn:nameColumn+extra+1], ",")
	values = append(append(values[:nameColumn:nameColumn], name), values[nameColumn+extra+1:]...)
	for i, field := range fields {
		value := columnValue(values[i])
		switch field {
		case "index":
			gpu.Index, err = strconv.Atoi(value)
			if err != nil || gpu.Index < 0 {
				return GPU{}, "", fmt.Errorf("index %q is no number", value)
			}
		case "uuid":
			gpu.UUID = value
		case "name":
			gpu.Name = value
		case "driver_version":
			driver = value
		case "memory.total":
			gpu.MemoryMiB = mebibytes(value)
		case "memory.free":
			gpu.FreeMiB = mebibytes(value)
		case "compute_cap":
			gpu.Compute = value
		case "mig.mode.current":
			gpu.MIG = value == "Enabled"
		case "pci.bus_id":
			gpu.BusID = value
		case "compute_mode":
			gpu.ComputeMode = value
		}
	}
	return gpu, driver, nil
}

// columnValue returns a column's value. It is empty for texts that stand for none: [N/A], [Not Supported], [Unknown
// Error], [GPU is lost].
func columnValue(value string) string {
	value = strings.TrimSpace(value)
	if value == "N/A" || strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") {
		return ""
	}
	return value
}

// mebibytes returns a size, and zero for a text that is none: GPUs that share the host's memory have no size of their
// own.
func mebibytes(value string) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func parseCUDA(summary string) string {
	// R610 writes "CUDA UMD Version: 13.3".
	m := regexp.MustCompile(`CUDA (?:UMD )?Version:\s*(\d+\.\d+)`).FindStringSubmatch(summary)
	if m == nil {
		return ""
	}
	return m[1]
}

// Describe returns all that nvidia-smi tells of the GPUs, as XML. It has their serial numbers, and the programs that
// use them. That there are none, or that it gives no answer in 20 s, is an [ErrNoGPU].
func Describe(ctx context.Context, run Runner) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	out, err := call(ctx, run, "nvidia-smi", "-q", "-x")
	if notFound(err) {
		out, err = call(ctx, run, wslSMI, "-q", "-x")
	}
	if err != nil {
		return "", noGPU(out, err, probeLimit)
	}
	return string(out), nil
}
