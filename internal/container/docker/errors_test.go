package docker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/dalirun/dalirun/internal/container"
)

// The texts of this table were printed by Docker Engine 20.10 and 29 and by Podman 4.3, or stand in their sources.
func TestKindOf(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	for text, tt := range map[string]struct {
		err  error
		want error
	}{
		"permission": {fmt.Errorf("permission denied while trying to connect to the Docker daemon socket: %w", dial), container.ErrPermission},
		"no image":   {fmt.Errorf("No such image: a:b: %w", cerrdefs.ErrNotFound), container.ErrNotFound},
		"no space":   {errors.New("Error response from daemon: mkdir /var/lib/docker/overlay2/x: no space left on device"), container.ErrNoSpace},
		"no gpu hook": {
			errors.New(`could not select device driver "" with capabilities: [[gpu]]`), container.ErrNoGPU,
		},
		"no cdi device": {
			errors.New("failed to create task for container: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7"), container.ErrNoGPU,
		},
		"podman without cdi": {errors.New("stat nvidia.com/gpu=all: no such file or directory"), container.ErrNoGPU},
		"driver gone": {
			errors.New("OCI runtime create failed: nvidia-container-cli: initialization error: nvml error: driver not loaded"), container.ErrNoGPU,
		},
		"port of a container": {
			errors.New("driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:8000 failed: port is already allocated"), container.ErrPortTaken,
		},
		"port of a process": {
			errors.New("Error starting userland proxy: listen tcp4 127.0.0.1:8000: bind: address already in use"), container.ErrPortTaken,
		},
		"port on desktop": {
			errors.New("Ports are not available: exposing port TCP 127.0.0.1:8000 -> 127.0.0.1:0: listen tcp 127.0.0.1:8000"), container.ErrPortTaken,
		},
		"missing mount": {errors.New(`invalid mount config for type "bind": bind source path does not exist: /x`), nil},
		"nothing":       {nil, nil},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if got := kindOf(tt.err); !errors.Is(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestKindOfRegistry(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"manifest for nvcr.io/nvidia/tritonserver:99.99-py3 not found: manifest unknown: manifest unknown":                                        container.ErrNotFound,
		"no matching manifest for linux/arm64/v8 in the manifest list entries":                                                                    container.ErrNotFound,
		"name unknown: repository name not known to registry":                                                                                     container.ErrNotFound,
		"failed to resolve reference \"a.b/c:d\": a.b/c:d: not found":                                                                             container.ErrNotFound,
		"pull access denied for x/y, repository does not exist or may require 'docker login': denied: requested access to the resource is denied": container.ErrDenied,
		"unauthorized: authentication required":                                                                                                   container.ErrDenied,
		"failed to resolve reference \"a.b/c:d\": unexpected status from HEAD request to https://a.b/v2/c/manifests/d: 403 Forbidden":             container.ErrDenied,
		"error parsing HTTP 403 response body: invalid character '<'":                                                                             container.ErrDenied,
		"error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>\"":                                  container.ErrNotFound,
		"error parsing HTTP 429 response body: invalid character '<' looking for beginning of value: \"<html>\"":                                  container.ErrRegistry,
		"failed to copy: httpReadSeeker: unexpected status code https://a.b/v2/c/blobs/sha256:d: 429 Too Many":                                    container.ErrRegistry,
		"received unexpected HTTP status: 599 Odd":                                                                                                container.ErrRegistry,
		"error parsing HTTP 418 response body: invalid character '<'":                                                                             nil,
		"Get \"https://nvcr.io/v2/\": dial tcp: lookup nvcr.io on 127.0.0.53:53: no such host":                                                    container.ErrRegistry,
		"Get \"https://nvcr.io/v2/\": dial tcp: lookup nvcr.io: Temporary failure in name resolution":                                             container.ErrRegistry,
		"Get \"https://nvcr.io/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)":   container.ErrRegistry,
		"Get \"https://nvcr.io/v2/\": net/http: TLS handshake timeout":                                                                            container.ErrRegistry,
		"Get \"https://nvcr.io/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority":                           container.ErrRegistry,
		"Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused":                                                 container.ErrRegistry,
		"toomanyrequests: You have reached your pull rate limit.":                                                                                 container.ErrRegistry,
		"received unexpected HTTP status: 503 Service Unavailable":                                                                                container.ErrRegistry,
		"write /var/lib/docker/tmp/GetImageBlob1: no space left on device":                                                                        container.ErrNoSpace,
		"something that nobody has seen":                                                                                                          nil,
	} {
		if got := kindOfRegistry(text); !errors.Is(got, want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint16{
		"Bind for 127.0.0.1:8000 failed: port is already allocated":                                                                    8000,
		"Error starting userland proxy: listen tcp4 127.0.0.1:8001: bind: address already in use":                                      8001,
		"failed to bind host port for 127.0.0.1:8002:172.17.0.2:8000/tcp: address already in use":                                      8002,
		"rootlessport listen tcp 127.0.0.1:8003: bind: address already in use":                                                         8003,
		"listen tcp [::1]:8004: bind: address already in use":                                                                          8004,
		"Bind for 10.0.0.5:8005 failed: port is already allocated":                                                                     8005,
		"start a container of 127.0.0.1:5000/nvidia/tritonserver:25.03-py3: Bind for 127.0.0.1:8006 failed: port is already allocated": 8006,
		"start a container of 127.0.0.1:5000/team/image: address already in use":                                                       0,
		"address already in use":                            0,
		"127.0.0.1:99999 failed: port is already allocated": 0,
	} {
		port, ok := takenPort(errors.New(text))
		if ok != (want != 0) || ok && port != want {
			t.Errorf("%s: got %d, %t, want %d", text, port, ok, want)
		}
	}
}

func TestYieldPort(t *testing.T) {
	t.Parallel()
	r := newUnreachable(t)
	about := func(port string) error {
		return &runtimeError{kind: container.ErrPortTaken, text: "Bind for 127.0.0.1:" + port + " failed", cause: errors.New("x")}
	}
	spec := container.Spec{Publish: []container.Port{{Container: 1, Host: 8000}, {Container: 2, Host: 8001, Required: true}, {Container: 3}}}
	if err := r.yieldPort(t.Context(), &spec, about("8000")); err != nil || spec.Publish[0].Host != 0 || spec.Publish[1].Host != 8001 {
		t.Errorf("preferred: %v, %+v", err, spec.Publish)
	}
	if err := r.yieldPort(t.Context(), &spec, about("8001")); !errors.Is(err, container.ErrPortTaken) || !strings.Contains(err.Error(), "8001") {
		t.Errorf("required: %v", err)
	}
	spec.Publish[1].Address = netip.MustParseAddr("10.0.0.5")
	if err := r.yieldPort(t.Context(), &spec, about("8001")); !strings.Contains(err.Error(), "port 8001 of 10.0.0.5: ") {
		t.Errorf("required, on another address: %v", err)
	}
	spec.Publish[0].Host = 8001
	if err := r.yieldPort(t.Context(), &spec, about("8001")); err != nil || spec.Publish[0].Host != 0 || spec.Publish[1].Host != 8001 {
		t.Errorf("preferred before the one that requires it: %v, %+v", err, spec.Publish)
	}
	spec.Publish[2].Host = 8001
	if err := r.yieldPort(t.Context(), &spec, about("8001")); err != nil || spec.Publish[2].Host != 0 || spec.Publish[1].Host != 8001 {
		t.Errorf("preferred after the one that requires it: %v, %+v", err, spec.Publish)
	}
	spec.Publish[0].Host = 8000
	if err := r.yieldPort(t.Context(), &spec, about("?")); err != nil || spec.Publish[0].Host != 0 {
		t.Errorf("unknown port, one to give up: %v, %+v", err, spec.Publish)
	}
	if err := r.yieldPort(t.Context(), &spec, about("?")); !errors.Is(err, container.ErrPortTaken) {
		t.Errorf("unknown port, none to give up: %v", err)
	}
}

func newUnreachable(t *testing.T) *Runtime {
	t.Helper()
	r, err := New(Options{Host: "unix://" + filepath.Join(t.TempDir(), "missing.sock")})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An engine that is there and that the user's settings do not go with is told of by the setting. The servers are real ones of net/http.
func TestSettings(t *testing.T) {
	t.Parallel()
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
	plain := httptest.NewServer(hello)
	t.Cleanup(plain.Close)
	encrypted := httptest.NewUnstartedServer(hello)
	encrypted.Config.ErrorLog = quiet
	encrypted.StartTLS()
	t.Cleanup(encrypted.Close)
	mutualTLS := httptest.NewUnstartedServer(hello)
	mutualTLS.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	mutualTLS.Config.ErrorLog = quiet
	mutualTLS.StartTLS()
	t.Cleanup(mutualTLS.Close)
	tcp := func(s *httptest.Server) string { return "tcp://" + s.Listener.Addr().String() }
	folder := t.TempDir() // with a ca.pem that signed none of these
	write(t, filepath.Join(folder, "ca.pem"), otherCA(t), 0o600)
	for name, c := range map[string]struct {
		env  map[string]string
		says []string
	}{
		"TLS where none is spoken":      {map[string]string{"DOCKER_HOST": tcp(plain), "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": folder}, []string{"speaks no TLS", "unset DOCKER_TLS_VERIFY"}},
		"the same, unverified":          {map[string]string{"DOCKER_HOST": tcp(plain), "DOCKER_TLS": "1"}, []string{"speaks no TLS", "unset DOCKER_TLS,"}},
		"no TLS where it is spoken":     {map[string]string{"DOCKER_HOST": tcp(encrypted)}, []string{"wants TLS", "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH"}},
		"the same, with a folder":       {map[string]string{"DOCKER_HOST": tcp(encrypted), "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": folder}, []string{"not trusted", "that DOCKER_CERT_PATH names"}},
		"without a client certificate":  {map[string]string{"DOCKER_HOST": tcp(mutualTLS), "DOCKER_TLS": "1"}, []string{"wants another client certificate", "cert.pem and key.pem"}},
		"an API version that is no API": {map[string]string{"DOCKER_HOST": tcp(httptestNotFound(t)), "DOCKER_API_VERSION": "x"}, []string{"does not take DOCKER_API_VERSION=x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(Options{Env: func(name string) string { return c.env[name] }, Home: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Info(t.Context())
			if !errors.Is(err, container.ErrSettings) || errors.Is(err, container.ErrUnreachable) {
				t.Errorf("got %v", err)
			}
			for _, part := range append(c.says, r.endpoint) {
				if err != nil && !strings.Contains(said(err), part) {
					t.Errorf("got %q, want %q", said(err), part)
				}
			}
		})
	}
}

// said is an error and the advice of the engine.
func said(err error) string { return err.Error() + "\n" + container.Advice(err) }

// A setting that leads nowhere is named before anything is asked.
func TestNewNamesWhatToCorrect(t *testing.T) {
	t.Parallel()
	for variable, value := range map[string]string{"DOCKER_HOST": "pigeon://home", "DOCKER_CONTEXT": "nowhere"} {
		_, err := New(Options{Env: func(name string) string {
			if name == variable {
				return value
			}
			return ""
		}, Home: t.TempDir()})
		want := "correct " + variable + ", or choose another one with `docker context use`"
		if !errors.Is(err, container.ErrSettings) || container.Advice(err) != want {
			t.Errorf("%s=%s: %v, advice %q", variable, value, err, container.Advice(err))
		}
	}
}

// otherCA is a certificate that nobody uses.
func otherCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func httptestNotFound(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	r := newUnreachable(t)
	_, err := r.Info(t.Context())
	for _, part := range []string{r.endpoint, "no such socket", "DOCKER_HOST"} {
		if !errors.Is(err, container.ErrUnreachable) || !strings.Contains(said(err), part) {
			t.Errorf("got %q, want ErrUnreachable with %q", said(err), part)
		}
	}
	for question, answer := range map[string]http.HandlerFunc{
		"GET /info":    fail(http.StatusInternalServerError, "the store is broken"),
		"GET /version": fail(http.StatusServiceUnavailable, "the store is broken"),
	} {
		failing := (&api{answers: map[string]http.HandlerFunc{question: answer}}).serve(t, Options{})
		_, err := failing.Info(t.Context())
		want := "container engine answers with an error at " + failing.endpoint + ": the store is broken"
		if !errors.Is(err, container.ErrFailing) || errors.Is(err, container.ErrUnreachable) || err.Error() != want ||
			!strings.HasPrefix(container.Advice(err), "look at its log") {
			t.Errorf("%s: got %v", question, err)
		}
	}
	denied := r.unavailable(t.Context(), fmt.Errorf("dial: %w", os.NewSyscallError("connect", syscall.EACCES)))
	if !errors.Is(denied, container.ErrPermission) || !strings.Contains(container.Advice(denied), "docker $USER") {
		t.Errorf("got %v", denied)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupt")
	cancel(cause)
	if _, err := r.Info(ctx); !errors.Is(err, cause) || errors.Is(err, container.ErrUnreachable) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestYieldOwn(t *testing.T) {
	t.Parallel()
	required, preferred := container.Port{Container: 1, Host: 81, Required: true}, container.Port{Container: 2, Host: 81}
	given, elsewhere := preferred, preferred
	given.Host, elsewhere.Address = 0, netip.MustParseAddr("127.0.0.2")
	for name, tt := range map[string]struct{ ports, want []container.Port }{
		"required first":  {[]container.Port{required, preferred}, []container.Port{required, given}},
		"preferred first": {[]container.Port{preferred, required}, []container.Port{given, required}},
		"both required":   {[]container.Port{required, required}, []container.Port{required, required}},
		"elsewhere":       {[]container.Port{required, elsewhere}, []container.Port{required, elsewhere}},
		"one":             {[]container.Port{preferred}, []container.Port{preferred}},
	} {
		before := slices.Clone(tt.ports)
		if got := yieldOwn(tt.ports); !slices.Equal(got, tt.want) || !slices.Equal(tt.ports, before) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}
