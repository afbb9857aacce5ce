package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli/config/configfile"
	dcontext "github.com/docker/cli/cli/context"
	ddocker "github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/docker/cli/opts"
)

// defaultContext is the name of the context that is not stored, and that the environment defines.
const defaultContext = "default"

// resolve finds the endpoint as Docker's CLI does (resolveContextName in its cli/command/cli.go). It does not import
// that package, which reads the environment itself and imports 200 others. namedBy is the variable or the context that
// names the endpoint, if one does.
func resolve(
	o Options, cfg *configfile.ConfigFile, configDir string,
) (endpoint ddocker.Endpoint, namedBy string, err error) {
	name := defaultContext
	switch {
	case o.Host != "":
	case o.Env("DOCKER_HOST") != "":
		namedBy = "DOCKER_HOST"
	case o.Env("DOCKER_CONTEXT") != "":
		name, namedBy = o.Env("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
	case cfg.CurrentContext != "":
		name, namedBy = cfg.CurrentContext, fmt.Sprintf("the current docker context %q", cfg.CurrentContext)
	}
	if name == defaultContext {
		if namedBy != "DOCKER_HOST" {
			namedBy = ""
		}
		endpoint, err = fromEnvironment(o, configDir)
	} else {
		endpoint, err = fromContext(name, configDir)
	}
	if err != nil && namedBy != "" {
		err = fmt.Errorf("%s: %w", namedBy, err)
	}
	return endpoint, namedBy, err
}

func fromContext(name, configDir string) (ddocker.Endpoint, error) {
	contexts := store.New(filepath.Join(configDir, "contexts"), store.NewConfig(
		func() any { return &map[string]any{} },
		store.EndpointTypeGetter(ddocker.DockerEndpoint, func() any { return &ddocker.EndpointMeta{} }),
	))
	meta, err := contexts.GetMetadata(name)
	if err != nil {
		return ddocker.Endpoint{}, fmt.Errorf("docker context %q (see docker context ls): %w", name, err)
	}
	endpoint, err := ddocker.EndpointFromContext(meta)
	if err != nil {
		return ddocker.Endpoint{}, fmt.Errorf("docker context %q: %w", name, err)
	}
	return ddocker.WithTLSData(contexts, name, endpoint)
}

func fromEnvironment(o Options, configDir string) (ddocker.Endpoint, error) {
	host := o.Host
	if host == "" {
		host = o.Env("DOCKER_HOST")
	}
	verify := o.Env("DOCKER_TLS_VERIFY") != ""
	tls := verify || o.Env("DOCKER_TLS") != ""
	host, err := opts.ParseHost(tls, host)
	if err != nil {
		return ddocker.Endpoint{}, err
	}
	endpoint := ddocker.Endpoint{EndpointMeta: ddocker.EndpointMeta{Host: host}}
	if !tls {
		return endpoint, nil
	}
	dir := o.Env("DOCKER_CERT_PATH")
	if dir == "" {
		dir = configDir
	} else if about, err := os.Stat(dir); err != nil || !about.IsDir() { // else the client would have no certificate
		return ddocker.Endpoint{}, fmt.Errorf("DOCKER_CERT_PATH: %s is no folder", dir)
	}
	ca := existing(filepath.Join(dir, "ca.pem"))
	if verify && ca == "" { // without this, Docker's client library would not encrypt at all
		return ddocker.Endpoint{},
			fmt.Errorf("DOCKER_TLS_VERIFY: there is no ca.pem in %s; DOCKER_CERT_PATH names another folder", dir)
	}
	endpoint.SkipTLSVerify = !verify
	endpoint.TLSData, err = dcontext.TLSDataFromFiles(
		ca, existing(filepath.Join(dir, "cert.pem")), existing(filepath.Join(dir, "key.pem")),
	)
	return endpoint, err
}

// existing returns path, or "" if there is no such file: client certificates are optional.
func existing(path string) string {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}

// isRemote reports whether an endpoint is on another host. A forwarded port of this host looks local; compare finds out
// that the engine behind it has other folders.
func isRemote(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "ssh":
		return !isLoopback(u.Hostname())
	case "tcp", "http", "https":
		return !isLoopback(u.Hostname())
	default:
		return false
	}
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil && addr.IsLoopback()
}
