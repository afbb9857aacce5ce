package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/registry"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
)

const (
	server2503 = "nvidia/tritonserver:25.03-py3"
	within     = 3 * time.Second
)

func anonymous() *registry.Client { return registry.New(registry.Options{Within: within}) }

// as returns a client with stored credentials.
func as(user string) *registry.Client {
	return registry.New(registry.Options{Within: within, Login: func(context.Context, string) (container.Login, error) {
		return container.Login{Username: user, Password: "nvapi"}, nil
	}})
}

// Both ways to store an image are read, and nothing but kilobytes.
func TestLookup(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.PushNGC(t)
	alone := s.Push(t, "team/odd_name:v1", registrytest.Image{Arch: "arm64", Env: []string{"A=b=c", "EMPTY="}, Layers: []int64{7, 1 << 40}})

	found, err := anonymous().Lookup(t.Context(), s.Host()+"/"+server2503, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"TRT_VERSION": "10.9.0.34", "CUDA_VERSION": "12.8.1.012", "CUDA_DRIVER_VERSION": "570.124.06", "DALI_VERSION": "1.44.0",
		"NVIDIA_TRITON_SERVER_VERSION": "25.03", "TRITON_SERVER_VERSION": "2.56.0", "NVIDIA_REQUIRE_CUDA": "cuda>=9.0",
	}
	for name, value := range want {
		if got := found.Env[name]; got != value {
			t.Errorf("%s=%q, want %q", name, got, value)
		}
	}
	if l := found.Layers[0]; l.Unpacked != l.Digest { // of the test's registry, whose layers are not compressed
		t.Errorf("layer %+v", l)
	}
	if found.Arch != "arm64" || len(found.Layers) != 20 || found.Compressed() != 9_193_997_050 || !strings.HasPrefix(found.Digest, "sha256:") {
		t.Errorf("found %s with %d layers, %d bytes, %s", found.Arch, len(found.Layers), found.Compressed(), found.Digest)
	}
	for _, r := range s.Requests() {
		if !strings.HasPrefix(r, "GET ") {
			t.Errorf("it asked for more than it reads: %s", r)
		}
	}
	if n := len(s.Requests()); n > 5 {
		t.Errorf("it took %d requests: %q", n, s.Requests())
	}

	found, err = anonymous().Lookup(t.Context(), alone, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"A": "b=c", "EMPTY": ""}, found.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if found.Compressed() != 7+1<<40 {
		t.Errorf("%d bytes", found.Compressed())
	}
	again, err := anonymous().Lookup(t.Context(), s.Host()+"/team/odd_name@"+found.Digest, "arm64")
	if err != nil || again.Digest != found.Digest {
		t.Errorf("by its digest: %+v, %v", again, err)
	}
}

// An anonymous token opens what is public; credentials of docker's configuration open the rest.
func TestLookupWithToken(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.PushNGC(t)
	s.Token("")
	ref := s.Host() + "/" + server2503
	if _, err := anonymous().Lookup(t.Context(), ref, "amd64"); err != nil {
		t.Errorf("anonymous: %v", err)
	}
	if requests := s.Requests(); !slices.Contains(requests, "GET /proxy_auth") {
		t.Errorf("no token was asked for: %q", requests)
	}
	s.Token("$oauthtoken")
	if _, err := anonymous().Lookup(t.Context(), ref, "amd64"); kind(err) != registry.Unauthorized {
		t.Errorf("a private image, anonymous: %v", err)
	}
	if _, err := as("$oauthtoken").Lookup(t.Context(), ref, "amd64"); err != nil {
		t.Errorf("with credentials: %v", err)
	}
	_, err := as("stale").Lookup(t.Context(), ref, "amd64")
	if kind(err) != registry.Unauthorized || !strings.Contains(err.Error(), "does not take the credentials that are stored") {
		t.Errorf("with stale credentials: %v", err)
	}
}

