package containertest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

func testExitCodes(t *testing.T, s *suite) {
	t.Helper()
	for _, want := range []string{"0", "1", "42", "255"} {
		exit, stdout, stderr := s.finish(t, s.spec("exit", want))
		if got := exit.Code; want != itoa(got) || exit.OOM {
			t.Errorf("exit %s: got %+v, stdout %q, stderr %q", want, exit, stdout, stderr)
		}
	}
	s.wantNothingLeft(t)
}

func testStreams(t *testing.T, s *suite) {
	t.Helper()
	exit, stdout, stderr := s.finish(t, s.spec("print", "to stdout", "to stderr"))
	if exit.Code != 0 || stdout != "to stdout" || stderr != "to stderr" {
		t.Errorf("got %+v, stdout %q, stderr %q", exit, stdout, stderr)
	}
}

// testLastLine holds that Wait returns after the last byte, with and without much before it and a newline after it.
func testLastLine(t *testing.T, s *suite) {
	t.Helper()
	const big = 1 << 20
	for _, tt := range []struct {
		bytes int
		last  string
	}{{0, "last"}, {0, "last\n"}, {big, "last"}, {big, "last\n"}, {3 * big, strings.Repeat("x", 100_000)}} {
		exit, stdout, stderr := s.finish(t, s.spec("flood", itoa(tt.bytes), tt.last))
		if exit.Code != 0 {
			t.Fatalf("flood: %+v: %s", exit, stderr)
		}
		if len(stdout) != tt.bytes+len(tt.last) || !strings.HasSuffix(stdout, tt.last) {
			t.Errorf("flood %d: got %d bytes, ending in %.40q", tt.bytes, len(stdout), stdout[max(0, len(stdout)-40):])
		}
	}
}

func testNilStreams(t *testing.T, s *suite) {
	t.Helper()
	for _, out := range []container.Streams{{}, {Stdout: &bytes.Buffer{}}, {Stderr: &bytes.Buffer{}}} {
		c, err := s.Runner.Run(t.Context(), s.spec("print", "a", "b"), out)
		if err != nil {
			t.Fatal(err)
		}
		if exit := s.wait(t, c); exit.Code != 0 {
			t.Errorf("got %+v", exit)
		}
		if b, ok := out.Stdout.(*bytes.Buffer); ok && b.String() != "a" {
			t.Errorf("stdout %q", b)
		}
		if b, ok := out.Stderr.(*bytes.Buffer); ok && b.String() != "b" {
			t.Errorf("stderr %q", b)
		}
	}
}

type brokenWriter struct{}

var errBroken = errors.New("disk of the log is full")

// Write fails.
func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

// testFailingWriter holds that a log that cannot be written does not hold up the container or the wait for it.
func testFailingWriter(t *testing.T, s *suite) {
	t.Helper()
	c, err := s.Runner.Run(t.Context(), s.spec("flood", "1000000", "last"), container.Streams{Stdout: brokenWriter{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if _, err := c.Wait(ctx); err != nil && !errors.Is(err, errBroken) {
		t.Errorf("wait: %v", err)
	}
}

func testWaitAfterExit(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.start(t, s.spec("exit", "7"))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if exit, err := c.Wait(t.Context()); err != nil || exit.Code != 7 {
				t.Errorf("got %+v, %v", exit, err)
			}
		})
	}
	all.Wait()
	if exit := s.wait(t, c); exit.Code != 7 {
		t.Errorf("again: got %+v", exit)
	}
	opened, err := s.Runner.Open(t.Context(), c.ID())
	if err != nil {
		t.Fatal(err)
	}
	if exit := s.wait(t, opened); exit.Code != 7 {
		t.Errorf("opened after its end: got %+v", exit)
	}
}

func testWaitUntilCancelled(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("wait"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if rows := s.remaining(t.Context(), t); len(rows) != 1 || !rows[0].Running {
		t.Errorf("giving up the wait must not touch the container: %+v", rows)
	}
}

func testRemoveTwice(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("ignore"))
	for range 2 {
		if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Runner.Remove(t.Context(), "dalirun-that-never-was"); err != nil {
		t.Error(err)
	}
	s.wantNothingLeft(t)
}

func testRemoveByMany(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("ignore"))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.Runner.Remove(t.Context(), c.Name()); err != nil {
				t.Error(err)
			}
			s.wantNothingLeft(t)
		})
	}
	all.Wait()
}

func testMissingCommand(t *testing.T, s *suite) {
	t.Helper()
	spec := s.spec()
	spec.Image = s.Broken
	want := cmp.Or(s.InitNotFound, container.ExitNotFound)
	if exit, _, _ := s.finish(t, spec); exit.Code != want {
		t.Errorf("under an init that started: got %+v, want %d", exit, want)
	}
	spec.Init = false
	c, err := s.Runner.Run(t.Context(), spec, container.Streams{})
	if err == nil {
		t.Fatalf("started %s", c.Name())
	}
	s.wantNothingLeft(t)
}

