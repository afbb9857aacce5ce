// Command stub is every program of the stub images: it acts as the one by whose name it is called. Each records how it
// was run, refuses what the real one would refuse, prints what the real one printed on an H100, and writes small files
// that stand for its results. They depend on each other as the real ones do: the server answers as the reference does
// only if the engine was built from the model that was exported from the same weights.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	//nolint:forbidigo // a main package is where these come from
	p := &process{args: os.Args, environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt) //nolint:forbidigo // as above
	code := p.run(ctx)
	stop()
	os.Exit(code) //nolint:forbidigo // this is main
}

// process is how a program was called.
type process struct {
	args           []string // the program's name first
	environ        []string // NAME=value
	stdin          io.Reader
	stdout, stderr io.Writer
}

func (p *process) run(ctx context.Context) int {
	switch name := filepath.Base(p.args[0]); name {
	case "nvidia_entrypoint.sh":
		return p.entrypoint()
	case "sh":
		return p.shell()
	case "python3":
		return p.python(ctx)
	case "trtexec":
		return p.trtexec(ctx)
	case "tritonserver":
		return p.tritonserver(ctx)
	case "nvidia-smi":
		return p.smi()
	default:
		fmt.Fprintf(p.stderr, "stub: there is no %s\n", name)
		return 127
	}
}

// env returns a variable's value.
func (p *process) env(name string) string {
	for _, pair := range p.environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// hasGPU says whether the container was given GPUs: by the hook, which goes by the environment, or by CDI, which says
// "void" there and brings the devices.
func (p *process) hasGPU() bool {
	if _, err := os.Stat("/dev/nvidiactl"); err == nil {
		return true
	}
	devices := p.env("NVIDIA_VISIBLE_DEVICES")
	return devices != "" && devices != "void"
}

// smi lists the GPUs, with nvidia-smi's words and status where there are none. The real one looks at devices. This one
// asks the container's first process, since what is run beside it is not told of them.
func (p *process) smi() int {
	first, err := os.ReadFile("/proc/1/environ")
	switch {
	case err != nil || len(p.args) != 2 || p.args[1] != "-L":
		fmt.Fprintf(p.stderr, "stub: nvidia-smi knows -L, not %q (%v)\n", p.args[1:], err)
		return 2
	case !(&process{environ: strings.Split(string(first), "\x00")}).hasGPU():
		fmt.Fprintln(p.stdout, "No devices were found")
		return 9
	}
	fmt.Fprintln(p.stdout, "GPU 0: NVIDIA H100 80GB HBM3 (UUID: "+p.gpu()+")")
	return 0
}

// h100 is the GPU on which the real programs were recorded.
const h100 = "GPU-b2b10123-43d8-7094-32ab-39106cb54c35"

// gpu is the UUID of the GPU that the container would have: that of the recordings, unless the image names another.
func (p *process) gpu() string { return cmp.Or(p.env("STUB_GPU"), h100) }

// fails says whether the image is one that fails in this way.
func (p *process) fails(how string) bool { return p.env("STUB_FAIL") == how }
