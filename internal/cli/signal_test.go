package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/triton"
)

// A signal while a container works ends the run with its own code, and leaves no container and no result behind.
func TestSignal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		signal os.Signal
		want   ExitCode
		says   string
	}{
		{os.Interrupt, ExitSIGINT, "✗ stopped by Ctrl-C (SIGINT)\n"},
		{syscall.SIGTERM, ExitSIGTERM, "✗ stopped by SIGTERM\n"},
		{syscall.SIGHUP, ExitSIGHUP, "✗ stopped by SIGHUP\n"},
	} {
		t.Run(tt.signal.String(), func(t *testing.T) {
			t.Parallel()
			w, _ := worlds(t, "stocked")
			w.hangs, w.begun = "export_onnx.py", make(chan struct{})
			engine := dockertest.New(t, w.fake())
			dir := t.TempDir()
			ctx, cancel := stopped(t.Context(), w.begun, tt.signal)
			defer cancel()
			var stdout, stderr bytes.Buffer
			app := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir}, &stdout, &stderr)
			got := app.Run(ctx, []string{"setup", "--accel", "cpu", "--weights", "random:0", "--workspace", filepath.Join(dir, "w")})
			if got != tt.want {
				t.Errorf("exit code %d, want %d; stderr:\n%s", got, tt.want, stderr.String())
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout has %q", stdout.String())
			}
			if !strings.Contains(stderr.String(), tt.says) {
				t.Errorf("stderr does not name the signal:\n%s", stderr.String())
			}
			if left := engine.Containers(); len(left) > 0 {
				t.Errorf("containers are left: %+v", left)
			}
			if made, _ := filepath.Glob(filepath.Join(dir, ".cache", "dalirun", "entries", "*", "*", "files", "model.onnx")); len(made) > 0 {
				t.Errorf("half a result is in the cache: %v", made)
			}
		})
	}
}

// A foreground server that is asked to stop is drained: that is what it was started for, and no error.
func TestServeUntilSignal(t *testing.T) {
	t.Parallel()
	w, _ := worlds(t, "stocked")
	engine := dockertest.New(t, w.fake())
	dir := t.TempDir()
	stdout := &watcher{word: "ready: grpc", seen: make(chan struct{})}
	ctx, cancel := stopped(t.Context(), stdout.seen, syscall.SIGTERM)
	defer cancel()
	var stderr bytes.Buffer
	app := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir}, stdout, &stderr)
	workspace, file := filepath.Join(dir, "w"), filepath.Join(dir, "r"+record.Suffix)
	got := app.Run(ctx, []string{"serve", "--accel", "cpu", "--weights", "random:0", "--workspace", workspace, "--record", file})
	if got != ExitOK {
		t.Errorf("exit code %d, want %d; stderr:\n%s", got, ExitOK, stderr.String())
	}
	if left := engine.Containers(); len(left) > 0 {
		t.Errorf("containers are left: %+v", left)
	}
	drained := false
	for _, r := range engine.Requests() {
		drained = drained || strings.HasPrefix(r, "POST /containers/") && strings.Contains(r, "/stop?t=35")
	}
	if !drained {
		t.Errorf("the server was not asked to stop with time to drain: %q", engine.Requests())
	}
	if _, err := os.Stat(owner.ServerPath(workspace)); !os.IsNotExist(err) {
		t.Errorf("the server file: %v, want none", err)
	}
	r, err := record.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	var statistics []triton.Statistics
	if err := r.Decode(record.StatisticsFile, &statistics); err != nil || len(statistics) == 0 || record.Summarize(r).Outcome != record.Passed {
		t.Errorf("%+v, %v, %s", statistics, err, record.Summarize(r).Outcome)
	}
}

// Who follows a log ends that by a signal, which is no error; without --follow it is one.
func TestFollowUntilSignal(t *testing.T) {
	t.Parallel()
	w, _ := worlds(t, "stocked")
	engine := dockertest.New(t, w.fake())
	dir := t.TempDir()
	env := map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir}
	workspace := filepath.Join(dir, "w")
	run := func(ctx context.Context, stdout io.Writer, args ...string) (ExitCode, string) {
		var stderr bytes.Buffer
		code := appIn(env, stdout, &stderr).Run(ctx, append(args, "--workspace", workspace))
		return code, stderr.String()
	}
	if code, stderr := run(t.Context(), io.Discard, "serve", "--detach", "--accel", "cpu", "--weights", "random:0"); code != ExitOK {
		t.Fatalf("serve: exit code %d\n%s", code, stderr)
	}
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		stdout := &watcher{word: "at work", seen: make(chan struct{})}
		ctx, cancel := stopped(t.Context(), stdout.seen, signal)
		defer cancel()
		if code, stderr := run(ctx, stdout, "logs", "--follow"); code != ExitOK || stderr != "" {
			t.Errorf("%s: exit code %d\n%s", signal, code, stderr)
		}
	}
	at := make(chan struct{})
	close(at)
	ctx, cancel := stopped(t.Context(), at, os.Interrupt)
	defer cancel()
	<-ctx.Done()
	if code, stderr := run(ctx, io.Discard, "logs"); code != ExitSIGINT {
		t.Errorf("not followed: exit code %d\n%s", code, stderr)
	}
	if code, stderr := run(t.Context(), io.Discard, "stop"); code != ExitOK {
		t.Errorf("stop: exit code %d\n%s", code, stderr)
	}
}

