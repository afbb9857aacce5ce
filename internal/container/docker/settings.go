package docker

import (
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/shell"
)

// OtherEngine says how another container engine is chosen.
const OtherEngine = "choose another one with `docker context use`"

// Settings are the variables that say how the container engine is talked to, and those that were decisive.
func (r *Runtime) Settings() container.Settings {
	s := container.Settings{Variables: Variables(r.options.Env), NamedBy: r.namedBy}
	if r.options.Env(client.EnvOverrideAPIVersion) != "" {
		s.Version = client.EnvOverrideAPIVersion
	}
	return s
}

// Variables names the variables that say how the container engine is talked to: those that are set, else those that can
// be. They are known where New fails, too.
func Variables(env func(name string) string) string {
	names := set(env)
	if len(names) == 0 {
		names = []string{client.EnvOverrideHost, envContext}
	}
	return strings.Join(names, " or ")
}

// Assignments are the variables that say how the container engine is talked to as a shell sets them for a command, so
// that it finds the same one. They are empty where none is set: Docker's default and its current context are found by
// every shell.
func Assignments(env func(name string) string) string {
	names := set(env)
	for i, name := range names {
		names[i] = name + "=" + shell.Quote(env(name))
	}
	return strings.Join(names, " ")
}

// The variables that have no name in Docker's client library.
const (
	envContext = "DOCKER_CONTEXT"
	envTLS     = "DOCKER_TLS"
)

// set are the variables that are set of those that say how the container engine is talked to.
func set(env func(name string) string) []string {
	return slices.DeleteFunc([]string{
		client.EnvOverrideHost, envContext, config.EnvOverrideConfigDir, client.EnvTLSVerify, envTLS,
		client.EnvOverrideCertPath, client.EnvOverrideAPIVersion,
	}, func(name string) bool { return env(name) == "" })
}
