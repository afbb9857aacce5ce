package ui

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

func TestLogSink(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs", "r1")
	l := NewLogSink(dir)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("the folder is there before there is anything to write: %v", err)
	}
	for _, e := range story() {
		l.Emit(e.event())
	}
	l.Emit(timedEvent{0, "../evil", pipeline.Line{Text: "x"}}.event())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Emit(timedEvent{0, "serve", pipeline.Line{Text: "late"}}.event())

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = strings.Count(string(b), "\n")
	}
	want := map[string]int{"events.jsonl": len(story()) + 1, "export-onnx.log": 3, "build-engine.log": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines by file (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	if got := l.LogPath("build-engine"); got != filepath.Join(dir, "build-engine.log") {
		t.Errorf("LogPath: %q", got)
	}
	if got := l.LogPath("serve"); got != "" {
		t.Errorf("LogPath of a step without output: %q", got)
	}
	b, err := os.ReadFile(l.LogPath("build-engine"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b), "2026-08-23T10:15:49.000Z [E] Could not find any implementation for node …\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLogSinkTellsOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := NewLogSink(filepath.Join(file, "logs")) // cannot be: its parent is a file
	for range 3 {
		l.Emit(timedEvent{0, "serve", pipeline.Line{Text: "x"}}.event())
	}
	err := l.Close()
	if err == nil || strings.Count(err.Error(), "not a directory") != 1 {
		t.Errorf("Close returned %v", err)
	}
	if got := l.LogPath("serve"); got != "" {
		t.Errorf("LogPath of a log that is not there: %q", got)
	}
	if err := l.Close(); err != nil {
		t.Errorf("the second Close returned %v", err)
	}
}

// A step's log that cannot be written costs that log alone.
func TestLogSinkGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "serve.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := NewLogSink(dir)
	l.Emit(timedEvent{0, "serve", pipeline.Line{Text: "x"}}.event())
	l.Emit(timedEvent{0, "verify", pipeline.Line{Text: "y"}}.event())
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "serve.log") {
		t.Errorf("Close returned %v", err)
	}
	if b, err := os.ReadFile(l.LogPath("verify")); err != nil || !strings.HasSuffix(string(b), " y\n") {
		t.Errorf("the other log: %q, %v", b, err)
	}
}

// A log is read with cat: what a container prints there must not reach the terminal as more than text.
func TestLogIsHarmless(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := NewLogSink(dir)
	l.Emit(pipeline.Event{Step: "serve", Payload: pipeline.Line{Text: "\x1b]52;c;ZXZpbA==\x07\x1b[2Jred\u009b31m \u202eevil"}})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"serve.log": " red31m evil\n", "events.jsonl": `\u009b31m \u202eevil"`} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), want) || strings.ContainsAny(string(b), "\x1b\x07\u009b\u202e") {
			t.Errorf("%s has %q, want %q and nothing that a terminal obeys", name, b, want)
		}
	}
}
