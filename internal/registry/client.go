package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/container"
)

// configLimit bounds an image's configuration, in bytes. NVIDIA's have some ten thousand.
const configLimit = 4 << 20

// Options say how registries are asked.
type Options struct {
	// Login finds the credentials of a registry, HOST or HOST:PORT, and ends with its context. It is called once for a
	// registry, and may take two thirds of Within. Nil: there are none.
	Login func(ctx context.Context, registry string) (container.Login, error)
	// Within bounds all look-ups of a client together, from the first one on.
	Within time.Duration
	// Transport is the way to a registry; nil is [http.DefaultTransport], with the proxy that the environment names.
	Transport http.RoundTripper
	// Elsewhere says that the container engine has credentials or a network of its own: what is refused here it may
	// get.
	Elsewhere bool
}

// Client asks registries over HTTP for what one verdict needs. Nothing is tried twice but what was refused with
// credentials, which is asked for without them, as a pull does. What does not answer in time is told of, and a pull
// will see.
type Client struct {
	options Options

	mu     sync.Mutex
	until  time.Time // when all look-ups end; zero before the first
	logins map[string]func() (container.Login, error)
}

// New returns a client.
func New(options Options) *Client {
	if options.Login == nil {
		options.Login = func(context.Context, string) (container.Login, error) { return container.Login{}, nil }
	}
	if options.Transport == nil {
		options.Transport = http.DefaultTransport
	}
	return &Client{options: options, logins: map[string]func() (container.Login, error){}}
}

// CheckReference says what is wrong with the name of an image. Some that a container engine takes are none in a
// registry.
func CheckReference(ref string) error {
	_, err := name.ParseReference(ref)
	return err
}

// Lookup reads the manifest and the configuration of ref for an architecture: some kilobytes. It is a [Lookup]; what it
// could not find out is an [*Error]. If ctx is cancelled, its cause is returned.
func (c *Client) Lookup(ctx context.Context, ref, arch string) (Image, error) {
	var found Image
	err := c.ask(ctx, ref, arch, func(q *query, options ...remote.Option) (err error) {
		found, err = q.read(options...)
		return err
	})
	if err != nil {
		return Image{}, err
	}
	return found, nil
}

// ask has do ask the registry of ref, with credentials and without. Its errors are those of Lookup.
func (c *Client) ask(
	ctx context.Context, ref, arch string, do func(q *query, options ...remote.Option) error,
) error {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return fmt.Errorf("image reference %q: %w", ref, err)
	}
	limited, cancel := context.WithDeadline(ctx, c.deadline())
	defer cancel()
	q := query{ref: ref, parsed: parsed, arch: arch, options: c.options, do: do}
	fault := c.find(limited, &q)
	switch {
	case fault == nil:
		return nil
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return context.Cause(ctx)
	default:
		return fault
	}
}

// deadline is when all look-ups end.
func (c *Client) deadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.IsZero() {
		c.until = time.Now().Add(c.options.Within)
	}
	return c.until
}

// find asks with the credentials that are stored, if there are any, and then without.
func (c *Client) find(ctx context.Context, q *query) *Error {
	login, err := c.login(ctx, q.parsed.Context().RegistryStr())
	var refused *Error
	switch {
	case errors.Is(err, errNoLogin):
		return q.fault(BadCredentials, err) // a pull would wait as well
	case err != nil:
		refused = q.fault(BadCredentials, err)
	case login != (container.Login{}):
		fault := q.send(ctx, login)
		if !fault.denied() {
			return fault
		}
		refused = fault
	}
	fault := q.send(ctx, container.Login{})
	if refused != nil && fault.denied() {
		return refused // what was wrong with the credentials is what a user can mend
	}
	return fault
}

// errNoLogin is a credential helper that gave no answer in time.
var errNoLogin = errors.New("the credential helper gave no answer")

// login returns the credentials of a registry. Who asks while they are being found waits.
func (c *Client) login(ctx context.Context, registry string) (container.Login, error) {
	c.mu.Lock()
	find, ok := c.logins[registry]
	if !ok {
		find = sync.OnceValues(func() (container.Login, error) {
			limit := min(c.options.Within*2/3, time.Until(c.deadline()))
			limited, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			login, err := c.options.Login(limited, registry)
			if limited.Err() != nil {
				return container.Login{}, fmt.Errorf("%w within %s", errNoLogin, limit.Round(time.Millisecond))
			}
			return login, err
		})
		c.logins[registry] = find
	}
	c.mu.Unlock()
	return find()
}

// query is one look-up.
type query struct {
	ref      string
	parsed   name.Reference
	arch     string
	options  Options
	loggedIn bool // it asks with credentials
	do       func(q *query, options ...remote.Option) error
}

func (q *query) send(ctx context.Context, login container.Login) *Error {
	auth := authn.Anonymous
	if q.loggedIn = login != (container.Login{}); q.loggedIn {
		auth = authn.FromConfig(authn.AuthConfig{
			Username: login.Username, Password: login.Password, IdentityToken: login.IdentityToken,
			RegistryToken: login.RegistryToken,
		})
	}
	err := q.signedIn(ctx, auth)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return q.fault(NoAnswer, fmt.Errorf("nothing came within %s", q.options.Within))
	default:
		return q.explain(err)
	}
}

// signedIn asks what is to be asked, once the registry has let it in.
func (q *query) signedIn(ctx context.Context, auth authn.Authenticator) error {
	repository := q.parsed.Context()
	// Signed in by hand: remote.Get would wrap any other transport in one that tries again after 1 s and 3 s.
	signedIn, err := transport.NewWithContext(ctx, repository.Registry, auth,
		transport.NewUserAgent(q.options.Transport, "dalirun"),
		[]string{repository.Scope(transport.PullScope)})
	if err != nil {
		return err
	}
	return q.do(q, remote.WithContext(ctx), remote.WithTransport(signedIn))
}

func (q *query) read(options ...remote.Option) (Image, error) {
	manifest, err := remote.Get(q.parsed, options...)
	if err != nil {
		return Image{}, err
	}
	image, err := q.choose(manifest)
	if err != nil {
		return Image{}, err
	}
	return q.describe(image)
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
	list, err := indexed(manifest)
	if err != nil {
		return nil, err
	}
	var archs []string
	for _, m := range list {
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
		return Image{}, fmt.Errorf("its configuration has %d bytes, and at most %s are taken", size,
			bytesize.Format(configLimit))
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
	for i, l := range manifest.Layers {
		if l.Size < 0 {
			return Image{}, fmt.Errorf("layer %s has %d bytes", l.Digest, l.Size)
		}
		layer := Layer{Digest: l.Digest.String(), Size: l.Size}
		if len(config.RootFS.DiffIDs) == len(manifest.Layers) {
			layer.Unpacked = config.RootFS.DiffIDs[i].String()
		}
		found.Layers = append(found.Layers, layer)
	}
	return found, nil
}

func (q *query) otherArch(archs []string) *Error {
	slices.Sort(archs)
	archs = slices.DeleteFunc(slices.Compact(archs), func(a string) bool { return a == "" })
	available := "none"
	if len(archs) > 0 {
		available = strings.Join(archs, ", ")
	}
	return q.fault(OtherArch, fmt.Errorf("there is %s", available))
}
