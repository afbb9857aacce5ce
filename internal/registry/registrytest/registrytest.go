// Package registrytest is a container registry for tests: on 127.0.0.1, with images that are manifests and
// configurations alone, so that they can claim any size, and with whole ones, which a container engine pulls.
package registrytest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Media types of the OCI image specification.
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Image is an image of which manifest and configuration exist. Layers are the compressed sizes in bytes of layers that
// do not; those of one size are one layer, also across images.
type Image struct {
	Arch       string
	Env        []string // NAME=value
	Entrypoint []string
	Layers     []int64
	// Whole are layers that exist, as tar archives. Without any of Layers, a container engine can pull the image.
	Whole [][]byte
}

// Server is a registry that ends with its test.
type Server struct {
	host     string
	registry http.Handler

	mu       sync.Mutex
	instead  http.HandlerFunc
	requests []string
}

// New starts a registry without images.
func New(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{registry: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0)))}
	server := httptest.NewServer(s)
	tb.Cleanup(func() {
		server.CloseClientConnections() // one that never answers has clients still
		server.Close()
	})
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

// Host is HOST:PORT.
func (s *Server) Host() string { return s.host }

// Answer lets h answer everything from now on; nil is the registry again.
func (s *Server) Answer(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = h
}

// Requests returns what was asked so far, in order: "GET /v2/".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP answers as the registry does, or as was set.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.instead
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if h == nil {
		h = s.registry.ServeHTTP
	}
	h(w, r)
}

// Registry answers a request as the registry does, for a handler that goes on to it.
func (s *Server) Registry(w http.ResponseWriter, r *http.Request) { s.registry.ServeHTTP(w, r) }

// Push adds images under NAME:TAG, and returns the whole reference. One is a manifest by itself, several are an index
// with one for each architecture.
func (s *Server) Push(tb testing.TB, name string, images ...Image) string {
	tb.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	var list []descriptor
	for _, image := range images {
		unpacked := digests(image.Layers)
		layers := []descriptor{}
		for i, d := range unpacked {
			layers = append(layers, descriptor{MediaType: typeLayer, Digest: d, Size: image.Layers[i]})
		}
		for _, layer := range image.Whole {
			packed := compress(tb, layer)
			s.upload(tb, repository, packed)
			unpacked = append(unpacked, digest(layer))
			layers = append(layers, descriptor{MediaType: typeLayer, Digest: digest(packed), Size: int64(len(packed))})
		}
		config := marshal(tb, map[string]any{
			"architecture": image.Arch, "os": "linux",
			"config": map[string]any{"Env": image.Env, "Entrypoint": image.Entrypoint},
			"rootfs": map[string]any{"type": "layers", "diff_ids": unpacked},
		})
		s.upload(tb, repository, config)
		manifest := marshal(tb, map[string]any{
			"schemaVersion": 2, "mediaType": typeManifest, "layers": layers,
			"config": descriptor{MediaType: typeConfig, Digest: digest(config), Size: int64(len(config))},
		})
		as := tag
		if len(images) > 1 {
			as = digest(manifest)
		}
		to := fmt.Sprintf("/v2/%s/manifests/%s", repository, as)
		s.do(tb, http.MethodPut, to, typeManifest, manifest, http.StatusCreated)
		list = append(list, descriptor{
			MediaType: typeManifest, Digest: digest(manifest), Size: int64(len(manifest)),
			Platform: &platform{image.Arch, "linux"},
		})
	}
	if len(images) > 1 {
		index := marshal(tb, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": list})
		s.do(tb, http.MethodPut, fmt.Sprintf("/v2/%s/manifests/%s", repository, tag), typeIndex, index, http.StatusCreated)
	}
	return s.host + "/" + name
}

// Digest is what a NAME:TAG stands for now.
func (s *Server) Digest(tb testing.TB, name string) string {
	tb.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	w := s.do(tb, http.MethodHead, fmt.Sprintf("/v2/%s/manifests/%s", repository, tag), "", nil, http.StatusOK)
	return w.Header().Get("Docker-Content-Digest")
}

// Parts are the digests of the manifest for an architecture of the index that a NAME:TAG stands for, and of what it
// names: the configuration first, then the layers.
func (s *Server) Parts(tb testing.TB, name, arch string) (manifest string, blobs []string) {
	tb.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	get := func(what string, into any) {
		w := s.do(tb, http.MethodGet, fmt.Sprintf("/v2/%s/manifests/%s", repository, what), "", nil, http.StatusOK)
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			tb.Fatal(err)
		}
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	get(tag, &index)
	i := slices.IndexFunc(index.Manifests, func(d descriptor) bool { return d.Platform.Architecture == arch })
	if i < 0 {
		tb.Fatalf("%s is no index with an image for %s", name, arch)
	}
	var parts struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	manifest = index.Manifests[i].Digest
	get(manifest, &parts)
	blobs = []string{parts.Config.Digest}
	for _, layer := range parts.Layers {
		blobs = append(blobs, layer.Digest)
	}
	return manifest, blobs
}

// Delete removes a manifest or a blob of a repository, as its owner does who cleans up.
func (s *Server) Delete(tb testing.TB, repository, kind, digest string) {
	tb.Helper()
	s.do(tb, http.MethodDelete, fmt.Sprintf("/v2/%s/%s/%s", repository, kind, digest), "", nil, http.StatusAccepted)
}

type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

func (s *Server) upload(tb testing.TB, repository string, blob []byte) {
	tb.Helper()
	s.do(tb, http.MethodPost, fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", repository, digest(blob)),
		"application/octet-stream", blob, http.StatusCreated)
}

// do asks the registry, whatever it answers to others.
func (s *Server) do(
	tb testing.TB, method, path, mediaType string, body []byte, want int,
) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequestWithContext(context.WithoutCancel(tb.Context()), method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	s.registry.ServeHTTP(w, r)
	if w.Code != want {
		tb.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w
}

func compress(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func digests(sizes []int64) []string {
	all := make([]string, 0, len(sizes))
	for _, size := range sizes {
		all = append(all, digest(fmt.Appendf(nil, "layer of %d bytes", size)))
	}
	return all
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
