// Package dockertest is a Docker Engine for tests: that part of its HTTP API which dalirun uses, on a unix socket, with
// a [containertest.Fake] behind it. The real adapter talks to it as to any engine, so that the whole program runs where
// there is none.
package dockertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
)

// APIVersion is what the engine speaks: that of Debian 12's Docker Engine 20.10.
const APIVersion = "1.41"

// minAPIVersion is the oldest that it takes.
const minAPIVersion = "1.12"

// Engine is a Docker Engine that ends with its test.
type Engine struct {
	fake   *containertest.Fake
	socket string
	life   context.Context //nolint:containedctx // containers outlive the request that starts them
	server *http.Server

	mu         sync.Mutex
	seq        int
	requests   []string
	containers map[string]*entry // by ID
}

// New starts an engine on the fake, whose fields are set before. Images, pulls and builds are the fake's; what a
// container runs is the Main of its image.
func New(tb testing.TB, fake *containertest.Fake) *Engine {
	tb.Helper()
	// The folder that TempDir gives is named after the test, and a socket's path has 108 bytes.
	dir, err := os.MkdirTemp("", "dockertest") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	e := &Engine{
		fake: fake, socket: filepath.Join(dir, "engine.sock"), life: tb.Context(), containers: map[string]*entry{},
	}
	var config net.ListenConfig
	listener, err := config.Listen(tb.Context(), "unix", e.socket)
	if err != nil {
		tb.Fatal(err)
	}
	const headers = 10 * time.Second
	e.server = &http.Server{Handler: e.handler(), ReadHeaderTimeout: headers}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(listener) }()
	tb.Cleanup(func() {
		e.removeAll()
		err := errors.Join(e.server.Close(), os.RemoveAll(dir))
		if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		if err != nil {
			tb.Errorf("end the container engine: %v", err)
		}
	})
	return e
}

// Host returns the engine's address as DOCKER_HOST has it.
func (e *Engine) Host() string { return "unix://" + e.socket }

// Die ends the engine as a restart does: its connections break, and nobody listens any more.
func (e *Engine) Die() { _ = e.server.Close() } // it is closed once more when the test ends

// HideLogs makes unreadable what the containers wrote that are there, as that of a log driver for syslog is.
func (e *Engine) HideLogs() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.containers {
		x.hidden = true
	}
}

// Requests returns what the engine was asked so far, in order, without the API's version:
// "POST /images/create?fromImage=…".
func (e *Engine) Requests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.requests)
}

// Leave adds a container as somebody else left it. It runs nothing, and ends when it is told to. The ID may be empty;
// it is returned.
func (e *Engine) Leave(c container.Summary) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seq++
	if c.ID == "" {
		c.ID = fmt.Sprintf("%064x", e.seq)
	}
	x := newEntry(c)
	if !c.Running {
		x.ended(container.Exit{At: time.Now()})
	}
	e.containers[c.ID] = x
	return c.ID
}

// Containers returns those that are there, the oldest first.
func (e *Engine) Containers() []container.Summary {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []container.Summary
	for _, x := range e.inOrder() {
		all = append(all, x.summary(e.life))
	}
	return all
}

// Images returns those that are there, by their names.
func (e *Engine) Images() []container.Image {
	all, err := e.fake.ListImages(context.WithoutCancel(e.life))
	if err != nil {
		panic(err) // impossible: a fake fails only with its context
	}
	return all
}

func (e *Engine) inOrder() []*entry {
	all := slices.Collect(maps.Values(e.containers))
	slices.SortFunc(all, func(a, b *entry) int { return a.about.Created.Compare(b.about.Created) })
	return all
}

func (e *Engine) removeAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.containers {
		_ = x.stop(context.WithoutCancel(e.life), 0) // a fake's kill does not fail
	}
}

// find returns a container by ID or name, or nil.
func (e *Engine) find(id string) *entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.containers {
		if x.about.ID == id || x.about.Name == id {
			return x
		}
	}
	return nil
}

// note writes a request down. The version in front of the path is the client's choice and of no interest.
func (e *Engine) note(r *http.Request) {
	text := r.Method + " " + versionPrefix().ReplaceAllString(r.URL.Path, "/")
	if r.URL.RawQuery != "" {
		query, err := url.QueryUnescape(r.URL.RawQuery)
		if err != nil {
			query = r.URL.RawQuery
		}
		text += "?" + query
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = append(e.requests, text)
}

func versionPrefix() *regexp.Regexp { return regexp.MustCompile(`^/v(\d+\.\d+)/`) }

// entry is a container of the engine.
type entry struct {
	about  container.Summary
	spec   container.Spec
	out    *frames
	hidden bool // its log cannot be read; under the engine's mu

	mu     sync.Mutex
	handle container.Container // nil before its start, and in one that was left
	exit   container.Exit
	done   chan struct{} // closed once exit is known
}

func newEntry(about container.Summary) *entry {
	if about.Created.IsZero() {
		about.Created = time.Now()
	}
	return &entry{about: about, out: newFrames(), done: make(chan struct{})}
}

// run starts the container's program and keeps its output.
func (x *entry) run(ctx context.Context, fake *containertest.Fake) error {
	c, err := fake.Run(ctx, x.spec, container.Streams{Stdout: x.out.stream(1), Stderr: x.out.stream(2)})
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.handle = c
	x.about.Running = true
	x.mu.Unlock()
	go func() {
		exit, err := c.Wait(context.WithoutCancel(ctx))
		if err != nil { // no context ends it, and a fake has no other reason
			exit.Code = -1
		}
		x.ended(exit)
	}()
	return nil
}

func (x *entry) ended(exit container.Exit) {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case <-x.done:
		return
	default:
	}
	x.about.Running, x.exit = false, exit
	x.out.end()
	close(x.done)
}

// stop ends the container; grace is zero for a kill.
func (x *entry) stop(ctx context.Context, grace time.Duration) error {
	x.mu.Lock()
	handle := x.handle
	x.mu.Unlock()
	if handle == nil {
		x.ended(container.Exit{At: time.Now()})
		return nil
	}
	if err := handle.Stop(ctx, grace); err != nil {
		return err
	}
	<-x.done
	return nil
}

// logs hands on what the container wrote; one that was left writes nothing.
func (x *entry) logs(ctx context.Context, o container.LogOptions, each func(container.LogLine) error) error {
	x.mu.Lock()
	handle := x.handle
	x.mu.Unlock()
	if handle != nil {
		return handle.Logs(ctx, o, each)
	}
	if o.Follow {
		select {
		case <-x.done:
		case <-ctx.Done():
		}
	}
	return nil
}

// summary is how the container is now.
func (x *entry) summary(ctx context.Context) container.Summary {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.about
	if !s.Running {
		s.Ports = nil
		return s
	}
	for _, p := range x.spec.Publish {
		addr, err := x.handle.Addr(context.WithoutCancel(ctx), p.Container)
		if err != nil {
			continue // it ended in this moment, and an ended container publishes nothing
		}
		if s.Ports == nil {
			s.Ports = map[uint16]netip.AddrPort{}
		}
		s.Ports[p.Container] = netip.AddrPortFrom(p.HostAddress(), addr.Port())
	}
	return s
}

// matches says whether the container has the labels of a filter: "name" or "name=value".
func (x *entry) matches(labels []string) bool {
	for _, want := range labels {
		name, value, exact := strings.Cut(want, "=")
		got, ok := x.about.Labels[name]
		if !ok || exact && got != value {
			return false
		}
	}
	return true
}
