package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

// proveWithin bounds nvidia-smi. It takes a fraction of a second, with persistence mode off two; on a hung driver it never ends.
const proveWithin = 10 * time.Second

// What a container runtime says of a command that cannot be run, and of one that is not there.
const (
	exitCannotRun = 126
	exitNotFound  = 127
)

// proveGPUs has the container list its GPUs. NVIDIA's images do not hold nvidia-smi: whatever gives a container its GPUs (the
// NVIDIA Container Toolkit's hook or a CDI device) puts it there. So one without it was given none, which some container engines
// do without a word.
func (p *process) proveGPUs(ctx context.Context, w *pipeline.Work, image string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, proveWithin, pipeline.Faultf(pipeline.Environment,
		"the driver hangs: run nvidia-smi on the host, and look at its kernel's log (`dmesg | grep NVRM`)",
		"nvidia-smi in the server's container did not end within %s", proveWithin))
	defer cancel()
	var out, more bytes.Buffer
	code, err := p.container.Exec(ctx, []string{"nvidia-smi", "-L"}, container.Streams{Stdout: &out, Stderr: &more})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && p.over(ctx):
		return p.exited()
	case err != nil:
		return fmt.Errorf("list the GPUs of the server's container: %w", err)
	}
	said := lines(out.String())
	if code == 0 && slices.ContainsFunc(said, regexp.MustCompile(`^GPU \d+:`).MatchString) {
		for _, gpu := range said {
			w.Emit(pipeline.Line{Text: "the container sees " + gpu})
		}
		w.Emit(pipeline.Result{Name: ResultGPUs, Value: said})
		return nil
	}
	said = append(said, lines(more.String())...)
	if code == exitCannotRun || code == exitNotFound {
		said = append(said, "nvidia-smi is not in the container")
	}
	fault := &pipeline.Fault{
		Kind: pipeline.Environment, Err: errors.New("the container does not see the GPU that was asked for"), Tail: lastOf(said, tailLines),
		Hint: "install the NVIDIA Container Toolkit, or make its CDI devices anew (`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`), " +
			"restart the container engine, and try docker run --rm --gpus=all " + image + " nvidia-smi",
	}
	if r, ok := remedy.Find(strings.Join(said, "\n")); ok {
		fault.Err, fault.Hint = fmt.Errorf("%w: %s", fault.Err, r.Text), r.Hint
	}
	return fault
}

// lines are those of text that are not blank, without space around them.
func lines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}
