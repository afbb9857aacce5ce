package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/types"
	dimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/dalirun/dalirun/internal/container"
)

// Resolve describes a local image.
func (r *Runtime) Resolve(ctx context.Context, ref string) (container.Image, error) {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	found, err := r.api.ImageInspect(ctx, ref)
	if err != nil {
		return container.Image{}, r.explain(ctx, "image "+ref, err)
	}
	return describe(ref, found), nil
}

func describe(ref string, found dimage.InspectResponse) container.Image {
	img := container.Image{
		ID: found.ID, Digest: digestOf(ref, found.RepoDigests), Tags: found.RepoTags, Arch: found.Architecture,
		Size: found.Size, Layers: found.RootFS.Layers, Env: map[string]string{},
	}
	img.Created, _ = time.Parse(time.RFC3339Nano, found.Created) // zero if the image has no time
	if found.Config != nil {
		img.Labels = found.Config.Labels
		for _, e := range found.Config.Env {
			name, value, _ := strings.Cut(e, "=")
			img.Env[name] = value
		}
	}
	return img
}

// digestOf returns the registry digest of an image: the one that ref names, that of ref's own repository, or any if ref
// is an ID. An image that was pulled under two digests has both.
func digestOf(ref string, repoDigests []string) string {
	var fallback string
	named, err := reference.ParseNormalizedNamed(ref)
	if digested, ok := named.(reference.Digested); ok && err == nil {
		return digested.Digest().String() // else the engine would not have found it
	}
	for _, candidate := range repoDigests {
		parsed, parseErr := reference.ParseNormalizedNamed(candidate)
		digested, ok := parsed.(reference.Digested)
		if parseErr != nil || !ok {
			continue
		}
		if err == nil && named.Name() == parsed.Name() {
			return digested.Digest().String()
		}
		if fallback == "" {
			fallback = digested.Digest().String()
		}
	}
	return fallback
}

// Ensure fetches ref from its registry, with the credentials that docker login stored. If the registry refuses them, as
// stale ones, it tries once more without, which suffices for a public image.
func (r *Runtime) Ensure(
	ctx context.Context, ref string, onProgress func(container.Progress),
) (container.Image, error) {
	what := "pull " + ref
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return container.Image{}, fmt.Errorf("%s: %w", what, err)
	}
	named = reference.TagNameOnly(named)
	login, loginErr := r.login(ctx, reference.Domain(named))
	err = r.pull(ctx, what, named, login, onProgress)
	if errors.Is(err, container.ErrDenied) && login != "" {
		if r.pull(ctx, what, named, "", onProgress) == nil {
			err = nil
		}
	}
	if errors.Is(err, container.ErrDenied) {
		err = errors.Join(fmt.Errorf("%w (docker login %s)", err, reference.Domain(named)), loginErr)
	}
	if err != nil {
		return container.Image{}, err
	}
	return r.Resolve(ctx, ref)
}

// Login returns the credentials that docker login stored for a registry.
func (r *Runtime) Login(ctx context.Context, domain string) (container.Login, error) {
	type answer struct {
		auth types.AuthConfig
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // a credential helper is a program, which may hang
		auth, err := r.config.GetAuthConfig(loginKey(domain))
		answers <- answer{auth, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return container.Login{}, a.err
		}
		return container.Login{
			Username: a.auth.Username, Password: a.auth.Password, IdentityToken: a.auth.IdentityToken,
			RegistryToken: a.auth.RegistryToken,
		}, nil
	case <-ctx.Done():
		return container.Login{}, context.Cause(ctx)
	}
}

// login returns the credentials of a registry as the engine's API encodes them, or "".
func (r *Runtime) login(ctx context.Context, domain string) (string, error) {
	l, err := r.Login(ctx, domain)
	if err != nil {
		return "", fmt.Errorf("credentials of %s: %w", domain, err)
	}
	if l == (container.Login{}) {
		return "", nil
	}
	return registry.EncodeAuthConfig(registry.AuthConfig{
		Username: l.Username, Password: l.Password, IdentityToken: l.IdentityToken, RegistryToken: l.RegistryToken,
		ServerAddress: loginKey(domain),
	})
}

// loginKey returns the key under which docker login stores the credentials of a registry.
func loginKey(domain string) string {
	if domain == "docker.io" || domain == "index.docker.io" {
		return "https://index.docker.io/v1/" // Docker Hub
	}
	return domain
}

func (r *Runtime) pull(
	ctx context.Context, what string, named reference.Named, login string, onProgress func(container.Progress),
) (err error) {
	stream, err := r.api.ImagePull(ctx, named.String(), dimage.PullOptions{RegistryAuth: login})
	if err != nil {
		return r.explainRegistry(ctx, what, err)
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	layers := newLayers()
	return r.explainRegistry(ctx, what, messages(stream, func(m jsonmessage.JSONMessage) {
		if layers.read(m) && onProgress != nil {
			onProgress(layers.progress())
		}
	}))
}

// messages calls f for each message of an engine's stream, and returns the error that the stream carries.
func messages(stream io.Reader, f func(jsonmessage.JSONMessage)) error {
	decoder := json.NewDecoder(stream)
	for {
		var m jsonmessage.JSONMessage
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the container engine's answer broke off: %w", err)
		}
		if m.Error != nil {
			return m.Error
		}
		f(m)
	}
}
