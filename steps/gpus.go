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

// proveWithin bounds nvidia-smi. It takes a fraction of a second, with persistence mode off two; on a hung driver it
// never ends.
const proveWithin = 10 * time.Second

// otherGPUsHint says what to do about a container that has other GPUs than the requested ones.
const otherGPUsHint = "name them by UUID, as in --gpus device=UUID (`nvidia-smi -L` lists them); if the container " +
	"still sees others, look for NVIDIA_VISIBLE_DEVICES in the image, and for default-runtime in the container " +
	"engine's configuration"

// proveGPUs runs nvidia-smi in the server's container and compares the GPUs that it lists with the requested ones.
//
// NVIDIA's images do not hold nvidia-smi: whatever gives a container its GPUs (the NVIDIA Container Toolkit's hook or a
// CDI device) puts it there. So a container without nvidia-smi has no GPU; some container engines start it without any
// error.
func (p *process) proveGPUs(ctx context.Context, w *pipeline.Work, request gpuRequest, image string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, proveWithin, pipeline.Faultf(pipeline.Environment,
		remedy.DriverHangs,
		"nvidia-smi in the server's container did not end within %s", proveWithin))
	defer cancel()
	var stdout, stderr bytes.Buffer
	code, err := p.container.Exec(ctx, []string{"nvidia-smi", "-L"},
		container.Streams{Stdout: &stdout, Stderr: &stderr})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && p.hasExited(ctx):
		return p.exitError()
	case err != nil:
		return fmt.Errorf("list the GPUs of the server's container: %w", err)
	}
	listing := nonBlank(stdout.String())
	if visible := host.ParseList(stdout.String()); code == 0 && len(visible) > 0 {
		for _, gpu := range listing {
			w.Emit(pipeline.Line{Text: "the container sees " + gpu})
		}
		w.Emit(result.GPUs.New(listing))
		return checkGPUs(request, visible, listing)
	}
	listing = append(listing, nonBlank(stderr.String())...)
	if container.MissingCommand(code) {
		listing = append(listing, "nvidia-smi is not in the container")
	}
	list := container.Spec{
		Image: image, Command: []string{"nvidia-smi", "-L"}, Network: container.NetworkNone, GPUs: request.GPUs,
	}
	fault := &pipeline.Fault{
		Kind: pipeline.Environment, Err: errors.New("the container does not see the GPU that was asked for"),
		Tail: lastOf(listing, tailLines),
		Hint: remedy.InstallToolkit + "; or " + remedy.RenewCDI +
			"; then try `" + p.containers.runner.Repeat(list) + "`",
	}
	if r, line, ok := remedy.Find(strings.Join(listing, "\n")); ok {
		addRemedy(fault, r, line)
	}
	return fault
}

// checkGPUs refuses a container that sees other GPUs than the requested ones, fewer or more: an engine is for one model
// of GPU, and GPUs that the user left out may be someone else's. listing is the output of nvidia-smi -L by lines.
func checkGPUs(request gpuRequest, visible []host.GPU, listing []string) error {
	// listed are all UUIDs, of GPUs and MIG instances. used are those that a program can use: of a GPU with instances,
	// either its own UUID, if that was requested, or those of the instances.
	var listed, used []string
	for _, gpu := range visible {
		var parts []string
		for _, instance := range gpu.Instances {
			parts = append(parts, instance.UUID)
		}
		listed = append(append(listed, gpu.UUID), parts...)
		if len(parts) == 0 || slices.Contains(request.uuids, gpu.UUID) {
			used = append(used, gpu.UUID)
		} else {
			used = append(used, parts...)
		}
	}
	missingFrom := func(all []string) func(string) bool {
		return func(uuid string) bool { return !slices.Contains(all, uuid) }
	}
	flag := fmt.Sprintf("--gpus %q", request.GPUs)
	var wrong bool
	if request.uuids != nil {
		flag += " is " + strings.Join(request.uuids, ", ")
		wrong = slices.ContainsFunc(request.uuids, missingFrom(listed)) ||
			request.Count != container.AllGPUs && slices.ContainsFunc(used, missingFrom(request.uuids))
	} else if n := max(request.Count, len(request.Devices)); n > 0 { // a count may be one of GPUs or of their instances
		wrong = len(used) != n && len(visible) != n
	}
	if !wrong {
		return nil
	}
	return &pipeline.Fault{
		Kind: pipeline.Environment, Tail: lastOf(listing, tailLines),
		Err: fmt.Errorf("the container does not see the GPUs that were asked for: %s, and it sees %s", flag,
			strings.Join(used, ", ")),
		Hint: otherGPUsHint,
	}
}

// nonBlank returns the lines of text that are not blank, without space around them.
func nonBlank(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}
