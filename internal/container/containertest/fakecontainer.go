package containertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// What a shell and a container runtime report for a process that SIGKILL or SIGTERM ended.
const (
	codeKilled     = 128 + int(syscall.SIGKILL)
	codeTerminated = 128 + int(syscall.SIGTERM)
)

type fakeContainer struct {
	fake    *Fake
	id      string
	image   Image
	spec    container.Spec
	labels  container.Labels
	out     container.Streams
	gate    *gate
	log     *fakeLog
	created time.Time
	done    chan struct{} // closed once exit is final and no byte of output can follow
	stop    context.CancelFunc

	mu         sync.Mutex
	ended      bool
	paused     bool
	exit       container.Exit
	terminated chan struct{} // closed by SIGTERM
	handled    bool          // the program asked for Terminated
	listeners  map[uint16]net.Listener
	listens    map[uint16]bool   // the program asked for the listener
	files      map[string][]byte // what was written outside of mounts
}

func newFakeContainer(f *Fake, id string, img Image, spec container.Spec, out container.Streams) *fakeContainer {
	g, log := &gate{}, newFakeLog()
	return &fakeContainer{
		fake: f, id: id, image: img, spec: spec, gate: g, log: log,
		out: container.Streams{
			Stdout: g.writer(io.MultiWriter(log.stdout, orDiscard(out.Stdout))),
			Stderr: g.writer(io.MultiWriter(log.stderr, orDiscard(out.Stderr))),
		},
		created: time.Now(), done: make(chan struct{}), terminated: make(chan struct{}),
	}
}

// publish takes the host ports, so that nobody else gets them and a program can accept on them.
func (c *fakeContainer) publish(ctx context.Context) error {
	for _, required := range []bool{true, false} { // one that is preferred alone gives way
		for _, p := range c.spec.Publish {
			if p.Required != required {
				continue
			}
			if err := c.publishOne(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *fakeContainer) publishOne(ctx context.Context, p container.Port) error {
	l, err := listen(ctx, p.HostAddress(), p.Host)
	if errors.Is(err, syscall.EADDRINUSE) && !p.Required {
		l, err = listen(ctx, p.HostAddress(), 0)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("publish %d: host port %d: %w", p.Container, p.Host, container.ErrPortTaken)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners == nil {
		c.listeners = map[uint16]net.Listener{}
	}
	c.listeners[p.Container] = l
	return nil
}

func listen(ctx context.Context, address netip.Addr, port uint16) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", netip.AddrPortFrom(address, port).String())
}

// start runs Main on a context that outlives that of Run, as a container outlives the call that started it.
func (c *fakeContainer) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), containerKey{}, c))
	c.mu.Lock()
	c.stop = cancel
	if c.ended { // removed by somebody else in the meantime
		cancel()
	}
	c.mu.Unlock()
	go func() {
		code := container.ExitNotFound
		if c.image.Main != nil {
			code = c.image.Main(ctx, c.spec, c.out)
		}
		c.kill(code, false)
	}()
}

// kill ends the container with code, unless it has ended before.
func (c *fakeContainer) kill(code int, oom bool) {
	c.gate.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.paused = true, false
	c.exit = container.Exit{Code: code, OOM: oom, At: time.Now()}
	c.log.end()
	if c.stop != nil {
		c.stop()
	}
	for _, l := range c.listeners {
		_ = l.Close() // a listener of loopback: nothing is lost
	}
	close(c.done)
}

func (c *fakeContainer) ID() string { return c.id }

func (c *fakeContainer) Name() string { return "dalirun-" + c.spec.Step + "-" + c.id[len(c.id)-6:] }

func (c *fakeContainer) Addr(ctx context.Context, port uint16) (netip.AddrPort, error) {
	if err := context.Cause(ctx); err != nil {
		return netip.AddrPort{}, err
	}
	published, ok := c.ports()[port]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("port %d of %s: %w: it is not published", port, c.Name(),
			container.ErrNotFound)
	}
	return container.DialAddr(published), nil
}

// Dial connects to what the program listens on.
func (c *fakeContainer) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	addr, err := c.Addr(ctx, port)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	listens := c.listens[port]
	c.mu.Unlock()
	if !listens {
		return nil, fmt.Errorf("dial %s:%d: %w", c.Name(), port, syscall.ECONNREFUSED)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr.String())
}

func (c *fakeContainer) ports() map[uint16]netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || len(c.listeners) == 0 {
		return nil
	}
	ports := map[uint16]netip.AddrPort{}
	for _, p := range c.spec.Publish { // a listener on 0.0.0.0 says that it is one on [::]
		if tcp, ok := c.listeners[p.Container].Addr().(*net.TCPAddr); ok {
			ports[p.Container] = netip.AddrPortFrom(p.HostAddress(), tcp.AddrPort().Port())
		}
	}
	return ports
}

// Refresh copies anew where the Fake copies inputs.
func (c *fakeContainer) Refresh(ctx context.Context, m container.Mount) error {
	if _, err := c.fake.Open(ctx, c.id); err != nil {
		return err
	}
	inside, _, err := HostPath(c.spec, m.Target)
	if err != nil || inside == m.Source {
		return err
	}
	if err := os.RemoveAll(inside); err != nil {
		return err
	}
	return copyInput(m.Source, inside)
}

