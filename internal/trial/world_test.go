package trial_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/trial"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

const model = "ensemble"

// A world is a workspace with a server in memory, whose requests take as long as the test says. It is for a bubble of
// testing/synctest: the seconds of a load take none.
type world struct {
	server    *tritontest.Server
	workspace string
	takes     atomic.Int64 // nanoseconds of one request
	log       []string     // lines that the server wrote
	logFails  error
	told      []string
}

// newWorld is a world whose server is of the cpu lane.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{workspace: t.TempDir()}
	w.takes.Store(int64(10 * time.Millisecond))
	w.server = tritontest.NewInMemory(t, tritontest.Staged(model, tritontest.Stage{
		Name: "net", Instances: 2, MaxBatch: 1, Time: func(int) time.Duration { return time.Duration(w.takes.Load()) },
	})...)
	w.server.MustLoad(model)
	w.serve(t, owner.ServerFile{Container: "id", Run: "r1", Served: owner.Served{Lane: "cpu"}, Image: "sha256:1"})
	return w
}

// serve writes what is known of the server.
func (w *world) serve(t *testing.T, file owner.ServerFile) {
	t.Helper()
	if err := owner.WriteServer(w.workspace, file); err != nil {
		t.Fatal(err)
	}
}

// trial loads the world's server: one request at a time, for a second.
func (w *world) trial() trial.Trial {
	return trial.Trial{
		Request: trial.Request{
			Model: model, Ensemble: "the_ensemble", Sample: []byte("sample"), Concurrency: []int{1}, MaxInFlight: 16, Batch: 1,
			Connections: 2, Duration: time.Second, Timeout: 5 * time.Second, MaxRegression: 0.05, Program: "1.2.3",
		},
		Files:  &userfile.Reader{},
		Finder: w,
		Turn:   func(context.Context, string, []string) (func(), error) { return func() {}, nil },
		Notice: func(line string) { w.told = append(w.told, line) },
	}
}

// hasTold says whether a line was told that begins with that.
func (w *world) hasTold(beginning string) bool {
	return slices.ContainsFunc(w.told, func(line string) bool { return strings.HasPrefix(line, beginning) })
}

// infers counts the pictures that were sent.
func (w *world) infers() int {
	sent := slices.DeleteFunc(w.server.Calls(), func(call string) bool { return call != "ModelInfer "+model })
	return len(sent)
}

// Workspace and Servers make the world a [classify.Finder].
func (w *world) Workspace(context.Context) (string, error) { return w.workspace, nil }

func (w *world) Servers(context.Context) (serving.Servers, error) {
	me := owner.Identity{Host: "here", Boot: "b", Now: time.Now()}
	return serving.Servers{Runtime: runtime{world: w}, Me: me, Step: "serve", Model: model}, nil
}

// runtime is a [serving.Runtime] with the world's server.
type runtime struct {
	serving.Runtime

	world *world
}

func (r runtime) List(context.Context, container.Labels) ([]container.Summary, error) {
	return []container.Summary{{
		ID: "id", Name: "server", Running: true,
		Ports: map[uint16]netip.AddrPort{triton.PortGRPC: netip.MustParseAddrPort("127.0.0.1:8001")},
		Labels: container.Labels{
			container.LabelRun: "r1", container.LabelHost: "here", container.LabelBoot: "b", container.LabelWorkspace: r.world.workspace,
			container.LabelStep: "serve", container.LabelRole: string(container.RoleServer),
		},
	}}, nil
}

func (r runtime) Open(context.Context, string) (container.Container, error) {
	return opened{world: r.world}, nil
}

// opened is the container of the world's server.
type opened struct {
	container.Container

	world *world
}

func (c opened) Name() string { return "server" }

func (c opened) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	return c.world.server.Dial(ctx, port)
}

func (c opened) Logs(_ context.Context, _ container.LogOptions, each func(container.LogLine) error) error {
	for _, text := range c.world.log {
		if err := each(container.LogLine{Text: text}); err != nil {
			return err
		}
	}
	return c.world.logFails
}

// nobody is a [classify.Finder] that must not be asked, with what it answers if it may be.
type nobody struct {
	t   *testing.T
	err error
}

func (n nobody) Workspace(context.Context) (string, error) {
	if n.err == nil {
		n.t.Error("the workspace is looked for")
	}
	return "", n.err
}

func (n nobody) Servers(context.Context) (serving.Servers, error) {
	n.t.Error("the container engine is asked")
	return serving.Servers{}, errors.New("it must not be")
}

// picture is the file of a picture.
func picture(t *testing.T) string {
	t.Helper()
	var encoded bytes.Buffer
	if err := png.Encode(&encoded, image.NewRGBA(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	return write(t, "cat.png", encoded.String())
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantFault(t *testing.T, err error, kind pipeline.Kind, words, hint string) {
	t.Helper()
	fault, ok := errors.AsType[*pipeline.Fault](err)
	if !ok || fault.Kind != kind || !strings.Contains(err.Error(), words) || !strings.Contains(fault.Hint, hint) {
		t.Errorf("%v (hint: %s)\nwant %q (hint: %s)", err, pipeline.HintOf(err), words, hint)
	}
}
