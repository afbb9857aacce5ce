package cli

import (
	"os"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/docker"
	"github.com/dalirun/dalirun/internal/shell"
	"github.com/dalirun/dalirun/pipeline"
)

// runtime returns the container runtime that Docker's own CLI would use. Nothing is asked of it yet. What the options
// say of the environment and of the user is filled in.
func (a *App) runtime(options docker.Options) (container.Runtime, error) {
	options.Env, options.Home = a.env, a.env("HOME")
	options.UID, options.GID = os.Getuid(), os.Getgid()
	r, err := docker.New(options)
	if err != nil {
		return nil, pipeline.Faultf(pipeline.Environment,
			"correct "+a.dockerSettings()+", or choose another one with `docker context use`", "%w", err)
	}
	a.engines = append(a.engines, r)
	return r, nil
}

// builder is the part of a runtime that builds images; nil where it has none.
func builder(r container.Runtime) container.Builder {
	b, _ := r.(container.Builder)
	return b
}

// dockerSettings are the variables that say how the container engine is talked to: those that are set, else those that
// can be.
func (a *App) dockerSettings() string {
	set := a.setForDocker()
	if len(set) == 0 {
		return "DOCKER_HOST or DOCKER_CONTEXT"
	}
	return strings.Join(set, " or ")
}

// engineVariables are the settings of [App.dockerSettings] as a shell sets them for a command. They are empty where
// none is set: Docker's default and its current context are found by every shell.
func (a *App) engineVariables() string {
	set := a.setForDocker()
	for i, name := range set {
		set[i] = name + "=" + shell.Quote(a.env(name))
	}
	return strings.Join(set, " ")
}

// setForDocker are the variables that are set of those that say how the container engine is talked to.
func (a *App) setForDocker() []string {
	return slices.DeleteFunc([]string{
		"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH",
		"DOCKER_API_VERSION",
	}, func(name string) bool { return a.env(name) == "" })
}

// caBundle is what an image build needs to trust where a proxy opens TLS. Empty where the host names no bundle.
func (a *App) caBundle() []byte {
	for _, name := range []string{a.env("SSL_CERT_FILE"), a.env("CURL_CA_BUNDLE"), a.env("REQUESTS_CA_BUNDLE")} {
		if name == "" {
			continue
		}
		if data, err := os.ReadFile(name); err == nil {
			return data
		}
	}
	return nil
}

// buildArgs pass the user's package index to image builds.
func (a *App) buildArgs() map[string]string {
	args := map[string]string{}
	if index := a.env("PIP_INDEX_URL"); index != "" {
		args["PIP_INDEX_URL"] = index
	}
	return args
}