func testUnknownImage(t *testing.T, s *suite) {
	t.Helper()
	spec := s.spec("exit", "0")
	spec.Image = unknownImage
	if _, err := s.Runner.Run(t.Context(), spec, container.Streams{}); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("run: got %v", err)
	} else if !strings.Contains(err.Error(), spec.Image) {
		t.Errorf("run: the message does not name the image: %v", err)
	}
	s.wantNothingLeft(t)
}

func testCancelledBefore(t *testing.T, s *suite) {
	t.Helper()
	cause := errors.New("interrupt")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := s.Runner.Run(ctx, s.spec("wait"), container.Streams{}); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
	s.wantNothingLeft(t)
}

// testCancelledDuring cancels at moments spread over the start.
func testCancelledDuring(t *testing.T, s *suite) {
	t.Helper()
	s.succeed(t, s.spec("exit", "0")) // so that the first of the loop is no slower than the others
	for delay := time.Duration(0); delay <= 300*time.Millisecond; delay += 25 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), delay)
		c, err := s.Runner.Run(ctx, s.spec("ignore"), container.Streams{})
		cancel()
		if err == nil {
			if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v", delay, err)
		}
		s.wantNothingLeft(t)
	}
}

// testCancelledAfter holds that the context of Run bounds the start alone.
func testCancelledAfter(t *testing.T, s *suite) {
	t.Helper()
	out := newOutput()
	ctx, cancel := context.WithCancel(t.Context())
	c, err := s.Runner.Run(ctx, s.spec("trap", "drained"), container.Streams{Stdout: out})
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "ready\n")
	if err := c.Stop(t.Context(), wait); err != nil {
		t.Fatal(err)
	}
	if exit := s.wait(t, c); exit.Code != 0 || out.String() != "ready\ndrained\n" {
		t.Errorf("got %+v and %q", exit, out)
	}
}

func testStopWithoutGrace(t *testing.T, s *suite) {
	t.Helper()
	c, out := s.ready(t, s.spec("trap", "drained"))
	start := time.Now()
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if exit := s.wait(t, c); exit.Code != codeKilled || exit.OOM {
		t.Errorf("got %+v, want %d", exit, codeKilled)
	}
	if d := time.Since(start); d > 8*time.Second {
		t.Errorf("took %s", d)
	}
	if strings.Contains(out.String(), "drained") {
		t.Error("it had time to drain")
	}
}

func testStopWithGrace(t *testing.T, s *suite) {
	t.Helper()
	c, out := s.ready(t, s.spec("trap", "drained"))
	if err := c.Stop(t.Context(), wait); err != nil {
		t.Fatal(err)
	}
	if exit := s.wait(t, c); exit.Code != 0 {
		t.Errorf("got %+v", exit)
	}
	if out.String() != "ready\ndrained\n" {
		t.Errorf("got %q", out)
	}
}

func testStopAndKill(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("ignore"))
	start := time.Now()
	if err := c.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if exit := s.wait(t, c); exit.Code != codeKilled {
		t.Errorf("got %+v", exit)
	}
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("killed after %s, before its grace of 1 s was over", d)
	}
}

func testStopWithoutHandler(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("wait"))
	if err := c.Stop(t.Context(), wait); err != nil {
		t.Fatal(err)
	}
	if exit := s.wait(t, c); exit.Code != codeTerminated {
		t.Errorf("got %+v, want %d: Init forwards the signal", exit, codeTerminated)
	}
}

func testStopWhatEnded(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.start(t, s.spec("exit", "3"))
	s.wait(t, c)
	for _, grace := range []time.Duration{0, time.Second} {
		if err := c.Stop(t.Context(), grace); err != nil {
			t.Errorf("grace %s: %v", grace, err)
		}
	}
	if exit := s.wait(t, c); exit.Code != 3 {
		t.Errorf("got %+v", exit)
	}
	if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
		t.Fatal(err)
	}
	for _, grace := range []time.Duration{0, time.Second} {
		if err := c.Stop(t.Context(), grace); err != nil {
			t.Errorf("removed, grace %s: %v", grace, err)
		}
	}
}

// testStopWhatIsPaused holds that a container goes on for its drain, and not for its end.
func testStopWhatIsPaused(t *testing.T, s *suite) {
	t.Helper()
	if s.Pause == nil {
		t.Skip("nothing is paused here")
	}
	for grace, want := range map[time.Duration]struct {
		code int
		out  string
	}{0: {codeKilled, "ready\n"}, wait: {0, "ready\ndrained\n"}} {
		c, out := s.ready(t, s.spec("trap", "drained"))
		if err := s.Pause(t.Context(), c.ID()); err != nil {
			t.Fatal(err)
		}
		if rows := s.remaining(t.Context(), t); len(rows) != 1 || !rows[0].Running || !rows[0].Paused {
			t.Errorf("paused: %+v", rows)
		}
		if err := c.Stop(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		if exit := s.wait(t, c); exit.Code != want.code || out.String() != want.out {
			t.Errorf("grace %s: got %+v and %q", grace, exit, out)
		}
		if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
			t.Error(err)
		}
	}
}

