package serving

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/runlog"
	"github.com/dalirun/dalirun/pipeline"
)

// talk is a workspace with a server that says two lines, and a last one when it is stopped.
type talk struct {
	*containertest.Fake
	Servers

	workspace string
	container container.Container
}

func talking(t *testing.T) talk {
	t.Helper()
	w := t.TempDir()
	lock, err := owner.Acquire(w, "r1")
	if err != nil {
		t.Fatal(err)
	}
	fake := &containertest.Fake{Labels: maps.Clone(serverIn(w, "").Labels)}
	said := make(chan struct{})
	fake.AddLocal("server", containertest.Image{Main: func(ctx context.Context, _ container.Spec, out container.Streams) int {
		stop := containertest.Terminated(ctx)
		fmt.Fprintln(out.Stderr, "loading\x1b[2J")
		fmt.Fprintln(out.Stdout, "ready")
		close(said)
		select {
		case <-stop:
			fmt.Fprint(out.Stderr, "drained")
			return 0
		case <-ctx.Done():
			return 0
		}
	}})
	spec := container.Spec{Step: "serve", Image: "server", Role: container.RoleServer, Init: true}
	c, err := fake.Run(t.Context(), spec, container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	<-said
	// The run saw a part of it.
	path := runlog.Path(lock.Dir(), "serve")
	if err := errors.Join(runlog.Replace(path, runlog.Line(time.Now(), "loading")), lock.Release()); err != nil {
		t.Fatal(err)
	}
	s := serversOn(nil)
	s.Runtime = fake
	s.Warn = func(text string) { t.Error(text) }
	return talk{fake, s, w, c}
}

func (x talk) detach(t *testing.T) {
	t.Helper()
	err := owner.WriteServer(x.workspace, owner.ServerFile{Container: x.container.ID(), Name: x.container.Name(), Run: "r1", Host: me().Host})
	if err != nil {
		t.Fatal(err)
	}
}

// logs returns the lines, and what is told about them.
func (x talk) logs(t *testing.T, o container.LogOptions) (lines []string, told string) {
	t.Helper()
	err := x.Logs(t.Context(), x.workspace, o, func(l container.LogLine) error {
		lines = append(lines, l.Text)
		return nil
	}, func(text string) { told += text })
	if err != nil {
		t.Errorf("logs: %v", err)
	}
	return lines, told
}

var everything = container.LogOptions{Tail: container.AllLines}

// However a server ends and whoever removes it, what it said last is there, each line once.
func TestLastWords(t *testing.T) {
	t.Parallel()
	sweep := func(t *testing.T, x talk) {
		t.Helper()
		if removed, err := x.Sweep(t.Context(), x.workspace); err != nil || len(removed) != 1 {
			t.Errorf("swept are %v, %v", removed, err)
		}
	}
	for name, tt := range map[string]struct {
		end  func(t *testing.T, x talk)
		want []string
		told string
	}{
		"stopped": {func(t *testing.T, x talk) {
			t.Helper()
			x.detach(t)
			if n, err := x.Stop(t.Context(), x.workspace, StopObserver{Stopped: func(string) {}, Dead: func(string, Health) {}}); n != 1 || err != nil {
				t.Errorf("%d are stopped, %v", n, err)
			}
		}, []string{"loading", "ready"}, "NAME, ended at "}, // it answers nothing, and so is killed
		"died, and is forgotten": {func(t *testing.T, x talk) {
			t.Helper()
			x.detach(t)
			if err := x.container.Stop(t.Context(), time.Minute); err != nil {
				t.Error(err)
			}
			if _, found, err := x.Forget(t.Context(), x.workspace); !found || err != nil {
				t.Error(found, err)
			}
		}, []string{"loading", "ready", "drained"}, "NAME, ended at "},
		"its run was killed": {sweep, []string{"loading", "ready"}, "of the run r1, wrote its last line at "},
		"its run was killed, and it died": {func(t *testing.T, x talk) {
			t.Helper()
			if err := x.container.Stop(t.Context(), time.Minute); err != nil {
				t.Error(err)
			}
			sweep(t, x)
		}, []string{"loading", "ready", "drained"}, "of the run r1, wrote its last line at "},
		"removed by others": {func(t *testing.T, x talk) {
			t.Helper()
			x.detach(t)
			if err := x.Remove(t.Context(), x.container.ID()); err != nil {
				t.Error(err)
			}
		}, []string{"loading"}, "NAME, was removed, and not by dalirun: what it wrote once it was ready is lost"},
		"its run lives": {func(t *testing.T, x talk) {
			t.Helper()
			attended(t, x.workspace)
			if err := x.remove(t.Context(), x.only(t)); err != nil {
				t.Error(err)
			}
		}, []string{"loading"}, "of the run r1, wrote its last line at "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := talking(t)
			tt.end(t, x)
			lines, told := x.logs(t, everything)
			if diff := cmp.Diff(tt.want, lines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			want := "no server runs in " + x.workspace + "; the last one, " + strings.ReplaceAll(tt.told, "NAME", x.container.Name())
			if !strings.HasPrefix(told, want) {
				t.Errorf("told is %q, want %q", told, want)
			}
			if left := x.Leaked(); len(left) > 0 {
				t.Errorf("left is %v", left)
			}
			if diff := cmp.Diff([]string{"r1"}, x.LogRuns(x.workspace)[:1]); diff != "" {
				t.Errorf("runs with the log:\n%s", diff)
			}
			x.options(t, lines)
		})
	}
}

// options holds that what is kept is cut as what the container engine has.
func (x talk) options(t *testing.T, all []string) {
	t.Helper()
	for _, tt := range []struct {
		o    container.LogOptions
		want []string
	}{
		{container.LogOptions{Tail: 1}, all[len(all)-1:]},
		{container.LogOptions{}, nil},
		{container.LogOptions{Tail: 1000, Follow: true, Since: time.Now().Add(-time.Hour)}, all},
		{container.LogOptions{Tail: container.AllLines, Since: time.Now().Add(time.Hour)}, nil},
	} {
		if lines, _ := x.logs(t, tt.o); !cmp.Equal(tt.want, lines) {
			t.Errorf("%+v: got %q, want %q", tt.o, lines, tt.want)
		}
	}
}

// only is the workspace's server.
func (x talk) only(t *testing.T) Container {
	t.Helper()
	found, err := x.Find(t.Context(), x.workspace)
	if err != nil || len(found) != 1 {
		t.Fatalf("found are %v, %v", found, err)
	}
	return found[0]
}

// A server whose container is there has its log in the container engine.
func TestLogsOfContainer(t *testing.T) {
	t.Parallel()
	x := talking(t)
	if lines, told := x.logs(t, everything); !cmp.Equal([]string{"loading\x1b[2J", "ready"}, lines) || told != "" {
		t.Errorf("of one that runs: %q, %q", lines, told)
	}
	followed := make(chan []string)
	first, told := make(chan struct{}), ""
	go func() {
		var lines []string
		o := container.LogOptions{Tail: 1, Follow: true}
		err := x.Logs(t.Context(), x.workspace, o, func(l container.LogLine) error {
			if lines = append(lines, l.Text); len(lines) == 1 {
				close(first)
			}
			return nil
		}, func(text string) { told += text })
		if err != nil {
			t.Error(err)
		}
		followed <- lines
	}()
	<-first
	if err := x.container.Stop(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	ended := x.container.Name() + " ended with status 0 at "
	if lines := <-followed; !cmp.Equal([]string{"ready", "drained"}, lines) || !strings.HasPrefix(told, ended) {
		t.Errorf("followed: %q, %q", lines, told)
	}
	if lines, told := x.logs(t, container.LogOptions{Tail: 2}); !cmp.Equal([]string{"ready", "drained"}, lines) || !strings.HasPrefix(told, ended) {
		t.Errorf("of one that ended: %q, %q", lines, told)
	}
	enough := errors.New("enough")
	err := x.Logs(t.Context(), x.workspace, everything, func(container.LogLine) error { return enough }, func(string) {})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestLogsOfNone(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	err := serversOn(&engine{}).Logs(t.Context(), w, everything, nil, nil)
	wantFault(t, err, pipeline.NotReady, "no server has run in "+w, "start one with `dalirun serve --workspace "+w+"`")
	if err := owner.WriteServer(w, owner.ServerFile{Container: "id", Name: "server", Run: "r1", Host: "there"}); err != nil {
		t.Fatal(err)
	}
	err = serversOn(&engine{}).Logs(t.Context(), w, everything, nil, nil)
	wantFault(t, err, pipeline.Environment, "the server of "+w+", server, is on another host, there", "run `dalirun logs --workspace "+w+"` there")
}

// What cannot be kept is told of, and keeps nothing from being removed.
func TestKeepFails(t *testing.T) {
	t.Parallel()
	x := talking(t)
	if err := os.Remove(runlog.Path(owner.RunDir(x.workspace, "r1"), "serve")); err != nil {
		t.Fatal(err)
	}
	// A folder is in the way.
	if err := os.MkdirAll(filepath.Join(runlog.Path(owner.RunDir(x.workspace, "r1"), "serve"), "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	var warned string
	x.Warn = func(text string) { warned += text }
	if removed, err := x.Sweep(t.Context(), x.workspace); err != nil || len(removed) != 1 {
		t.Errorf("swept are %v, %v", removed, err)
	}
	if want := "the last output of " + x.container.Name() + " is not kept: "; !strings.HasPrefix(warned, want) {
		t.Errorf("warned is %q, want %q", warned, want)
	}
}

// What is kept is bounded, and its end is what stays.
func TestEndIsBounded(t *testing.T) {
	t.Parallel()
	var e end
	for i := range 100 {
		e.add([]byte(strings.Repeat("x", keptBytes/10) + strconv.Itoa(i) + "\n"))
	}
	if text := string(e.text()); len(text) > keptBytes || !strings.HasSuffix(text, "x99\n") || !strings.Contains(text, "x91\n") {
		t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-10:])
	}
}

// How a server ended is told before what it wrote.
func TestHowEnded(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, exit := range map[string]map[string]container.Exit{
		"server ended with status 1 at 2026-01-02T03:04:05Z":   {"id": {Code: 1, At: at}},
		"server was killed for memory at 2026-01-02T03:04:05Z": {"id": {Code: 137, OOM: true, At: at}},
		"server does not run yet":                              {"id": {}},
		"server has ended":                                     nil, // nobody says how
	} {
		synctest.Test(t, func(t *testing.T) {
			c := serverIn("/w", "")
			c.Running = false
			var told string
			err := serversOn(&engine{all: []container.Summary{c}, exit: exit}).Logs(t.Context(), "/w", everything, nil, func(text string) { told += text })
			if err != nil || told != want {
				t.Errorf("%q, %v; want %q", told, err, want)
			}
		})
	}
}

// Of what is kept of a server that is gone, it is told when that was written if nobody knows when the server ended, and
// who wants no more is not handed more.
func TestKeptLogs(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	if err := owner.NoteServer(w, owner.ServerFile{Container: "id", Name: "server", Run: "r1"}); err != nil {
		t.Fatal(err)
	}
	log := runlog.Path(owner.RunDir(w, "r1"), "serve")
	text := append(runlog.Line(time.Now(), "one"), "two\n"...) // the second line was cut, and has no time
	if err := errors.Join(runlog.Replace(log, text), os.Chtimes(log, time.Time{}, time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	var lines []string
	var told string
	enough := errors.New("enough")
	err := serversOn(&engine{}).Logs(t.Context(), w, everything, func(l container.LogLine) error {
		if l.Time.IsZero() {
			t.Errorf("%q has no time", l.Text)
		}
		if lines = append(lines, l.Text); len(lines) == 2 {
			return enough
		}
		return nil
	}, func(text string) { told += text })
	if want := "no server runs in " + w + "; the last one, server, wrote its last line at 1970-01-01T00:00:00Z or before"; told != want {
		t.Errorf("told is %q, want %q", told, want)
	}
	if !errors.Is(err, enough) || !cmp.Equal([]string{"one", "two"}, lines) {
		t.Errorf("%q, %v", lines, err)
	}
}

// A container that somebody else removes just now has nothing to keep, and is no failure.
func TestKeepOfWhatIsGone(t *testing.T) {
	t.Parallel()
	w := t.TempDir()
	if err := os.MkdirAll(owner.RunDir(w, "r1"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := serversOn(&engine{})
	s.Warn = func(text string) { t.Errorf("a warning: %s", text) }
	if err := s.remove(t.Context(), Container{Summary: serverIn(w, "")}); err != nil {
		t.Error(err)
	}
}
