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

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// TestPretrained checks that what was downloaded is taken only if all of it is what torchvision published.
func TestPretrained(t *testing.T) {
	t.Parallel()
	const (
		url   = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
		whole = "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca"
		from  = "came from https://mirror.example/download.pytorch.org/models/resnet50-11ad3fa6.pth; expected were 102540417 bytes with the SHA-256 " + whole
	)
	tests := map[string]struct {
		fetch      fetcher
		want, hint string
	}{
		// Its SHA-256 begins as that of torchvision's file does, with all that the file's name has of it. It was searched for.
		"a collision of the name": {
			gives("pretrained 2244842349"), "21 bytes with the SHA-256 11ad3fa6f4a9a2da804e7f8e430cdce1d269d8e39279d4d50111ddcab60f1608 " + from, "run again",
		},
		"altered on the way": {gives("<html>log in</html>"), "19 bytes with the SHA-256 ", "run again"},
		"empty":              {gives(""), "0 bytes with the SHA-256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 " + from, "run again"},
		"unreachable": {
			func(context.Context, string, string, int64, func(int64, int64)) (string, error) {
				return "", errors.New("no route to host")
			},
			"download the pretrained weights: no route to host", "use --weights FILE.pth with a copy of " + url + ", or --weights auto",
		},
		"full disk": {
			func(_ context.Context, _, path string, _ int64, _ func(int64, int64)) (string, error) {
				return "", &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
			},
			"download the pretrained weights: write ", "free space on the disk of ",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := cpuNGC(t)
			w.target.Weights = target.PretrainedWeights(resnet50(t))
			w.tools.Fetcher = fetcher(func(ctx context.Context, source, path string, most int64, onProgress func(int64, int64)) (string, error) {
				if source != url || most != 102540417 {
					t.Errorf("at most %d bytes of %s are asked for", most, source)
				}
				return tt.fetch(ctx, source, path, most, onProgress)
			})
			if facts := w.facts(t, steps.IDWeights); facts["url"] != url || facts["sha256"] != whole {
				t.Errorf("the facts are %v", facts)
			}
			err := w.run(t, t.Context(), steps.IDWeights)
			if f := fault(t, err, pipeline.Environment); !strings.Contains(f.Error(), tt.want) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("got %q with the hint %q, want %q with %q", f, f.Hint, tt.want, tt.hint)
			}
		})
	}
}

// TestPretrainedWhole checks that the right content is taken, and that the right bytes before or after others are not it.
func TestPretrainedWhole(t *testing.T) {
	t.Parallel()
	for content, good := range map[string]bool{
		"what torchvision's weights are in these tests":   true,
		"what torchvision's weights are in these test":    false,
		"what torchvision's weights are in these tests\n": false,
		"What torchvision's weights are in these tests":   false,
	} {
		w := cpuNGC(t)
		w.tools.Fetcher = gives(content)
		if err := w.run(t, t.Context(), steps.IDWeights); (err == nil) != good {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// TestPretrainedTakesTooLong checks that a download that hangs ends, and says after how long. The clock is synctest's.
func TestPretrainedTakesTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := cpuNGC(t)
		w.tools.Fetcher = fetcher(func(ctx context.Context, _, _ string, _ int64, _ func(int64, int64)) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
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
	file := w.target.Weights.Path
	first := w.facts(t, steps.IDWeights)
	if want := strings.TrimPrefix(sum("a user's weights"), "sha256:"); first["sha256"] != want {
		t.Errorf("facts %v, want the digest %s", first, want)
	}
	wrote := w.kv.wrote
	if again := w.facts(t, steps.IDWeights); !maps.Equal(again, first) || w.kv.wrote != wrote {
		t.Errorf("asked again: %v, %d values more remembered", again, w.kv.wrote-wrote)
	}
	w.kv.plant(t, "known to the KV")
	if got := w.facts(t, steps.IDWeights)["sha256"]; got != "known to the KV" {
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
func (m *memoryKV) plant(t *testing.T, value string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.values {
		m.values[key] = value
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
			w.target.Weights.Path = filepath.Join(w.dir, "other.pth")
			if err := tt.prepare(w.target.Weights.Path); err != nil {
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
	if !strings.Contains(f.Error(), want) || !strings.Contains(f.Error(), w.target.Weights.Path) || !strings.Contains(f.Hint, "--weights") {
		t.Errorf("got %q with the hint %q, want %q", f, f.Hint, want)
	}
}

// TestFileWeightsAreGone checks a file that is removed between the plan and the run.
func TestFileWeightsAreGone(t *testing.T) {
	t.Parallel()
	w := tutorial(t)
	if err := os.Remove(w.target.Weights.Path); err != nil {
		t.Fatal(err)
	}
	err := w.run(t, t.Context(), steps.IDWeights)
	if f := fault(t, err, pipeline.Environment); !errors.Is(f, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestTrusted checks whose weights a PyTorch without weights_only may read: those whose content is known. What others do with them is in
// integration/python/resnet50_test.py.
func TestTrusted(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, id := range []pipeline.ID{steps.IDExportONNX, steps.IDReference} {
				argv := w.facts(t, id)["argv"]
				if got, want := strings.Contains(argv, "--trusted"), w.target.Weights.Kind != target.File; got != want {
					t.Errorf("%s trusts %s weights: %t (%s)", id, w.target.Weights.Kind, got, argv)
				}
			}
		})
	}
}

// What torch.save wrote, by PyTorch 1.6 and by older ones, is told from other files by how it begins.
func TestCheckCheckpoint(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		want    error
	}{
		"a ZIP archive":               {"PK\x03\x04\x00\x00", nil},
		"a pickle as torch.save does": {"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", nil},
		"a pickle of protocol 4":      {"\x80\x04\x95", nil},
		"text":                        {"root:x:0:0:root:/root:/bin/bash\n", steps.ErrNoCheckpoint},
		"an empty file":               {"", steps.ErrNoCheckpoint},
		"one byte":                    {"\x80", steps.ErrNoCheckpoint},
		"half a magic number":         {"PK\x03", steps.ErrNoCheckpoint},
		"an empty ZIP archive":        {"PK\x05\x06", steps.ErrNoCheckpoint},
		"an ONNX model":               {"\x08\x07\x12\x07pytorch", steps.ErrNoCheckpoint},
		"safetensors":                 {"\x40\x00\x00\x00\x00\x00\x00\x00{}", steps.ErrNoCheckpoint},
	} {
		path := filepath.Join(t.TempDir(), "w.pth")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := steps.CheckCheckpoint(path); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := steps.CheckCheckpoint(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