// Credentials that are refused do not hide what everybody may read: a pull asks without them as well.
func TestLookupWithStaleLogin(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		s := registrytest.New(t)
		s.PushNGC(t)
		s.Answer(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v2/" && r.Header.Get("Authorization") == "":
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			case r.Header.Get("Authorization") != "":
				http.Error(w, `{"errors":[{"code":"DENIED","message":"expired"}]}`, code)
			default:
				s.Registry(w, r)
			}
		})
		if _, err := as("stale").Lookup(t.Context(), s.Host()+"/"+server2503, "amd64"); err != nil {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// A pull falls back as well: what the registry would have said without credentials is not known, so nothing is final.
func TestLookupWithStaleLoginAndSlowAnswer(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.Answer(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/" && r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Authorization") != "":
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"expired"}]}`, http.StatusUnauthorized)
		default:
			<-r.Context().Done()
		}
	})
	options := registry.Options{Within: 500 * time.Millisecond, Login: func(context.Context, string) (container.Login, error) {
		return container.Login{Username: "maria", Password: "stale"}, nil
	}}
	_, err := registry.New(options).Lookup(t.Context(), s.Host()+"/"+server2503, "amd64")
	if fault, ok := errors.AsType[*registry.Error](err); !ok || fault.Final() || fault.Kind != registry.NoAnswer {
		t.Errorf("got %v", err)
	}
}

// An engine with credentials and a network of its own may get what is refused here.
func TestLookupElsewhere(t *testing.T) {
	t.Parallel()
	for code, final := range map[int]bool{401: false, 403: false, 404: true} {
		s := registrytest.New(t)
		s.Status(code)
		_, err := registry.New(registry.Options{Within: within, Elsewhere: true}).Lookup(t.Context(), s.Host()+"/a/b:c", "amd64")
		fault, ok := errors.AsType[*registry.Error](err)
		if !ok || fault.Final() != final {
			t.Errorf("%d: %v", code, err)
		}
	}
}

func kind(err error) registry.Kind {
	if e, ok := errors.AsType[*registry.Error](err); ok {
		return e.Kind
	}
	return ""
}

// Each way to fail has a sentence and a hint of its own, and is told at once.
func TestLookupFails(t *testing.T) {
	t.Parallel()
	status := func(code int) func(*registrytest.Server) { return func(s *registrytest.Server) { s.Status(code) } }
	body := func(code int, mediaType, text string) func(*registrytest.Server) {
		return func(s *registrytest.Server) {
			s.Answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", mediaType)
				w.WriteHeader(code)
				fmt.Fprint(w, text)
			})
		}
	}
	const oci = "application/vnd.oci.image.manifest.v1+json"
	tests := []struct {
		name  string
		set   func(*registrytest.Server)
		arch  string
		kind  registry.Kind
		final bool
		says  string
		hint  string
	}{
		{"401", status(401), "amd64", registry.Unauthorized, true, "HOST wants credentials: 401 Unauthorized, words of the registry", "`docker login HOST`"},
		{"403", status(403), "amd64", registry.Forbidden, true, "a firewall or the registry HOST forbids reading it: 403 Forbidden, words", "as somebody who may read it"},
		{"404", status(404), "amd64", registry.NotFound, true, "HOST has no such image or tag: 404 Not Found, words", "check the name and the tag"},
		{"429", status(429), "amd64", registry.RateLimited, false, "HOST was asked too often from here: 429 Too Many Requests", "wait some minutes"},
		{"500", status(500), "amd64", registry.Failing, false, "HOST has an error of its own: 500 Internal Server Error", "try again later"},
		{"503", body(503, "text/html", "<h1>Sorry</h1>"), "amd64", registry.Failing, false, "HOST has an error of its own: 503 Service Unavailable", "try again later"},
		{"no registry", body(404, "text/html", "<h1>Not here</h1>"), "amd64", registry.Unreadable, false, "what HOST answers is no image: 404 Not Found", "container registry"},
		{"a page", body(200, "text/html", "<h1>Please accept our terms</h1>"), "amd64", registry.Unreadable, false, "what HOST answers is no image", "portal"},
		{"half a manifest", body(200, oci, `{"schemaVersion":2,"config":`), "amd64", registry.Unreadable, false, "no image: unexpected EOF", "container registry"},
		{
			"an endless configuration", body(200, oci, `{"schemaVersion":2,"config":{"size":99999999999,"digest":"sha256:`+strings.Repeat("a", 64)+`"},"layers":[]}`),
			"amd64", registry.Unreadable, false, "its configuration has 99999999999 bytes", "container registry",
		},
		{"another architecture", func(*registrytest.Server) {}, "riscv64", registry.OtherArch, true, "HOST does not have it for riscv64: there is amd64, arm64", "built for this machine"},
		{"a token that is none", func(s *registrytest.Server) {
			s.Answer(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/token" {
					w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token"`, s.Host()))
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				fmt.Fprint(w, "welcome")
			})
		}, "amd64", registry.Unreadable, false, "what HOST answers is no image: invalid character", "container registry"},
	}
	kinds := map[string]string{}
	for _, tt := range tests {
		s := registrytest.New(t)
		s.PushNGC(t)
		tt.set(s)
		began := time.Now()
		_, err := anonymous().Lookup(t.Context(), s.Host()+"/"+server2503, tt.arch)
		fault, ok := errors.AsType[*registry.Error](err)
		if !ok {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if took := time.Since(began); took > within/2 {
			t.Errorf("%s: it took %s, as if it had tried again", tt.name, took)
		}
		text, hint := strings.ReplaceAll(err.Error(), s.Host(), "HOST"), strings.ReplaceAll(fault.Hint(), s.Host(), "HOST")
		if fault.Kind != tt.kind || fault.Final() != tt.final || !strings.Contains(text, tt.says) || !strings.Contains(hint, tt.hint) {
			t.Errorf("%s: %s, final %v: %s\nhint: %s", tt.name, fault.Kind, fault.Final(), text, hint)
		}
		if !strings.HasPrefix(text, "look up HOST/"+server2503+": ") {
			t.Errorf("%s does not name the image: %s", tt.name, text)
		}
		if other := kinds[hint]; other != "" && other != string(fault.Kind) {
			t.Errorf("%s and %s have one hint: %s", other, fault.Kind, hint)
		}
		kinds[hint] = string(fault.Kind)
	}
}

