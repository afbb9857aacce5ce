package steps_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func TestPretrained(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fetch      fetcher
		want, hint string // empty: it succeeds
	}{
		"good": {fetch: func(_ context.Context, url, path string, onProgress func(int64, int64)) error {
			if url != steps.PretrainedURL {
				return errors.New("another URL: " + url)
			}
			onProgress(5, 10)
			return os.WriteFile(path, pretrained, 0o600)
		}},
		"altered on the way": {
			fetch: func(_ context.Context, _, path string, _ func(int64, int64)) error {
				return os.WriteFile(path, []byte("<html>log in</html>"), 0o600)
			},
			want: "the file's SHA-256 begins with", hint: "run again",
		},
		"empty": {
			fetch: func(_ context.Context, _, path string, _ func(int64, int64)) error {
				return os.WriteFile(path, nil, 0o600)
			},
			want: "the file's SHA-256 begins with e3b0c442, not 11ad3fa6", hint: "run again",
		},
		"unreachable": {
			fetch: func(context.Context, string, string, func(int64, int64)) error { return errors.New("no route to host") },
			want:  "download the pretrained weights: no route to host", hint: "--weights auto",
		},
		"full disk": {
			fetch: func(_ context.Context, _, path string, _ func(int64, int64)) error {
				return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
			},
			want: "download the pretrained weights: write ", hint: "free space on the disk of ",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuNGC(t)
			w.machine.Fetch = tt.fetch
			err := w.run(t, t.Context(), steps.IDWeights)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if f := fault(t, err, pipeline.Environment); !strings.Contains(f.Error(), tt.want) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("got %q with the hint %q, want %q with %q", f, f.Hint, tt.want, tt.hint)
			}
		})
	}
}

// TestPretrainedTakesTooLong checks that a download that hangs ends, and says after how long. The clock is synctest's.
func TestPretrainedTakesTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := cpuNGC(t)
		w.machine.Fetch = fetcher(func(ctx context.Context, _, _ string, _ func(int64, int64)) error {
			<-ctx.Done()
			return ctx.Err()
		})
		began := time.Now()
		f := fault(t, w.run(t, t.Context(), steps.IDWeights), pipeline.Environment)
		if took := time.Since(began); took != 30*time.Minute || !strings.Contains(f.Error(), "no end within 30m0s") {
			t.Errorf("got %q after %s", f, took)
		}
	})
}

// TestFileWeights checks that what a file is known by is its content, whatever its name and time, and that it is hashed
// again only if it changed.
func TestFileWeights(t *testing.T) {
	t.Parallel()
	w := tutorial(t)
	file := w.options.Weights.Path
	first := w.facts(t, steps.IDWeights)
	if want := strings.TrimPrefix(sum("a user's weights"), "sha256:"); first["sha256"] != want {
		t.Errorf("facts %v, want the digest %s", first, want)
	}
	wrote := w.memo.wrote
	if again := w.facts(t, steps.IDWeights); !maps.Equal(again, first) || w.memo.wrote != wrote {
		t.Errorf("asked again: %v, %d values more remembered", again, w.memo.wrote-wrote)
	}
	w.memo.plant(t, "known to the memo")
	if got := w.facts(t, steps.IDWeights)["sha256"]; got != "known to the memo" {
		t.Errorf("a file that did not change was hashed again: %s", got)
	}

	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(file, later, later); err != nil {
		t.Fatal(err)
	}
	if touched := w.facts(t, steps.IDWeights); !maps.Equal(touched, first) {
		t.Errorf("touched: %v, want %v", touched, first)
	}
	if err := os.WriteFile(file, []byte("other weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed := w.facts(t, steps.IDWeights); maps.Equal(changed, first) {
		t.Errorf("changed: still %v", changed)
	}
	if err := w.run(t, t.Context(), steps.IDWeights); err != nil {
		t.Fatal(err)
	}
	if copied := read(t, w.values[w.step(steps.IDWeights).Outputs()[0]].Path); string(copied) != "other weights" {
		t.Errorf("the copy holds %q", copied)
	}
}

// plant changes every value that is remembered.
func (m *memo) plant(t *testing.T, value string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.said {
		m.said[key] = value
	}
}

func TestFileWeightsCannotBeRead(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare func(path string) error
		want    string
	}{
		"absent": {func(string) error { return nil }, "no such file"},
		"folder": {func(path string) error { return os.Mkdir(path, 0o700) }, "is not a file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := tutorial(t)
			w.options.Weights.Path = filepath.Join(w.dir, "other.pth")
			if err := tt.prepare(w.options.Weights.Path); err != nil {
				t.Fatal(err)
			}
			w.wantUnreadable(t, tt.want)
		})
	}
}

// wantUnreadable checks that the weights cannot be read because of want.
func (w *world) wantUnreadable(t *testing.T, want string) {
	t.Helper()
	_, err := w.builder(t, steps.IDWeights).Facts(t.Context(), nil)
	f := fault(t, err, pipeline.Environment)
	if !strings.Contains(f.Error(), want) || !strings.Contains(f.Error(), w.options.Weights.Path) || !strings.Contains(f.Hint, "--weights") {
		t.Errorf("got %q with the hint %q, want %q", f, f.Hint, want)
	}
}

// TestFileWeightsAreGone checks a file that is removed between the plan and the run.
func TestFileWeightsAreGone(t *testing.T) {
	t.Parallel()
	w := tutorial(t)
	if err := os.Remove(w.options.Weights.Path); err != nil {
		t.Fatal(err)
	}
	err := w.run(t, t.Context(), steps.IDWeights)
	if f := fault(t, err, pipeline.Environment); !errors.Is(f, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestTrusted checks whose weights torch may unpickle without a guard: ours alone.
func TestTrusted(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, id := range []pipeline.ID{steps.IDExportONNX, steps.IDReference} {
				argv := w.facts(t, id)["argv"]
				if got, want := strings.Contains(argv, "--trusted"), w.options.Weights.Kind != steps.File; got != want {
					t.Errorf("%s trusts %s weights: %t (%s)", id, w.options.Weights.Kind, got, argv)
				}
			}
		})
	}
}
