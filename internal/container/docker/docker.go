// Package docker runs containers on a Docker Engine: [container.Runtime] on the Engine API, whose version it
// negotiates. Podman answers the same API.
//
// It is the only package that imports Docker's modules, so that leaving the frozen github.com/docker/docker is a change
// of this package. It reads no environment variable itself; Docker's libraries do: DOCKER_API_VERSION,
// DOCKER_AUTH_CONFIG, and what ssh and the credential helpers inherit.
package docker

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/internal/container"
)

const (
	// localInfo and remoteInfo bound Info. Two seconds are what a user waits for "no container engine" without
	// wondering; over ssh a handshake alone can take that long.
	localInfo  = 2 * time.Second
	remoteInfo = 10 * time.Second
	// cleanup bounds the removal of what a failed Run made: CI runners kill a cancelled job after 10 s.
	cleanup = 10 * time.Second
	// answer bounds a request that an engine answers from memory; a busy disk is what makes it slow.
	answer = 30 * time.Second
)

// Transfer says how a container gets its inputs and outputs.
type Transfer string

const (
	// TransferAuto binds this process's folders, and copies where the engine does not see them.
	TransferAuto Transfer = ""
	// TransferCopy copies into and out of volumes, whatever the engine sees.
	TransferCopy Transfer = "copy"
)

// Options say which engine, and for whom.
type Options struct {
	// Host is the engine's endpoint, such as unix:///run/docker.sock. Empty means what Docker's own CLI takes:
	// DOCKER_HOST, DOCKER_CONTEXT, the current context of its configuration, its default socket.
	Host string
	// Env looks up DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG, DOCKER_CERT_PATH, DOCKER_TLS, DOCKER_TLS_VERIFY and DOCKER_API_VERSION.
	// Nil means that none of them is set.
	Env func(name string) string
	// Home is the user's home folder: Docker's configuration is in .docker there unless DOCKER_CONFIG says otherwise.
	Home string
	// Labels are put on every container. LabelRun among them becomes a part of the names.
	Labels container.Labels
	// UID and GID are the caller's, for UserCaller.
	UID, GID int
	// Transfer is how a container gets its inputs and outputs.
	Transfer Transfer
	// Notice is told, by one call at most, what the user is to know of how the engine is used. It may be nil.
	Notice func(text string)
}

// Runtime is a [container.Runtime] on the Docker Engine API.
type Runtime struct {
	api       *client.Client
	config    *configfile.ConfigFile
	options   Options
	endpoint  string
	namedBy   string // the variable or the context that names the endpoint; empty for Docker's default
	remote    bool   // the endpoint is on another host
	infoLimit time.Duration
	ways      []*way // of Dial
	told      sync.Once

	mu      sync.Mutex
	known   *facts // of the last successful Info
	folders folders
}

// New reads Docker's configuration and prepares a client. It does not contact the engine.
func New(options Options) (*Runtime, error) {
	if options.Env == nil {
		options.Env = func(string) string { return "" }
	}
	if t := options.Transfer; t != TransferAuto && t != TransferCopy {
		return nil, fmt.Errorf("container engine: unknown transfer %q", t)
	}
	dir := options.Env(config.EnvOverrideConfigDir)
	if dir == "" {
		dir = filepath.Join(options.Home, ".docker")
	}
	cfg, err := config.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("docker configuration: %w", err)
	}
	if !cfg.ContainsAuth() { // as Docker's CLI
		cfg.CredentialsStore = credentials.DetectDefaultStore(cfg.CredentialsStore)
	}
	endpoint, namedBy, err := resolve(options, cfg, dir)
	if err != nil {
		return nil, fmt.Errorf("container engine: %w", err)
	}
	clientOptions, err := endpoint.ClientOpts()
	if err != nil {
		return nil, fmt.Errorf("container engine at %s: %w", endpoint.Host, err)
	}
	clientOptions = append(clientOptions, client.WithVersion(options.Env(client.EnvOverrideAPIVersion)), client.WithUserAgent("dalirun"), client.WithHTTPHeaders(cfg.HTTPHeaders))
	api, err := client.NewClientWithOpts(clientOptions...)
	if err != nil {
		return nil, fmt.Errorf("container engine at %s: %w", endpoint.Host, err)
	}
	r := &Runtime{
		api: api, config: cfg, options: options,
		endpoint: endpoint.Host, namedBy: namedBy, remote: isRemote(endpoint.Host), infoLimit: localInfo,
		ways: ways(), folders: folders{},
	}
	if r.remote {
		r.infoLimit = remoteInfo
	}
	return r, nil
}

// Remote says whether the container engine is on another host, without asking it.
func (r *Runtime) Remote() bool { return r.remote }

// NamedBy is the variable or the context that names the container engine; empty for Docker's default.
func (r *Runtime) NamedBy() string { return r.namedBy }

// Close closes idle connections.
func (r *Runtime) Close() error { return r.api.Close() }