// copyInput copies a file or folder, with its times.
func copyInput(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.CopyFS(to, os.DirFS(from))
	} else {
		var data []byte
		if data, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, data, 0o600) //nolint:gosec // below the folder of copies
		}
	}
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		return errors.Join(err, os.Chtimes(filepath.Join(to, rel), time.Time{}, info.ModTime()))
	})
}

func (c *fakeContainer) Exec(ctx context.Context, argv []string, out container.Streams) (int, error) {
	if !c.running() {
		return 0, fmt.Errorf("exec in %s: the container is not running", c.Name())
	}
	if len(argv) == 0 {
		return 0, fmt.Errorf("exec in %s: no command", c.Name())
	}
	run, ok := c.image.Commands[argv[0]]
	if !ok {
		return container.ExitNotFound, nil
	}
	spec := c.spec
	spec.Command = argv[1:]
	g := &gate{}
	defer g.close()
	ctx = context.WithValue(ctx, containerKey{}, c)
	return run(ctx, spec, container.Streams{Stdout: g.writer(out.Stdout), Stderr: g.writer(out.Stderr)}), nil
}

func (c *fakeContainer) Stop(ctx context.Context, grace time.Duration) error {
	if grace <= 0 {
		c.kill(codeKilled, false)
		return nil
	}
	c.mu.Lock()
	c.paused = false
	handled := c.handled
	select {
	case <-c.terminated:
	default:
		close(c.terminated)
	}
	c.mu.Unlock()
	if !handled && c.spec.Init {
		c.kill(codeTerminated, false)
		return nil
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.kill(codeKilled, false)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func (c *fakeContainer) Wait(ctx context.Context) (container.Exit, error) {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.exit, nil
	case <-ctx.Done():
		return container.Exit{}, context.Cause(ctx)
	}
}

func (c *fakeContainer) Logs(
	ctx context.Context, o container.LogOptions, each func(container.LogLine) error,
) error {
	if _, err := c.fake.Open(ctx, c.id); err != nil {
		return err
	}
	return c.log.read(ctx, o, each)
}

func (c *fakeContainer) running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended
}

func (c *fakeContainer) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

func (c *fakeContainer) summary() container.Summary {
	return container.Summary{
		ID: c.id, Name: c.Name(), Image: c.spec.Image, Labels: c.labels,
		Running: c.running(), Paused: c.isPaused(), Created: c.created, Ports: c.ports(),
	}
}

type containerKey struct{}

func surroundings(ctx context.Context) *fakeContainer {
	c, ok := ctx.Value(containerKey{}).(*fakeContainer)
	if !ok {
		panic("containertest: this context is not that of a Program")
	}
	return c
}

// Terminated returns a channel that SIGTERM closes. A program that never asks for it is ended by SIGTERM at once where
// the Spec has an Init, and ignores it where it has none, as PID 1 does.
func Terminated(ctx context.Context) <-chan struct{} { return surroundings(ctx).handleTerm() }

func (c *fakeContainer) handleTerm() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handled = true
	return c.terminated
}

// Listen returns the listener behind a published port. It is closed when the container ends.
func Listen(ctx context.Context, port uint16) (net.Listener, error) {
	return surroundings(ctx).listener(port)
}

func (c *fakeContainer) listener(port uint16) (net.Listener, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.listeners[port]
	if !ok {
		return nil, fmt.Errorf("listen on port %d: the fake has published ports only", port)
	}
	c.listens = put(c.listens, port, true)
	return l, nil
}

// OutOfMemory ends the container as the kernel does when its memory is used up.
func OutOfMemory(ctx context.Context) { surroundings(ctx).kill(codeKilled, true) }

// HostPath returns where a path inside a container with the given Spec lies on the host, and whether the container may
// write there. The error is [syscall.ENOENT] where nothing is mounted.
func HostPath(spec container.Spec, inside string) (host string, writable bool, err error) {
	inside = path.Clean(inside)
	best := -1
	try := func(mounts []container.Mount, rw bool) {
		for _, m := range mounts {
			target := path.Clean(m.Target)
			rest, ok := strings.CutPrefix(inside, target)
			if ok && (rest == "" || strings.HasPrefix(rest, "/")) && len(target) > best {
				best, writable = len(target), rw
				host = filepath.Join(m.Source, filepath.FromSlash(rest))
			}
		}
	}
	try(spec.Inputs, false)
	try(spec.Outputs, true)
	if best < 0 {
		return "", false, fmt.Errorf("%s: %w", inside, syscall.ENOENT)
	}
	return host, writable, nil
}

// A gate lets writes through until it is closed, so that a killed program's goroutine cannot write after Wait returned.
type gate struct {
	mu     sync.Mutex
	closed bool
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

func (g *gate) writer(w io.Writer) io.Writer { return gated{g, orDiscard(w)} }

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

type gated struct {
	gate *gate
	to   io.Writer
}

// Write forwards p, and loses it once the gate is closed.
func (w gated) Write(p []byte) (int, error) {
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()
	if w.gate.closed {
		return len(p), nil
	}
	return w.to.Write(p)
}

func fakeHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
