// Package docker implements [container.Runtime] on the Docker Engine API, whose version it negotiates. Podman has the
// same API.
//
// It is the only package that imports Docker's modules, so that replacing the frozen github.com/docker/docker changes
// this package alone. It reads no environment variable itself. Docker's libraries do: DOCKER_API_VERSION,
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
	// localInfo and remoteInfo bound Info. A user should not wait for more than two seconds to read that there is no
	// container engine; over ssh a handshake alone can take that long.
	localInfo  = 2 * time.Second
	remoteInfo = 10 * time.Second
	// podmanInfo bounds it for a Podman that is there: 4.3.1 asks the system's package manager several times for each
	// answer, which took 0.4 to 2 s on two busy cores.
	podmanInfo = 10 * time.Second
	// cleanup bounds the removal of a container whose Run failed: CI runners kill a cancelled job after 10 s.
	cleanup = 10 * time.Second
	// answer bounds a request that an engine answers from memory. A busy disk makes it slow.
	answer = 30 * time.Second
)

// Transfer says how inputs and outputs come into a container and out of it.
type Transfer string

const (
	// TransferAuto mounts this process's folders, and copies them if the engine does not see them.
	TransferAuto Transfer = ""
	// TransferCopy copies folders into volumes and out of them.
	TransferCopy Transfer = "copy"
)

// Options are the settings of a Runtime.
type Options struct {
	// Host is the engine's endpoint, such as unix:///run/docker.sock. Empty is the endpoint of Docker's own CLI:
	// DOCKER_HOST, DOCKER_CONTEXT, the current context of its configuration, or its default socket.
	Host string
	// Env looks up DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG, DOCKER_CERT_PATH, DOCKER_TLS, DOCKER_TLS_VERIFY and
	// DOCKER_API_VERSION. If it is nil, none of them is set.
	Env func(name string) string
	// Home is the user's home folder. Docker's configuration is in its folder .docker, unless DOCKER_CONFIG names
	// another.
	Home string
	// Labels are set on every container. LabelRun is also a part of the containers' names.
	Labels container.Labels
	// UID and GID are the caller's: containers run as this user.
	UID, GID int
	// Transfer says how inputs and outputs come into a container and out of it.
	Transfer Transfer
	// AnswerWithin bounds each request that an engine answers from memory; 0 is 30 s.
	AnswerWithin time.Duration
	// Notice is called at most once, with a text for the user: that folders are copied. It may be nil.
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
	ways      []*way     // for Dial
	ssh       *sshDialer // nil for an engine that is not behind ssh
	noticed   sync.Once

	mu        sync.Mutex
	lastFacts *facts // of the last successful Info
	folders   folders
}

// New reads Docker's configuration and prepares a client. It does not contact the engine.
func New(options Options) (*Runtime, error) {
	if options.AnswerWithin == 0 {
		options.AnswerWithin = answer
	}
	if options.Env == nil {
		options.Env = func(string) string { return "" }
	}
	r, err := newRuntime(options)
	if err != nil {
		return nil, &runtimeError{
			kind: container.ErrSettings, cause: err, text: err.Error(),
			advice: "correct " + variables(options.Env) + ", or choose another one with `docker context use`",
		}
	}
	return r, nil
}

func newRuntime(options Options) (*Runtime, error) {
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
	if !cfg.ContainsAuth() { // as Docker's CLI does
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
	dialer, err := newSSHDialer(endpoint.Host)
	if err != nil {
		return nil, fmt.Errorf("container engine at %s: %w", endpoint.Host, err)
	}
	clientOptions = append(clientOptions, dialer.options()...)
	clientOptions = append(clientOptions, client.WithVersion(options.Env(client.EnvOverrideAPIVersion)),
		client.WithUserAgent("dalirun"), client.WithHTTPHeaders(cfg.HTTPHeaders))
	api, err := client.NewClientWithOpts(clientOptions...)
	if err != nil {
		return nil, fmt.Errorf("container engine at %s: %w", endpoint.Host, err)
	}
	r := &Runtime{
		api: api, config: cfg, options: options,
		endpoint: endpoint.Host, namedBy: namedBy, remote: isRemote(endpoint.Host), infoLimit: localInfo,
		ways: ways(), ssh: dialer, folders: folders{},
	}
	if r.remote {
		r.infoLimit = remoteInfo
	}
	return r, nil
}

// Remote reports whether the container engine is on another host. It sends no request.
func (r *Runtime) Remote() bool { return r.remote }

// Close closes idle connections, and all that go through ssh, whose programs have ended then.
func (r *Runtime) Close() error {
	err := r.api.Close()
	r.ssh.close()
	return err
}
