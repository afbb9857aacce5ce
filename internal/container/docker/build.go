package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline/lines"
)

// tailLines is how many last lines of a failed build's output an error has.
const tailLines = 40

// Build makes an image by the engine's classic builder, which every engine has and which needs neither session nor
// plugin. The end of ctx stops the build.
func (r *Runtime) Build(
	ctx context.Context, spec container.BuildSpec, onProgress func(container.Progress),
) (container.Image, error) {
	what := "build " + spec.Tag
	files, err := buildContext(spec.Dockerfile, spec.Files)
	if err != nil {
		return container.Image{}, fmt.Errorf("%s: %w", what, err)
	}
	response, err := r.api.ImageBuild(ctx, files, r.buildOptions(spec))
	if err != nil {
		return container.Image{}, r.buildError(ctx, spec, err, nil)
	}
	output := newBuildOutput(onProgress)
	err = messages(response.Body, output.read)
	output.stream.Flush()
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return container.Image{}, r.buildError(ctx, spec, err, output.tail)
	}
	if output.id == "" {
		return container.Image{}, r.buildError(ctx, spec, errors.New("the container engine named no image"),
			output.tail)
	}
	return r.Resolve(ctx, spec.Tag)
}

func (r *Runtime) buildOptions(spec container.BuildSpec) build.ImageBuildOptions {
	args := map[string]*string{}
	for name, value := range spec.Args {
		args[name] = &value
	}
	logins := map[string]registry.AuthConfig{}
	// If a credential helper fails, the build has no credentials, as with Docker's CLI. A public base image needs none.
	if all, err := r.config.GetAllCredentials(); err == nil {
		for domain, auth := range all {
			logins[domain] = registry.AuthConfig(auth)
		}
	}
	return build.ImageBuildOptions{
		Version: build.BuilderV1, Tags: []string{spec.Tag}, Dockerfile: dockerfileName, NetworkMode: spec.Network,
		BuildArgs: r.config.ParseProxyConfig(r.endpoint, args), Labels: spec.Labels, AuthConfigs: logins,
		Remove: true, ForceRemove: true, // remove the containers of its steps, also of a failed one
	}
}

// buildError returns a *BuildError, with the sentinel of its reason if there is one.
func (r *Runtime) buildError(ctx context.Context, spec container.BuildSpec, err error, tail []string) error {
	kind := kindOf(err)
	if ctx.Err() != nil || errors.Is(kind, container.ErrUnreachable) || errors.Is(kind, container.ErrPermission) {
		return r.explain(ctx, "build "+spec.Tag, err)
	}
	failed := &container.BuildError{Tag: spec.Tag, Reason: message(err), Tail: tail}
	if _, ran := errors.AsType[*jsonmessage.JSONError](err); ran &&
		!strings.Contains(failed.Reason, "returned a non-zero code") {
		kind = kindOfRegistry(failed.Reason) // the base image could not be pulled
	}
	if kind == nil {
		return failed
	}
	return &runtimeError{kind: kind, text: failed.Error(), cause: failed}
}

// buildOutput reports the lines of a build's output, and keeps the last ones.
type buildOutput struct {
	onProgress func(container.Progress)
	stream     *lines.Writer
	tail       []string
	id         string
}

func newBuildOutput(onProgress func(container.Progress)) *buildOutput {
	o := &buildOutput{onProgress: onProgress}
	o.stream = lines.NewWriter(o.line)
	return o
}

// read reads a message of the builder.
func (o *buildOutput) read(m jsonmessage.JSONMessage) {
	var result build.Result
	if m.Aux != nil && json.Unmarshal(*m.Aux, &result) == nil && result.ID != "" {
		o.id = result.ID
	}
	if m.Stream == "" {
		o.pulling(m)
		return
	}
	_, _ = io.WriteString(o.stream, m.Stream) // never fails
}

// pulling reports the progress of the base image that the builder fetches.
func (o *buildOutput) pulling(m jsonmessage.JSONMessage) {
	if m.Status == "" || o.onProgress == nil {
		return
	}
	p := container.Progress{Text: strings.TrimSpace(m.ID + " " + m.Status)}
	if m.Progress != nil {
		p.Current, p.Total = m.Progress.Current, m.Progress.Total
	}
	o.onProgress(p)
}

// line reports a finished line, without the parts that a carriage return overwrites, as progress bars do.
func (o *buildOutput) line(line string) {
	line = strings.TrimRight(line, "\r ")
	line = line[strings.LastIndexByte(line, '\r')+1:]
	if line == "" {
		return
	}
	o.tail = append(o.tail, line)
	o.tail = o.tail[max(0, len(o.tail)-tailLines):]
	if o.onProgress != nil {
		o.onProgress(progressOf(line))
	}
}

// progressOf reads a line of the classic builder, which begins an instruction as in "Step 2/7 : RUN make".
func progressOf(line string) container.Progress {
	p := container.Progress{Text: line}
	if _, err := fmt.Sscanf(line, "Step %d/%d : %s", &p.Current, &p.Total, &p.Instruction); err != nil {
		return container.Progress{Text: line} // one of a program
	}
	return p
}
