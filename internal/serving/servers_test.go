package serving

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

const (
	ensemble = "ensemble_dali_resnet50"
	grace    = 35 * time.Second
	deadStub = "the stub process is dead"
)

// engine is a [Runtime] of containers that are there already. It notes what is done to them.
type engine struct {
	mu     sync.Mutex
	all    []container.Summary
	exit   map[string]container.Exit // of those that end by themselves, by ID
	ends   <-chan struct{}           // when they end; nil is at once
	fail   error                     // of everything
	done   []string
	onOpen func(context.Context) error // what becomes of an Open; nil is success
	// onStop is called when a container was asked to stop, onList when the containers are listed.
	onStop, onList func()
}

func (e *engine) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done = append(e.done, fmt.Sprintf(format, args...))
}

func (e *engine) noted() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.done)
}

func (e *engine) List(_ context.Context, labels container.Labels) ([]container.Summary, error) {
	if e.onList != nil {
		e.onList()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return nil, e.fail
	}
	return slices.DeleteFunc(slices.Clone(e.all), func(c container.Summary) bool {
		for key, want := range labels {
			if got, ok := c.Labels[key]; !ok || want != "" && got != want {
				return true
			}
		}
		return false
	}), nil
}

func (e *engine) Open(ctx context.Context, id string) (container.Container, error) {
	if e.onOpen != nil {
		if err := e.onOpen(ctx); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.ContainsFunc(e.all, func(c container.Summary) bool { return c.ID == id }) {
		return nil, fmt.Errorf("open %s: %w", id, container.ErrNotFound)
	}
	i := slices.IndexFunc(e.all, func(c container.Summary) bool { return c.ID == id })
	return &opened{engine: e, id: id, ports: e.all[i].Ports}, nil
}

func (e *engine) Remove(_ context.Context, id string) error {
	e.note("remove %s", id)
	e.drop(id)
	return nil
}

// start lets a container run.
func (e *engine) start(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.all {
		e.all[i].Running = e.all[i].Running || e.all[i].ID == id
	}
}

func (e *engine) drop(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = slices.DeleteFunc(e.all, func(c container.Summary) bool { return c.ID == id })
}

// opened is a container of an [engine].
type opened struct {
	container.Container

	engine *engine
	id     string
	ports  map[uint16]netip.AddrPort
}

// Dial goes to the container's port where it is published.
func (c *opened) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.ports[port].String())
}

func (c *opened) Stop(_ context.Context, grace time.Duration) error {
	c.engine.note("stop %s within %s", c.id, grace)
	if c.engine.onStop != nil {
		c.engine.onStop()
	}
	return nil
}

// Logs has nothing: [TestLastWords] has a server that speaks.
func (*opened) Logs(context.Context, container.LogOptions, func(container.LogLine) error) error {
	return nil
}

func (c *opened) Wait(ctx context.Context) (container.Exit, error) {
	exit, ends := c.engine.exit[c.id]
	if ends && c.engine.ends == nil {
		return exit, nil
	}
	select {
	case <-c.engine.ends:
		return exit, nil
	case <-ctx.Done():
		return container.Exit{}, context.Cause(ctx)
	}
}

// me is who looks in these tests.
func me() owner.Identity { return owner.Identity{Host: "here", Boot: "b1", Now: time.Now()} }

func serversOn(e *engine) Servers {
	return Servers{Runtime: e, Me: me(), Step: "serve", Model: ensemble, Grace: grace, CacheFlags: []string{"--cache-dir=/c"}}
}

// serverIn is the server of a run r1 in a workspace of this host; changes are pairs of label and value.
func serverIn(workspace, grpc string, changes ...string) container.Summary {
	labels := container.Labels{
		container.LabelRun: "r1", container.LabelHost: me().Host, container.LabelBoot: me().Boot, container.LabelWorkspace: workspace,
		container.LabelStep: "serve", container.LabelRole: string(container.RoleServer),
	}
	for i := 0; i < len(changes); i += 2 {
		labels[changes[i]] = changes[i+1]
	}
	c := container.Summary{ID: "id", Name: "server", Running: true, Labels: labels}
	if grpc != "" {
		c.Ports = map[uint16]netip.AddrPort{triton.PortGRPC: netip.MustParseAddrPort(grpc)}
	}
	return c
}

// detached makes serverIn the server that the workspace's server file names.
func detached(t *testing.T, workspace string, command ...string) {
	t.Helper()
	if err := owner.WriteServer(workspace, owner.ServerFile{Container: "id", Name: "server", Run: "r1", Host: me().Host, Command: command}); err != nil {
		t.Fatal(err)
	}
}

