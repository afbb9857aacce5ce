package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/pipeline"
)

// proveWithin bounds nvidia-smi. It takes a fraction of a second, with persistence mode off two; on a hung driver it never ends.
const proveWithin = 10 * time.Second

// otherGPUsHint is for a container that has other GPUs than were asked for.
const otherGPUsHint = "name them by UUID, as in --gpus device=UUID (`nvidia-smi -L` lists them); if the container still sees others, look for " +
	"NVIDIA_VISIBLE_DEVICES in the image, and for default-runtime in the container engine's configuration"

// What a container runtime says of a command that cannot be run, and of one that is not there.
const (
	exitCannotRun = 126
	exitNotFound  = 127
)

// proveGPUs has the container list its GPUs, and holds them against what was asked for. NVIDIA's images do not hold nvidia-smi:
// whatever gives a container its GPUs (the NVIDIA Container Toolkit's hook or a CDI device) puts it there. So one without it was given
// none, which some container engines do without a word.
func (p *process) proveGPUs(ctx context.Context, w *pipeline.Work, asked gpuRequest, image string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, proveWithin, pipeline.Faultf(pipeline.Environment,
		remedy.DriverHangs,
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
	said := nonBlank(out.String())
	if seen := host.ParseList(out.String()); code == 0 && len(seen) > 0 {
		for _, gpu := range said {
			w.Emit(pipeline.Line{Text: "the container sees " + gpu})
		}
		w.Emit(result.GPUs.Of(said))
		return checkGPUs(asked, seen, said)
	}
	said = append(said, nonBlank(more.String())...)
	if code == exitCannotRun || code == exitNotFound {
		said = append(said, "nvidia-smi is not in the container")
	}
	fault := &pipeline.Fault{
		Kind: pipeline.Environment, Err: errors.New("the container does not see the GPU that was asked for"), Tail: lastOf(said, tailLines),
		Hint: remedy.InstallToolkit + "; or " + remedy.RenewCDI +
			"; then try docker run --rm --gpus=all " + image + " nvidia-smi",
	}
	if r, line, ok := remedy.Find(strings.Join(said, "\n")); ok {
		tell(fault, r, line)
	}
	return fault
}

// checkGPUs refuses a container that sees fewer GPUs than were asked for, others or more: an engine is for one model of GPU, and others may use
// those that were left out.
func checkGPUs(asked gpuRequest, seen []host.GPU, said []string) error {
	var listed, used []string // used are those that a program can use, each by the one of its UUIDs that was asked for
	for _, gpu := range seen {
		var parts []string
		for _, instance := range gpu.Instances {
			parts = append(parts, instance.UUID)
		}
		listed = append(append(listed, gpu.UUID), parts...)
		if len(parts) == 0 || slices.Contains(asked.uuids, gpu.UUID) {
			used = append(used, gpu.UUID)
		} else {
			used = append(used, parts...)
		}
	}
	lacks := func(all []string) func(string) bool {
		return func(uuid string) bool { return !slices.Contains(all, uuid) }
	}
	request := fmt.Sprintf("--gpus %q", asked.GPUs)
	var wrong bool
	if asked.uuids != nil {
		request += " is " + strings.Join(asked.uuids, ", ")
		wrong = slices.ContainsFunc(asked.uuids, lacks(listed)) ||
			asked.Count != container.AllGPUs && slices.ContainsFunc(used, lacks(asked.uuids))
	} else if n := max(asked.Count, len(asked.Devices)); n > 0 { // a count may be one of GPUs or of their instances
		wrong = len(used) != n && len(seen) != n
	}
	if !wrong {
		return nil
	}
	return &pipeline.Fault{
		Kind: pipeline.Environment, Tail: lastOf(said, tailLines),
		Err:  fmt.Errorf("the container does not see the GPUs that were asked for: %s, and it sees %s", request, strings.Join(used, ", ")),
		Hint: otherGPUsHint,
	}
}

// nonBlank are the lines of text that are not, without space around them.
func nonBlank(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}