func testMemory(t *testing.T, s *suite) {
	t.Helper()
	if s.NoMemoryLimit != "" {
		t.Skip("memory cannot be limited here: " + s.NoMemoryLimit)
	}
	told := s.NoOOM == ""
	if exit, out := s.allocate(t, 256<<20); exit.OOM != told || exit.Code != codeKilled || out != "ready\n" {
		t.Errorf("more than the limit: got %+v, %q", exit, out)
	}
	if exit, out := s.allocate(t, 16<<20); exit.OOM || exit.Code != 0 || out != "ready\ndone\n" {
		t.Errorf("less than the limit: got %+v, %q", exit, out)
	}
}

// allocate runs the probe under a limit of 64 MiB and lets it take memory after Run has returned: containerd begins to
// watch a container's memory just after its start, and nobody hears of what came to its limit before that (2 of 500 of
// those that took it at once).
func (s *suite) allocate(t *testing.T, bytes int) (container.Exit, string) {
	t.Helper()
	spec := s.spec("allocate", itoa(bytes), "/tmp/go")
	spec.Memory = 64 << 20
	c, out := s.ready(t, spec)
	// What it returns is of no interest: the kill may come before its end.
	_, _ = c.Exec(t.Context(), []string{ProbePath, "write", "/tmp/go", ""}, container.Streams{})
	exit := s.wait(t, c)
	return exit, out.String()
}

func testLabels(t *testing.T, s *suite) {
	t.Helper()
	spec := s.spec("ignore")
	spec.Step, spec.Role = "serve", container.RoleServer
	server, _ := s.ready(t, spec)
	batch, _ := s.start(t, s.spec("exit", "0"))
	s.wait(t, batch)

	for name, tt := range map[string]struct {
		extra container.Labels
		ids   []string
	}{
		"owner's":       {nil, []string{server.ID(), batch.ID()}},
		"one step":      {container.Labels{container.LabelStep: "serve"}, []string{server.ID()}},
		"any step":      {container.Labels{container.LabelStep: ""}, []string{server.ID(), batch.ID()}},
		"role and step": {container.Labels{container.LabelStep: "serve", container.LabelRole: "batch"}, nil},
		"no such label": {container.Labels{"io.dalirun.no-such-label": ""}, nil},
	} {
		filter := maps.Clone(s.Labels)
		maps.Copy(filter, tt.extra)
		rows, err := s.Runner.List(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, row := range rows {
			ids = append(ids, row.ID)
			s.checkRow(t, row, row.ID == server.ID())
		}
		slices.Sort(ids)
		slices.Sort(tt.ids)
		if !slices.Equal(ids, tt.ids) {
			t.Errorf("%s: got %q, want %q", name, ids, tt.ids)
		}
	}
	all, err := s.Runner.List(t.Context(), container.Labels{}) // others' too
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{server.ID(), batch.ID()} {
		if !slices.ContainsFunc(all, func(row container.Summary) bool { return row.ID == id }) {
			t.Errorf("%s is not among all containers", id)
		}
	}
}

// checkRow checks a row about the running server or the ended batch container of testLabels.
func (s *suite) checkRow(t *testing.T, row container.Summary, server bool) {
	t.Helper()
	if row.Created.IsZero() || time.Since(row.Created) > time.Hour || row.Image == "" || row.Name == "" ||
		row.Running != server {
		t.Errorf("row %+v", row)
	}
	want := maps.Clone(s.Labels)
	want[container.LabelStep], want[container.LabelRole] = "probe", "batch"
	if server {
		want[container.LabelStep], want[container.LabelRole] = "serve", "server"
	}
	if !carries(row.Labels, want) {
		t.Errorf("%s has labels %q, want %q among them", row.Name, row.Labels, want)
	}
}

func testName(t *testing.T, s *suite) {
	t.Helper()
	a, _ := s.start(t, s.spec("exit", "0"))
	b, _ := s.start(t, s.spec("exit", "0"))
	if a.Name() == b.Name() || a.ID() == b.ID() {
		t.Errorf("two containers of one step: %s and %s", a.Name(), b.Name())
	}
	for _, c := range []container.Container{a, b} {
		if !strings.HasPrefix(c.Name(), "dalirun-probe-") {
			t.Errorf("name %q does not tell the step", c.Name())
		}
	}
}