// attended makes r1 a run that lives.
func attended(t *testing.T, workspace string) {
	t.Helper()
	lock, err := owner.Acquire(workspace, "r1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Release() })
}

// answering is the address of a server whose ensemble works; broken, of one whose ensemble has a dead process.
func answering(t *testing.T) string {
	t.Helper()
	return tritonThat(t, nil)
}

func broken(t *testing.T) string {
	t.Helper()
	return tritonThat(t, errors.New(deadStub))
}

func tritonThat(t *testing.T, fails error) string {
	t.Helper()
	s := tritontest.New(t, tritontest.Classifier(ensemble, []string{"a", "b"}, func([]byte) ([]float32, error) { return []float32{1, 2}, fails }))
	s.MustLoad(ensemble)
	return s.Addr()
}

// closed is an address where nothing listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it is the point
	return l.Addr().String()
}

func wantFault(t *testing.T, err error, kind pipeline.Kind, words, hint string) {
	t.Helper()
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || fault.Kind != kind || !strings.Contains(err.Error(), words) || !strings.Contains(fault.Hint, hint) {
		t.Errorf("%v (hint: %s)\nwant %q (hint: %s)", err, pipeline.HintOf(err), words, hint)
	}
}

// What a workspace's servers are: of this host, and there for others. Only one that runs and publishes its port answers.
func TestFind(t *testing.T) {
	t.Parallel()
	ended := serverIn("/w", "127.0.0.1:1")
	ended.Running = false
	named := func(name string, c container.Summary) container.Summary { c.Name = name; return c }
	e := &engine{all: []container.Summary{
		named("elsewhere", serverIn("/other", "127.0.0.1:2")),
		named("foreign", serverIn("/w", "127.0.0.1:3", container.LabelHost, "there")),
		named("of e2e", serverIn("/w", "127.0.0.1:4", container.LabelRole, string(container.RoleBatch))),
		named("not dalirun's", container.Summary{}),
		named("ended", ended),
		named("starting", serverIn("/w", "")),
	}}
	s := serversOn(e)
	names := func(all []Container, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range all {
			names = append(names, c.Name)
		}
		return names
	}
	if diff := cmp.Diff([]string{"elsewhere", "foreign", "of e2e", "ended", "starting"}, names(s.List(t.Context()))); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ended", "starting"}, names(s.Find(t.Context(), "/w"))); diff != "" {
		t.Errorf("those of the workspace (-want +got):\n%s", diff)
	}
	_, err := s.Running(t.Context(), "/w")
	wantFault(t, err, pipeline.NotReady, "the server ended is not healthy: its container has ended", "`dalirun stop --workspace /w && dalirun serve ")
	_, err = s.Running(t.Context(), "/none")
	wantFault(t, err, pipeline.NotReady, "no server runs in /none", "`dalirun serve --workspace /none`, or name one with --url")
	e.all = append(e.all, named("answers", serverIn("/w", "127.0.0.1:5")))
	if c, err := s.Running(t.Context(), "/w"); err != nil || c.Name != "answers" || c.GRPC() != "127.0.0.1:5" {
		t.Errorf("it runs: %+v, %v", c, err)
	}
}

// Whose a server is at an address is found for this host alone, and for servers that are there for others.
func TestAt(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"localhost:8001": "8001", "127.0.0.1:8001": "8001", "127.1.2.3:1": "1", "[::1]:8001": "8001",
		"10.0.0.1:8001": "", "example.com:8001": "", "localhost": "", "": "",
	} {
		if port, local := LocalPort(addr); local != (want != "") || local && port != want {
			t.Errorf("%q: %q, %t", addr, port, local)
		}
	}
	s := serversOn(&engine{all: []container.Summary{
		serverIn("/e2e", "127.0.0.1:2", container.LabelRole, string(container.RoleBatch)), serverIn("/w", "127.0.0.1:1"),
	}})
	for addr, want := range map[string]bool{"localhost:1": true, "127.0.0.1:2": false, "127.0.0.1:3": false, "x": false, "server:8001": false} {
		c, found, err := s.At(t.Context(), addr)
		if err != nil || found != want || found && (c.Workspace() != "/w" || c.Owner != owner.Lost || c.Why != "its workspace /w is not there") {
			t.Errorf("%s: %t, %+v, %v", addr, found, c, err)
		}
	}
	s.Elsewhere = "tcp://docker:2375"
	for addr, want := range map[string]bool{"localhost:1": false, "server:8001": true} {
		if c, found, err := s.At(t.Context(), addr); err != nil || found != want || found && s.Address(c) != addr {
			t.Errorf("elsewhere, %s: %t, %+v, %v", addr, found, c, err)
		}
	}
}

