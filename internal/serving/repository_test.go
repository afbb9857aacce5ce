package serving

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

// pins note for which paths entries are kept. The record is made while the pin is.
type pins struct{ paths []string }

func (p *pins) Pin(_ context.Context, path, _ string, point func() error) error {
	p.paths = append(p.paths, path)
	return point()
}

// stored is a model repository in a cache, with one file.
func stored(t *testing.T, text string) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "config.pbtxt"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// served is what the served repository of a workspace has.
func servedText(t *testing.T, workspace string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(owner.RepositoryPath(workspace), "config.pbtxt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func onCPU(weights string) owner.Served {
	return owner.Served{Lane: "cpu", Source: "local", Precision: "fp32", Weights: weights}
}

// ofTheServer identifies the image of the server that is beside.
const ofTheServer = "sha256:0123456789abcdef"

// beside is a workspace with a server that serves another model repository.
func beside(t *testing.T, grpc string) (r Repository, pinned *pins, warned *[]string) {
	t.Helper()
	workspace := t.TempDir()
	if err := os.MkdirAll(owner.RunDir(workspace, "r1"), 0o700); err != nil {
		t.Fatal(err)
	}
	warned, pinned = new([]string), &pins{}
	s := serversOn(&engine{})
	if grpc != "" {
		s = serversOn(&engine{all: []container.Summary{serverIn(workspace, grpc)}})
		err := owner.WriteServer(workspace, owner.ServerFile{
			Container: "id", Name: "server", Run: "r1", Host: me().Host, Repository: "/cache/old", Served: onCPU("random:1"),
			Arguments: []string{"--usual"}, Command: []string{"serve"}, GRPC: grpc, Image: ofTheServer,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Warn = func(text string) { *warned = append(*warned, text) }
	return Repository{Servers: s, Workspace: workspace, Pins: pinned}, pinned, warned
}

func builtOf(repository string) owner.Built {
	return owner.Built{
		Run: "r1", Time: time.Now().UTC(), Repository: repository, Target: []byte("{}"), Arguments: []string{"--usual"},
		Command: []string{"serve", "--weights=random:2"}, Served: onCPU("random:2"),
		Image: ofTheServer,
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		running bool
		change  func(*owner.Built)
		warning string // that takes what was built
	}{
		"no server":           {change: func(*owner.Built) {}},
		"beside a server":     {true, func(*owner.Built) {}, "reload"},
		"other arguments":     {true, func(b *owner.Built) { b.Arguments = nil }, "restart"},
		"another lane":        {true, func(b *owner.Built) { b.Lane = "gpu" }, "restart"},
		"other images":        {true, func(b *owner.Built) { b.Source = "ngc" }, "restart"},
		"another image":       {true, func(b *owner.Built) { b.Image = "sha256:other" }, "restart"},
		"an image not known":  {true, func(b *owner.Built) { b.Image = "" }, "reload"},
		"other weights alone": {true, func(b *owner.Built) { b.Weights = "pretrained" }, "reload"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			grpc := ""
			if tt.running {
				grpc = answering(t)
			}
			r, pinned, warned := beside(t, grpc)
			built := builtOf(stored(t, "new"))
			tt.change(&built)
			folder, err := r.Keep(t.Context(), built)
			if err != nil {
				t.Fatal(err)
			}
			want, text, warnings := owner.RepositoryPath(r.Workspace), "new", []string(nil)
			if tt.running { // the served repository is the server's
				want, text = built.Repository, ""
				warnings = []string{"the server of this workspace goes on serving what it has, in " +
					owner.RepositoryPath(r.Workspace) + ": `dalirun " + tt.warning + " --workspace " + r.Workspace + "` has it serve this"}
			}
			if got := servedText(t, r.Workspace); folder != want || got != text {
				t.Errorf("it is in %s, and %q is served; want %s and %q", folder, got, want, text)
			}
			if diff := cmp.Diff(warnings, *warned); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			record, err := owner.ReadBuilt(r.Workspace)
			if err != nil || record.Served != built.Served || !slices.Equal(pinned.paths, []string{built.Repository}) {
				t.Errorf("recorded %+v, %v; kept in the cache: %q", record, err, pinned.paths)
			}
		})
	}
}

func TestTake(t *testing.T) {
	t.Parallel()
	r, _, _ := beside(t, "")
	built := builtOf(stored(t, "new"))
	folder, err := r.Take(t.Context(), built)
	if got := servedText(t, r.Workspace); err != nil || folder != owner.RepositoryPath(r.Workspace) || got != "new" {
		t.Errorf("%s has %q: %v", folder, got, err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := r.Take(ctx, builtOf(stored(t, "newer"))); !errors.Is(err, stopped) {
		t.Errorf("stopped: %v", err)
	}
	if got := servedText(t, r.Workspace); got != "new" {
		t.Errorf("after it was stopped, %q is served", got)
	}
}

func TestReplaceable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		grpc        func(*testing.T) string
		change      func(*owner.Built)
		kind        pipeline.Kind
		words, hint string
	}{
		"healthy":   {answering, func(*owner.Built) {}, 0, "", ""},
		"no server": {func(*testing.T) string { return "" }, func(*owner.Built) {}, pipeline.NotReady, "no server runs in", "dalirun serve"},
		"a sick one": {
			broken, func(*owner.Built) {}, pipeline.NotReady, "the server server is not healthy", "dalirun stop",
		},
		"all is other": {
			answering, func(b *owner.Built) { b.Lane, b.Source, b.Release, b.Arguments = "gpu", "ngc", "25.03", nil },
			pipeline.Environment,
			"the server server cannot serve what was built: lane gpu (served: cpu), images ngc (served: local), " +
				"server arguments none (served: --usual)",
			"dalirun restart --workspace",
		},
		"another lane alone": {
			answering, func(b *owner.Built) { b.Lane = "gpu" }, pipeline.Environment,
			"the server server cannot serve what was built: lane gpu (served: cpu)", "dalirun restart --workspace",
		},
		"another image alone": {
			answering, func(b *owner.Built) { b.Repository, b.Image = "/cache/old", "sha256:fedcba9876543210" }, pipeline.Environment,
			"the server server cannot serve what was built: server image fedcba987654 (served: 0123456789ab)",
			"dalirun restart --workspace",
		},
		"what an older dalirun built": {
			answering, func(b *owner.Built) { b.Image, b.Served = "", owner.Served{} }, 0, "", "",
		},
		"what it serves already": {answering, func(b *owner.Built) { b.Repository = "/cache/old" }, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, _ := beside(t, tt.grpc(t))
			built := builtOf("/cache/new")
			tt.change(&built)
			server, file, err := r.Replaceable(t.Context(), built)
			if tt.words != "" {
				wantFault(t, err, tt.kind, tt.words, tt.hint)
				return
			}
			if err != nil || server.ID != "id" || file.Repository != "/cache/old" {
				t.Errorf("%+v, %+v, %v", server, file, err)
			}
		})
	}
}

// A stop while a reload is at work explains all that the reload meets with; one of before, which the server outlived,
// explains nothing.
func TestExplainStop(t *testing.T) {
	t.Parallel()
	r, _, _ := beside(t, answering(t))
	server, err := r.Servers.Running(t.Context(), r.Workspace)
	if err != nil {
		t.Fatal(err)
	}
	met, explained := errors.New("connection lost"), errors.New("explained")
	own := func(err error) error {
		if !errors.Is(err, met) {
			t.Errorf("it is to explain %v", err)
		}
		return explained
	}
	explain := r.ExplainStop(server, own)
	if err := explain(met); !errors.Is(err, explained) {
		t.Errorf("without a stop: %v", err)
	}
	if err := owner.NoteStop(r.Workspace, server.Run()); err != nil {
		t.Fatal(err)
	}
	stopped := explain(met)
	wantFault(t, stopped, pipeline.NotReady, "the server server was stopped meanwhile", "`dalirun serve --workspace "+r.Workspace+"` serves what was built")
	if again := explain(met); !errors.Is(again, stopped) {
		t.Errorf("it is another error: %v", again)
	}
	if err := r.ExplainStop(server, own)(met); !errors.Is(err, explained) {
		t.Errorf("after a stop of before: %v", err)
	}
}

// A server that was reloaded is recorded as one that serves what was built, also if that was made anew meanwhile.
func TestReplaced(t *testing.T) {
	t.Parallel()
	r, pinned, _ := beside(t, answering(t))
	built := builtOf("/cache/new")
	if _, err := r.Keep(t.Context(), built); err != nil {
		t.Fatal(err)
	}
	read := func() owner.ServerFile {
		file, err := owner.ReadServer(r.Workspace)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	before := read()
	noted := func(on bool, want ...string) {
		t.Helper()
		if err := r.Replacing(before, built, on); err != nil || !slices.Equal(read().Reloading, want) {
			t.Errorf("noted is %q, %v, want %q", read().Reloading, err, want)
		}
	}
	noted(true, built.Weights)
	noted(false)
	before.Reloading = []string{"random:9"} // by one that was killed
	noted(true, "random:9", built.Weights)
	noted(false, "random:9")
	if err := r.Replaced(t.Context(), before, built, "/cache/again"); err != nil {
		t.Fatal(err)
	}
	after := read()
	if len(after.Reloading) > 0 || after.Repository != "/cache/again" || after.Served != built.Served || after.Command[1] != "--weights=random:2" {
		t.Errorf("it is recorded as %+v", after)
	}
	last, err := owner.ReadBuilt(r.Workspace)
	if err != nil || last.Repository != "/cache/again" || last.ServesAnother(after) {
		t.Errorf("what was built is recorded as %+v: %v", last, err)
	}
	if want := []string{"/cache/new", "/cache/again"}; !slices.Equal(pinned.paths, want) {
		t.Errorf("kept in the cache: %q, want %q", pinned.paths, want)
	}
}

// Who started a server in the background is told where it is, or it is none.
func TestHandOver(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	file := owner.ServerFile{Container: "id", Run: "r1"}
	if err := HandOver(workspace, file, func() error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("nobody was told: %v", err)
	}
	if _, err := owner.ReadServer(workspace); !errors.Is(err, owner.ErrNoServer) {
		t.Errorf("there is a server that nobody knows: %v", err)
	}
	if err := HandOver(workspace, file, func() error { return nil }); err != nil {
		t.Error(err)
	}
	if got, err := owner.ReadServer(workspace); err != nil || got.Container != "id" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A server that has ended is noted with what it served last.
func TestNoteEnd(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	started := owner.ServerFile{Container: "id", Run: "r1", Repository: "/cache/old"}
	reloaded := started
	reloaded.Repository = "/cache/new"
	if err := owner.NoteServer(workspace, reloaded); err != nil {
		t.Fatal(err)
	}
	if err := NoteEnd(workspace, started); err != nil {
		t.Fatal(err)
	}
	if got, err := owner.ServerOf(workspace, "r1"); err != nil || got.Ended.IsZero() || got.Repository != "/cache/new" {
		t.Errorf("%+v, %v", got, err)
	}
}
