// Package registrytest is a container registry for tests: on 127.0.0.1, with images that are manifests and
// configurations alone, so that they can claim any size.
package registrytest

import (
	"bytes"
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

// Image is an image of which only manifest and configuration exist. Layers are compressed sizes in bytes; those of one
// size are one layer, also across images.
type Image struct {
	Arch   string
	Env    []string // NAME=value
	Layers []int64
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
		config := marshal(tb, map[string]any{
			"architecture": image.Arch, "os": "linux", "config": map[string]any{"Env": image.Env},
			"rootfs": map[string]any{"type": "layers", "diff_ids": digests(image.Layers)},
		})
		s.do(tb, http.MethodPost, fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", repository, digest(config)),
			"application/octet-stream", config)
		layers := []descriptor{}
		for i, d := range digests(image.Layers) {
			layers = append(layers, descriptor{MediaType: typeLayer, Digest: d, Size: image.Layers[i]})
		}
		manifest := marshal(tb, map[string]any{
			"schemaVersion": 2, "mediaType": typeManifest, "layers": layers,
			"config": descriptor{MediaType: typeConfig, Digest: digest(config), Size: int64(len(config))},
		})
		as := tag
		if len(images) > 1 {
			as = digest(manifest)
		}
		s.do(tb, http.MethodPut, fmt.Sprintf("/v2/%s/manifests/%s", repository, as), typeManifest, manifest)
		list = append(list, descriptor{
			MediaType: typeManifest, Digest: digest(manifest), Size: int64(len(manifest)),
			Platform: &platform{image.Arch, "linux"},
		})
	}
	if len(images) > 1 {
		index := marshal(tb, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": list})
		s.do(tb, http.MethodPut, fmt.Sprintf("/v2/%s/manifests/%s", repository, tag), typeIndex, index)
	}
	return s.host + "/" + name
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

// do stores something in the registry, whatever it answers to others.
func (s *Server) do(tb testing.TB, method, path, mediaType string, body []byte) {
	tb.Helper()
	r := httptest.NewRequestWithContext(context.WithoutCancel(tb.Context()), method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	s.registry.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		tb.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
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