// What is published beyond the loopback address of a host elsewhere is reached there.
func TestAddress(t *testing.T) {
	t.Parallel()
	for grpc, want := range map[string]struct{ here, elsewhere string }{
		"127.0.0.1:1": {"127.0.0.1:1", "server:8001"}, "10.0.0.5:1": {"10.0.0.5:1", "10.0.0.5:1"}, "": {},
		"0.0.0.0:1": {"127.0.0.1:1", "server:8001"}, "[::]:1": {"[::1]:1", "server:8001"},
	} {
		c := Container{Summary: serverIn("/w", grpc)}
		local := Servers{}
		if got := local.Address(c); got != want.here {
			t.Errorf("here, %q: %q, want %q", grpc, got, want.here)
		}
		elsewhere := Servers{Elsewhere: "tcp://docker:2375"}
		if got := elsewhere.Address(c); got != want.elsewhere {
			t.Errorf("elsewhere, %q: %q, want %q", grpc, got, want.elsewhere)
		}
	}
}

// How a server is, and the command that mends it as far as it is known how it was started.
func TestServersJudge(t *testing.T) {
	t.Parallel()
	usual := func(w, flags string) string {
		return "dalirun stop --workspace " + w + " && dalirun serve --detach --workspace=" + w + " --cache-dir=/c" + flags
	}
	none := func(*testing.T, string) {}
	for name, tt := range map[string]struct {
		workspace func(t *testing.T, workspace string)
		server    func(t *testing.T, workspace string) container.Summary
		want      func(workspace string) Health
	}{
		"healthy": {
			none, func(t *testing.T, w string) container.Summary { t.Helper(); return serverIn(w, answering(t)) },
			func(string) Health { return Health{State: Healthy} },
		},
		"failing, and it is known how it was started": {
			func(t *testing.T, w string) { t.Helper(); detached(t, w, "serve", "--weights=random:7") },
			func(t *testing.T, w string) container.Summary { t.Helper(); return serverIn(w, broken(t)) },
			func(w string) Health {
				return Health{
					State: Failing, Model: ensemble, Reason: deadStub,
					Mend: "dalirun stop --workspace " + w + " && dalirun serve --weights=random:7",
				}
			},
		},
		"ended, and nothing is known of it": {
			none, func(_ *testing.T, w string) container.Summary {
				c := serverIn(w, "")
				c.Running = false
				return c
			},
			func(w string) Health {
				return Health{
					State: Ended, Reason: "its container has ended", Mend: usual(w, ""),
					MendNote: "nothing says with which flags it was started: this starts one with the usual flags",
				}
			},
		},
		"no workspace is named": {
			none, func(*testing.T, string) container.Summary {
				c := serverIn("", "")
				c.Running = false
				return c
			},
			func(string) Health {
				return Health{
					State: Ended, Reason: "its container has ended; its labels name no workspace in which another one could be started",
				}
			},
		},
		"its ports are kept": {
			none, func(_ *testing.T, w string) container.Summary {
				c := serverIn(w, "")
				c.Ports = map[uint16]netip.AddrPort{
					triton.PortHTTP: netip.MustParseAddrPort("127.0.0.1:1"), triton.PortMetrics: netip.MustParseAddrPort("127.0.0.1:2"),
				}
				return c
			},
			func(w string) Health {
				return Health{
					State: Silent, Reason: "its gRPC port is not published", Mend: usual(w, " --http-port=1 --metrics-port=2"),
					MendNote: "nothing says with which flags it was started: this starts one with the usual flags, on its ports",
				}
			},
		},
		"its address is kept": {
			none, func(_ *testing.T, w string) container.Summary {
				c := serverIn(w, "10.0.0.5:1")
				c.Running = false
				return c
			},
			func(w string) Health {
				return Health{
					State: Ended, Reason: "its container has ended", Mend: usual(w, " --grpc-port=1 --host=10.0.0.5"),
					MendNote: "nothing says with which flags it was started: this starts one with the usual flags, on its ports",
				}
			},
		},
		"published on every address, it stays so": {
			none, func(_ *testing.T, w string) container.Summary {
				c := serverIn(w, "0.0.0.0:1")
				c.Running = false
				return c
			},
			func(w string) Health {
				return Health{
					State: Ended, Reason: "its container has ended", Mend: usual(w, " --grpc-port=1 --host=0.0.0.0"),
					MendNote: "nothing says with which flags it was started: this starts one with the usual flags, on its ports",
				}
			},
		},
		"the server file is damaged": {
			func(t *testing.T, w string) {
				t.Helper()
				if err := os.WriteFile(owner.ServerPath(w), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			func(_ *testing.T, w string) container.Summary { return serverIn(w, "") },
			func(w string) Health {
				return Health{
					State: Silent, Reason: "its gRPC port is not published", Mend: usual(w, ""),
					MendNote: "nothing says with which flags it was started: this starts one with the usual flags (" + owner.ServerPath(w) +
						" is damaged: unexpected end of JSON input)",
				}
			},
		},
		"paused": {
			func(t *testing.T, w string) { t.Helper(); detached(t, w, "serve", "--weights=random:7") },
			func(t *testing.T, w string) container.Summary {
				t.Helper()
				c := serverIn(w, answering(t))
				c.Paused = true
				return c
			},
			func(string) Health {
				return Health{State: Silent, Reason: "its container is paused", Mend: "docker unpause server"}
			},
		},
		"paused before it was ready": {
			attended, func(_ *testing.T, w string) container.Summary {
				c := serverIn(w, "")
				c.Paused = true
				return c
			},
			func(string) Health {
				return Health{State: Silent, Reason: "its container is paused", Mend: "docker unpause server"}
			},
		},
		"starting": {
			attended, func(_ *testing.T, w string) container.Summary { return serverIn(w, "") },
			func(string) Health { return Health{State: Starting, Reason: "its run r1 has not made it ready yet"} },
		},
		"created, or ended as its run has not noticed": {
			attended, func(_ *testing.T, w string) container.Summary {
				c := serverIn(w, "")
				c.Running = false
				return c
			},
			func(string) Health {
				return Health{State: Starting, Reason: "it does not run, and its run r1 has not ended"}
			},
		},
		"of a run that verified with it, and is gone": {
			none, func(t *testing.T, w string) container.Summary {
				t.Helper()
				return serverIn(w, broken(t), container.LabelRole, string(container.RoleBatch))
			},
			func(string) Health {
				return Health{State: Failing, Model: ensemble, Reason: deadStub, Mend: "dalirun gc"}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := t.TempDir()
			tt.workspace(t, w)
			s := serversOn(&engine{all: []container.Summary{tt.server(t, w)}})
			all, err := s.List(t.Context())
			if err != nil || !s.RunsTriton(all[0]) {
				t.Fatal(all, err)
			}
			got, err := s.Judge(t.Context(), all[0])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want(w), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	gone, cancel := context.WithCancelCause(t.Context())
	why := errors.New("Ctrl-C")
	cancel(why)
	c := Container{Summary: serverIn("/w", closed(t))}
	if _, err := serversOn(&engine{}).Judge(gone, c); !errors.Is(err, why) {
		t.Errorf("a judgement that is cut off: %v", err)
	}
}

// What to do about a server is said where it is known.
func TestHint(t *testing.T) {
	t.Parallel()
	for want, h := range map[string]Health{
		"":                          {MendNote: "note"},
		"`dalirun gc` mends it":     {Mend: "dalirun gc"},
		"`dalirun a` mends it; but": {Mend: "dalirun a", MendNote: "but"},
	} {
		if got := h.Hint(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The workspace of the current project needs no flag.
func TestCommandIn(t *testing.T) {
	t.Parallel()
	usual, err := filepath.Abs(owner.DefaultWorkspace)
	if err != nil {
		t.Fatal(err)
	}
	for workspace, want := range map[string]string{usual: "dalirun stop", "/a b": "dalirun stop --workspace '/a b'"} {
		if got := CommandIn(workspace, "stop"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// An error of the container engine is the error of every method that uses it, and nothing is taken for removed.
func TestEngineThatFails(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	detached(t, w)
	e := &engine{all: []container.Summary{serverIn(w, "")}, fail: errors.New("the engine is ill")}
	s := serversOn(e)
	beside := t.TempDir()
	other, err := serversOn(&engine{}).Lock(t.Context(), beside)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release() //nolint:errcheck // it ends with the test
	for name, call := range map[string]func(context.Context) error{
		"List":                func(ctx context.Context) error { _, err := s.List(ctx); return err },
		"Find":                func(ctx context.Context) error { _, err := s.Find(ctx, w); return err },
		"Running":             func(ctx context.Context) error { _, err := s.Running(ctx, w); return err },
		"At":                  func(ctx context.Context) error { _, _, err := s.At(ctx, "1"); return err },
		"Lock":                func(ctx context.Context) error { _, err := s.Lock(ctx, w); return err },
		"Lock beside a serve": func(ctx context.Context) error { _, err := s.Lock(ctx, beside); return err },
		"Stop":                func(ctx context.Context) error { _, err := s.Stop(ctx, w, StopObserver{}); return err },
		"Leftovers":           func(ctx context.Context) error { _, err := s.Leftovers(ctx); return err },
		"Sweep":               func(ctx context.Context) error { _, err := s.Sweep(ctx, w); return err },
	} {
		if err := call(t.Context()); !errors.Is(err, e.fail) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.gone(t.Context(), "id") {
		t.Error("a server of which nothing can be found out is thought to have ended")
	}
	if _, err := owner.ReadServer(w); err != nil || len(e.noted()) > 0 {
		t.Errorf("%v, %q", err, e.noted())
	}
}
