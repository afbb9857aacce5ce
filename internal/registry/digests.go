package registry

import (
	"context"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Pinned is what a reference stood for when its registry was asked.
type Pinned struct {
	// Digest is that of the index, or of the manifest where there is no index: sha256:…
	Digest string
	// Manifests are the digests of the manifests for Linux by architecture, of those that dalirun runs on.
	Manifests map[string]string
}

// pinnedArchs are the architectures whose manifests are of interest, by Go's names.
func pinnedArchs() []string { return []string{"amd64", "arm64"} }

// Pin reads what ref stands for now. Its errors are those of [Client.Lookup].
func (c *Client) Pin(ctx context.Context, ref string) (Pinned, error) {
	var pinned Pinned
	err := c.ask(ctx, ref, "", func(q *query, options ...remote.Option) error {
		manifest, err := remote.Get(q.parsed, options...)
		if err != nil {
			return err
		}
		pinned = Pinned{Digest: manifest.Digest.String(), Manifests: map[string]string{}}
		if !manifest.MediaType.IsIndex() {
			image, err := manifest.Image()
			if err != nil {
				return err
			}
			config, err := image.ConfigFile()
			if err != nil {
				return err
			}
			pinned.add(config.Architecture, pinned.Digest)
			return nil
		}
		list, err := indexed(manifest)
		if err != nil {
			return err
		}
		for _, m := range list {
			pinned.add(m.Platform.Architecture, m.Digest.String())
		}
		return nil
	})
	if err != nil {
		return Pinned{}, err
	}
	return pinned, nil
}

// add notes the first manifest of an architecture: of several an engine takes the first too.
func (p Pinned) add(arch, digest string) {
	if _, twice := p.Manifests[arch]; !twice && slices.Contains(pinnedArchs(), arch) {
		p.Manifests[arch] = digest
	}
}

// Gone returns the digests of what a pull of ref for an architecture needs and its registry has not: of a manifest, of
// the configuration, or of layers. It asks once for each, and is for a pull that failed. Its errors are those of
// [Client.Lookup].
func (c *Client) Gone(ctx context.Context, ref, arch string) ([]string, error) {
	var gone []string
	err := c.ask(ctx, ref, arch, func(q *query, options ...remote.Option) (err error) {
		gone, err = q.gone(options...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

func (q *query) gone(options ...remote.Option) ([]string, error) {
	orMissing := func(err error) ([]string, error) {
		if answer, ok := errors.AsType[*transport.Error](err); ok && missing(answer) != "" {
			return []string{missing(answer)}, nil
		}
		return nil, err
	}
	manifest, err := remote.Get(q.parsed, options...)
	if err != nil {
		return orMissing(err)
	}
	image, err := q.choose(manifest)
	if err != nil {
		return orMissing(err)
	}
	parts, err := image.Manifest()
	if err != nil {
		return orMissing(err)
	}
	blobs := []v1.Hash{parts.Config.Digest}
	for _, layer := range parts.Layers {
		if !slices.Contains(blobs, layer.Digest) {
			blobs = append(blobs, layer.Digest)
		}
	}
	var gone []string
	for _, blob := range blobs {
		there, err := q.has(blob, options...)
		if err != nil {
			return nil, err
		}
		if !there {
			gone = append(gone, blob.String())
		}
	}
	return gone, nil
}

// has asks whether the registry has a blob, which is not sent.
func (q *query) has(blob v1.Hash, options ...remote.Option) (bool, error) {
	layer, err := remote.Layer(q.parsed.Context().Digest(blob.String()), options...)
	if err != nil {
		return false, err
	}
	asked, ok := layer.(interface{ Exists() (bool, error) })
	if !ok {
		return false, errors.ErrUnsupported
	}
	return asked.Exists()
}

// indexed are the images for Linux of an index.
func indexed(manifest *remote.Descriptor) ([]v1.Descriptor, error) {
	index, err := manifest.ImageIndex()
	if err != nil {
		return nil, err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(list.Manifests), func(m v1.Descriptor) bool {
		return m.Platform == nil || m.Platform.OS != "linux" || !m.MediaType.IsImage() // attestations say "unknown"
	}), nil
}
