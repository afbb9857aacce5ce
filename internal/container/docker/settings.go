package docker

import (
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/internal/shell"
)

// variables names the variables that say how the container engine is talked to: those that are set, else those that can
// be.
func variables(env func(name string) string) string {
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