// A foreground server with a dead model has nothing to drain: Triton would wait 30 s for it.
func TestServeOfADeadModelUntilSignal(t *testing.T) {
	t.Parallel()
	w, _ := worlds(t, "dying") // as it is asked for the second time, which is after the signal
	engine := dockertest.New(t, w.fake())
	dir := t.TempDir()
	stdout := &watcher{word: "ready: grpc", seen: make(chan struct{})}
	ctx, cancel := stopped(t.Context(), stdout.seen, syscall.SIGTERM)
	defer cancel()
	var stderr bytes.Buffer
	app := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir}, stdout, &stderr)
	app.watch = serving.Watch{Every: time.Hour, InARow: 1}
	got := app.Run(ctx, []string{"serve", "--accel", "cpu", "--weights", "random:0", "--workspace", filepath.Join(dir, "w")})
	if got != ExitOK {
		t.Errorf("exit code %d, want %d; stderr:\n%s", got, ExitOK, stderr.String())
	}
	if left := engine.Containers(); len(left) > 0 {
		t.Errorf("containers are left: %+v", left)
	}
	ended := slices.DeleteFunc(engine.Requests(), func(r string) bool { return !strings.Contains(r, "/kill?") && !strings.Contains(r, "/stop?") })
	if len(ended) == 0 || !strings.HasSuffix(ended[0], "/kill?signal=KILL") {
		t.Errorf("it was not ended at once: %q", ended)
	}
}

// watcher closes seen when it has seen word.
type watcher struct {
	word string
	seen chan struct{}
	once sync.Once
	text strings.Builder
}

// Write keeps p.
func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if strings.Contains(w.text.String(), w.word) {
		w.once.Do(func() { close(w.seen) })
	}
	return n, err
}

// A run that a signal ends leaves one whole JSON object on stdout.
func TestSignalJSON(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"setup", "e2e"} {
		w, _ := worlds(t, "stocked")
		w.hangs, w.begun = "export_onnx.py", make(chan struct{})
		engine := dockertest.New(t, w.fake())
		dir := t.TempDir()
		ctx, cancel := stopped(t.Context(), w.begun, syscall.SIGTERM)
		defer cancel()
		var stdout, stderr bytes.Buffer
		app := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir}, &stdout, &stderr)
		got := app.Run(ctx, []string{command, "--accel", "cpu", "--weights", "random:0", "--format", "json", "--workspace", filepath.Join(dir, "w")})
		var r report.Report
		if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || got != ExitSIGTERM || r.Verdict != report.Cancelled {
			t.Errorf("%s: %d, %v\n%s%s", command, got, err, stdout.String(), stderr.String())
		}
	}
}

// What others wrote into a container's labels makes no lines and no escapes in what is listed.
func TestListedLabels(t *testing.T) {
	t.Parallel()
	w, _ := worlds(t, "cold")
	engine := dockertest.New(t, w.fake())
	engine.Leave(container.Summary{Name: "evil", Running: true, Labels: container.Labels{
		container.LabelRun: "r1\n" + evil, container.LabelHost: "other\n" + evil, container.LabelWorkspace: "/w\nfake  serve  running\t" + evil,
		container.LabelStep: "serve\n" + evil, container.LabelRole: string(container.RoleBatch), container.LabelExpires: "2020-01-01T00:00:00Z",
	}})
	env := map[string]string{"DOCKER_HOST": engine.Host(), "HOME": t.TempDir()}
	for _, c := range []struct {
		args  []string
		lines int
	}{{[]string{"ps"}, 2}, {[]string{"gc", "--dry-run", "--foreign"}, 2}} {
		var stdout, stderr bytes.Buffer
		code := appIn(env, &stdout, &stderr).Run(t.Context(), c.args)
		isHarmless(t, "stdout", stdout.String())
		if lines := strings.Count(stdout.String(), "\n"); code != ExitOK || lines != c.lines {
			t.Errorf("%q: it ended with %d after %d lines, not %d:\n%s%s", c.args, code, lines, c.lines, stdout.String(), stderr.String())
		}
		stdout.Reset()
		appIn(env, &stdout, &stderr).Run(t.Context(), append(c.args, "--format", "json"))
		isHarmless(t, "JSON", stdout.String())
		if !json.Valid(stdout.Bytes()) {
			t.Errorf("%q: no JSON:\n%s", c.args, stdout.String())
		}
	}
}
