package cli

import (
	"io"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/docker"
)

// runtimeOptions are what a command wants of the container engine, whichever it is. The zero value is for commands that
// only look at containers.
type runtimeOptions struct {
	labels       container.Labels  // of every container that is started; [container.LabelRun] is a part of their names
	notice       func(text string) // called at most once, with a text for the user; may be nil
	answerWithin time.Duration     // bounds each request that is answered from memory; 0 is the adapter's usual bound
}

// runtime returns what runs containers, by an adapter below internal/container. Nothing is asked of it yet. It is the
// one place that chooses an adapter.
func (a *App) runtime(o runtimeOptions) (container.Runtime, error) {
	adapter := a.adapter
	if adapter == nil {
		adapter = a.docker
	}
	r, err := adapter(o)
	if err != nil {
		return nil, err
	}
	if closer, ok := r.(io.Closer); ok {
		a.engines = append(a.engines, closer)
	}
	return r, nil
}

// docker returns the container engine that Docker's own CLI would use.
func (a *App) docker(o runtimeOptions) (container.Runtime, error) {
	return docker.New(docker.Options{
		Env: a.env, Home: a.env("HOME"), UID: os.Getuid(), GID: os.Getgid(),
		Labels: o.labels, Notice: o.notice, AnswerWithin: o.answerWithin,
	})
}

// engineVariables are the settings of the container engine as a shell sets them for a command.
func (a *App) engineVariables() string { return docker.Assignments(a.env) }

// builder is the part of a runtime that builds images; nil where it has none, which its Info says too.
func builder(r container.Runtime) container.Builder {
	b, _ := r.(container.Builder)
	return b
}
