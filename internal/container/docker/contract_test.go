//go:build integration

package docker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	dimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/container/docker"
	"github.com/dalirun/dalirun/internal/needtest"
)

// otherUser is nobody in particular: where the tests run as root, "not root-owned" proves nothing about the adapter
// unless the caller is somebody else.
const otherUser = 12345

func TestContract(t *testing.T) {
	t.Parallel()
	testContract(t, newEngine(t))
}

// TestContractOnPodman is TestContract on a Podman that scripts/podman.sh has started.
func TestContractOnPodman(t *testing.T) {
	t.Parallel()
	testContract(t, newPodman(t))
}

func testContract(t *testing.T, e engine) {
	t.Helper()
	caller := docker.Options{UID: os.Getuid(), GID: os.Getgid()}
	other := caller
	if caller.UID == 0 {
		other = docker.Options{UID: otherUser, GID: otherUser}
	}
	// An engine on another host is played by this one. What comes back is written by this process, so the caller is its user.
	caller.Transfer = docker.TransferCopy
	all := map[string]docker.Options{"bind": other, "copy": caller}
	if !e.podman { // which is what it plays
		noAttach := other
		noAttach.Host = refuseAttach(t, e)
		all["no attach"] = noAttach
	}
	for name, o := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newEnv := func(t *testing.T) containertest.Env {
				t.Helper()
				return e.env(t, o)
			}
			containertest.TestRunner(t, newEnv)
			containertest.TestImages(t, newEnv)
			containertest.TestBuilder(t, newEnv)
		})
	}
}

// TestContractDial runs the contract of Dial by each way alone. This process is played to be a container in the engine's
// default network, whose addresses answer on the engine's own host.
func TestContractDial(t *testing.T) {
	t.Parallel()
	testContractDial(t, newEngine(t))
}

// TestContractDialOnPodman is TestContractDial on a Podman that scripts/podman.sh has started.
func TestContractDialOnPodman(t *testing.T) {
	t.Parallel()
	testContractDial(t, newPodman(t))
}

func testContractDial(t *testing.T, e engine) {
	t.Helper()
	for _, name := range docker.Ways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			containertest.TestDial(t, func(t *testing.T) containertest.Env {
				t.Helper()
				o := docker.Options{Host: e.host, UID: os.Getuid(), GID: os.Getgid(), Labels: container.Labels{container.LabelRun: rand.Text()}}
				r := newRuntime(t, o)
				r.DialOnly(t.Context(), t, name)
				return containertest.Env{Runner: r, Image: e.image, Labels: o.Labels, UID: o.UID, GID: o.GID}
			})
		})
	}
}

// refuseAttach returns an endpoint that passes everything on to the engine and refuses attaching, as Podman 4.3 does.
func refuseAttach(t *testing.T, e engine) string {
	t.Helper()
	network, address, _ := strings.Cut(newRuntime(t, docker.Options{Host: e.host}).Endpoint(), "://")
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}},
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // of requests that tests cancel
	}
	socket := filepath.Join(t.TempDir(), "engine.sock")
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/attach") {
			http.Error(w, "can only attach to created or running containers", http.StatusConflict)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "unix://" + socket
}

// engine is a container engine of this machine with the images of the suite.
type engine struct {
	host          string // as in DOCKER_HOST; empty is what Docker's client would take
	podman        bool
	image, broken string
	noMemoryLimit string
}

func options(o docker.Options) docker.Options {
	o.Env = os.Getenv
	o.Home, _ = os.UserHomeDir() // only Docker's configuration is there
	return o
}

