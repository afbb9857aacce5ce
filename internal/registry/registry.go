// Package registry asks a container registry what an image holds, by the kilobytes of its manifest and configuration,
// before anybody pulls its gigabytes.
package registry

import "context"

// Image is what a registry tells of an image without sending it.
type Image struct {
	Ref    string
	Digest string            // of the manifest for Arch: sha256:…
	Arch   string            // Go's name: amd64, arm64
	Env    map[string]string // the configuration's
	Layers []Layer
}

// Layer is one layer as it is stored in the registry.
type Layer struct {
	Digest   string
	Unpacked string // digest once it is unpacked; empty if the image does not say
	Size     int64  // bytes, compressed
}

// Compressed is the sum of the layers, in bytes.
func (i Image) Compressed() int64 {
	var sum int64
	for _, l := range i.Layers {
		sum += l.Size
	}
	return sum
}

// Lookup finds an image by reference, for an architecture.
type Lookup func(ctx context.Context, ref, arch string) (Image, error)
