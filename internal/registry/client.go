package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// configLimit bounds an image's configuration, in bytes. NVIDIA's have some ten thousand.
const configLimit = 4 << 20

// Client asks registries over HTTP. It tries nothing twice: what does not answer in time is told of, and a pull will see.
type Client struct {
	keychain  authn.Keychain
	transport http.RoundTripper
	within    time.Duration
}

// New returns a client with the credentials of docker's configuration and its credential helpers, an anonymous token where there
// are none, and the proxy that the environment names. One look-up takes no longer than within.
func New(within time.Duration) *Client {
	return NewWith(authn.DefaultKeychain, http.DefaultTransport, within)
}

// NewWith returns a client with other credentials and another way to a registry.
func NewWith(keychain authn.Keychain, transport http.RoundTripper, within time.Duration) *Client {
	return &Client{keychain, transport, within}
}

// Lookup reads the manifest and the configuration of ref for an architecture: some kilobytes. It is a [Lookup]; what it could not
// find out is an [*Error]. If ctx is cancelled, its cause is returned.
func (c *Client) Lookup(ctx context.Context, ref, arch string) (Image, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return Image{}, fmt.Errorf("image reference %q: %w", ref, err)
	}
	limited, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	q := query{ref: ref, parsed: parsed, arch: arch}
	found, err := q.ask(limited, c)
	switch {
	case err == nil:
		return found, nil
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return Image{}, context.Cause(ctx)
	case limited.Err() != nil:
		return Image{}, q.fault(NoAnswer, fmt.Errorf("nothing came within %s", c.within))
	default:
		return Image{}, q.explain(err)
	}
}

// query is one look-up.
type query struct {
	ref      string
	parsed   name.Reference
	arch     string
	loggedIn bool // there were credentials
}

func (q *query) ask(ctx context.Context, c *Client) (Image, error) {
	auth, err := q.credentials(ctx, c.keychain)
	if err != nil {
		return Image{}, err
	}
	q.loggedIn = auth != authn.Anonymous
	repository := q.parsed.Context()
	// Signed in by hand: remote.Get would wrap any other transport in one that tries again after 1 s and 3 s.
	signedIn, err := transport.NewWithContext(ctx, repository.Registry, auth, transport.NewUserAgent(c.transport, "dalirun"),
		[]string{repository.Scope(transport.PullScope)})
	if err != nil {
		return Image{}, err
	}
	manifest, err := remote.Get(q.parsed, remote.WithContext(ctx), remote.WithTransport(signedIn))
	if err != nil {
		return Image{}, err
	}
	image, err := q.choose(manifest)
	if err != nil {
		return Image{}, err
	}
	return q.describe(image)
}

// credentials are those of the registry. A credential helper is a program, and may hang.
func (q *query) credentials(ctx context.Context, keychain authn.Keychain) (authn.Authenticator, error) {
	type answer struct {
		auth authn.Authenticator
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		auth, err := authn.Resolve(ctx, keychain, q.parsed.Context())
		answers <- answer{auth, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return nil, q.fault(BadCredentials, a.err)
		}
		return a.auth, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// choose takes the image for the architecture, of an index or by itself.
func (q *query) choose(manifest *remote.Descriptor) (v1.Image, error) {
	if !manifest.MediaType.IsIndex() {
		return manifest.Image()
	}
	index, err := manifest.ImageIndex()
	if err != nil {
		return nil, err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var archs []string
	for _, m := range list.Manifests {
		if m.Platform == nil || m.Platform.OS != "linux" || !m.MediaType.IsImage() {
			continue // attestations say "unknown"
		}
		if m.Platform.Architecture == q.arch {
			return index.Image(m.Digest)
		}
		archs = append(archs, m.Platform.Architecture)
	}
	return nil, q.otherArch(archs)
}

func (q *query) describe(image v1.Image) (Image, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return Image{}, err
	}
	if size := manifest.Config.Size; size > configLimit {
		return Image{}, fmt.Errorf("its configuration has %d bytes, and %d are taken", size, configLimit)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return Image{}, err
	}
	digest, err := image.Digest()
	if err != nil {
		return Image{}, err
	}
	if config.Architecture != q.arch {
		return Image{}, q.otherArch([]string{config.Architecture})
	}
	found := Image{Ref: q.ref, Digest: digest.String(), Arch: config.Architecture, Env: map[string]string{}}
	for _, pair := range config.Config.Env {
		name, value, _ := strings.Cut(pair, "=")
		found.Env[name] = value
	}
	for _, l := range manifest.Layers {
		if l.Size < 0 {
			return Image{}, fmt.Errorf("layer %s has %d bytes", l.Digest, l.Size)
		}
		found.Layers = append(found.Layers, Layer{Digest: l.Digest.String(), Size: l.Size})
	}
	return found, nil
}

func (q *query) otherArch(archs []string) *Error {
	slices.Sort(archs)
	archs = slices.DeleteFunc(slices.Compact(archs), func(a string) bool { return a == "" })
	there := "none"
	if len(archs) > 0 {
		there = strings.Join(archs, ", ")
	}
	return q.fault(OtherArch, fmt.Errorf("there is %s", there))
}