func TestLookupOfNobody(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // of the handshake that is refused
	secure.StartTLS()
	t.Cleanup(secure.Close)
	// A name that is no address of this host is asked over TLS alone.
	plain := registrytest.New(t)
	c := registry.New(registry.Options{Within: within, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "mirror.test:5000" {
				addr = plain.Host()
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}})
	for name, tt := range map[string]struct {
		ref  string
		kind registry.Kind
		says string
	}{
		"refused":      {gone + "/a/b:c", registry.NoAnswer, gone + " does not answer: dial tcp " + gone + ": connect: connection refused"},
		"no such host": {"registry.invalid/a/b:c", registry.NoAnswer, "registry.invalid does not answer: dial tcp: lookup registry.invalid"},
		"no TLS":       {"mirror.test:5000/a/b:c", registry.Insecure, "mirror.test:5000 speaks HTTP without TLS: http: server gave HTTP response"},
		"not trusted":  {strings.TrimPrefix(secure.URL, "https://") + "/a/b:c", registry.Untrusted, "is not trusted: tls: failed to verify certificate: x509"},
	} {
		_, err := c.Lookup(t.Context(), tt.ref, "amd64")
		if kind(err) != tt.kind || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %s, %v", name, kind(err), err)
		}
	}
	if _, err := c.Lookup(t.Context(), "UPPER case", "amd64"); err == nil || kind(err) != "" || !strings.Contains(err.Error(), `"UPPER case"`) {
		t.Errorf("a malformed reference: %v", err)
	}
}

// Who never answers is waited for as long as was said, and not longer; who is told to stop stops.
func TestLookupEndsInTime(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.Hang()
	began := time.Now()
	_, err := registry.New(registry.Options{Within: 100 * time.Millisecond}).Lookup(t.Context(), s.Host()+"/a/b:c", "amd64")
	if kind(err) != registry.NoAnswer || !strings.Contains(err.Error(), "nothing came within 100ms") || time.Since(began) > 2*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	reason := errors.New("somebody pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if _, err := anonymous().Lookup(ctx, s.Host()+"/a/b:c", "amd64"); !errors.Is(err, reason) {
		t.Errorf("cancelled: %v", err)
	}
}

// All look-ups of a client have one time together.
func TestLookupsEndTogether(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.Hang()
	c := registry.New(registry.Options{Within: 300 * time.Millisecond})
	began := time.Now()
	for range 4 {
		if _, err := c.Lookup(t.Context(), s.Host()+"/a/b:c", "amd64"); kind(err) != registry.NoAnswer {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("four look-ups one after the other took %s", took)
	}
}

// What helps is said of the credentials, not of the registry; and what everybody may read needs none.
func TestCredentialHelpers(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.PushNGC(t)
	broken := registry.Options{Within: within, Login: func(context.Context, string) (container.Login, error) {
		return container.Login{}, errors.New(`exec: "docker-credential-osxkeychain": executable file not found in $PATH`)
	}}
	if _, err := registry.New(broken).Lookup(t.Context(), s.Host()+"/"+server2503, "amd64"); err != nil {
		t.Errorf("broken, a public image: %v", err)
	}
	s.Status(http.StatusUnauthorized)
	_, err := registry.New(broken).Lookup(t.Context(), s.Host()+"/a/b:c", "amd64")
	if kind(err) != registry.BadCredentials || !strings.Contains(err.Error(), "docker-credential-osxkeychain") {
		t.Errorf("broken: %v", err)
	}
	s.Status(http.StatusNotFound)
	if _, err := registry.New(broken).Lookup(t.Context(), s.Host()+"/a/b:c", "amd64"); kind(err) != registry.NotFound {
		t.Errorf("broken, no such image: %v", err)
	}

	var requests atomic.Int32
	stuck := registry.New(registry.Options{Within: 300 * time.Millisecond, Login: func(ctx context.Context, _ string) (container.Login, error) {
		requests.Add(1)
		<-ctx.Done()
		return container.Login{}, ctx.Err()
	}})
	began := time.Now()
	var both sync.WaitGroup
	for _, name := range []string{"/a/b:c", "/d/e:f"} {
		both.Go(func() {
			_, err := stuck.Lookup(t.Context(), s.Host()+name, "amd64")
			if kind(err) != registry.BadCredentials || !strings.Contains(err.Error(), "the credential helper gave no answer within 200ms") {
				t.Errorf("stuck: %v", err)
			}
		})
	}
	both.Wait()
	if took := time.Since(began); requests.Load() != 1 || took > time.Second {
		t.Errorf("stuck: asked %d times in %s", requests.Load(), took)
	}
}