func newRuntime(t *testing.T, o docker.Options) *docker.Runtime {
	t.Helper()
	r, err := docker.New(options(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// podmanVariable names the address of the Podman that scripts/podman.sh has started.
const podmanVariable = "DALIRUN_PODMAN_HOST"

func newPodman(t *testing.T) engine {
	t.Helper()
	host := os.Getenv(podmanVariable)
	if host == "" {
		needtest.Missing(t, "%s names no Podman; scripts/podman.sh starts one", podmanVariable)
	}
	e := newEngineAt(t, host)
	if !e.podman {
		t.Fatalf("%s=%s is no Podman", podmanVariable, host)
	}
	return e
}

func newEngine(t *testing.T) engine {
	t.Helper()
	return newEngineAt(t, "")
}

func newEngineAt(t *testing.T, host string) engine {
	t.Helper()
	r := newRuntime(t, docker.Options{Host: host})
	about, err := r.Info(t.Context())
	if err != nil {
		needtest.Missing(t, "no container engine to test against: %v", err)
	}
	name := "dalirun.test/contract:" + rand.Text()
	e := engine{host: host, podman: about.Podman(), image: name, broken: name + "-missing-command"}
	t.Cleanup(func() { e.removeImages(t, "contract="+name) })
	probe := buildProbe(t)
	for tag, dockerfile := range map[string]string{
		// The label keeps these layers apart from another run's, whose end would take them away.
		e.image: "FROM scratch\nLABEL contract=" + name + "\nENV PROBE=image\nCOPY probe /probe\nCOPY probe /usr/bin/python3\n" +
			"RUN [\"/probe\", \"open\", \"/open\"]\nENTRYPOINT [\"/probe\"]\n",
		e.broken: "FROM scratch\nLABEL contract=" + name + "\nCOPY probe /probe\nENTRYPOINT [\"/no/such/command\"]\n",
	} {
		_, err := r.Build(t.Context(), container.BuildSpec{
			Tag: tag, Dockerfile: []byte(dockerfile), Files: map[string][]byte{"probe": probe},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	info, err := e.sdk(t).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !info.MemoryLimit {
		e.noMemoryLimit = "the engine's cgroups have no memory controller"
	}
	return e
}

func (e engine) env(t *testing.T, o docker.Options) containertest.Env {
	t.Helper()
	o.Labels = container.Labels{container.LabelRun: rand.Text()}
	if o.Host == "" {
		o.Host = e.host
	}
	r := newRuntime(t, o)
	env := containertest.Env{
		Runner: r, Images: r, Builder: r, Image: e.image, Broken: e.broken, Labels: o.Labels,
		UID: o.UID, GID: o.GID, Pause: e.sdk(t).ContainerPause, NoMemoryLimit: e.noMemoryLimit,
	}
	if e.podman {
		// As 4.3.1 of Debian does; its init is catatonit.
		env.NoOOM = "conmon notes it in the folder where the service was started, and Podman looks in the container's"
		env.InitNotFound = 1
		env.CutsLine = true // it reads its log to the end while conmon writes it; seen once in 13 runs on two busy cores
		env.Times = containertest.Times{Files: time.Microsecond, Lines: time.Second}
	}
	return env
}

// buildProbe compiles the probe without cgo, so that it runs in an image FROM scratch.
func buildProbe(t *testing.T) []byte {
	t.Helper()
	probe, err := builtProbe()
	if err != nil {
		t.Fatal(err)
	}
	return probe
}

var builtProbe = sync.OnceValues(func() (probe []byte, err error) {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	path := filepath.Join(dir, "probe")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path,
		"github.com/dalirun/dalirun/internal/container/containertest/cmd/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(err, errors.New(string(out)))
	}
	return os.ReadFile(path)
})

// sdk is a client for what the tests ask beside the contract.
func (e engine) sdk(t *testing.T) *client.Client {
	t.Helper()
	host := newRuntime(t, docker.Options{Host: e.host}).Endpoint()
	c, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// removeImages removes the images that carry a label, tagged or not: a failed build leaves those of its first steps.
func (e engine) removeImages(t *testing.T, label string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	c := e.sdk(t)
	const generations = 10 // an image is refused while another is made of it
	for range generations {
		found, err := c.ImageList(ctx, dimage.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
		if err != nil {
			t.Error(err)
		}
		if len(found) == 0 {
			return
		}
		for _, image := range found {
			_, err := c.ImageRemove(ctx, image.ID, dimage.RemoveOptions{Force: true})
			if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
				t.Errorf("remove %s: %v", image.ID, err)
			}
		}
	}
	t.Errorf("there are still images with label %s", label)
}
