package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/store"
)

// keep writes a file and keeps it as the timing cache of a name.
func keep(t *testing.T, s *store.Store, name, content string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "timing.cache")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(t.Context(), name, path); err != nil {
		t.Fatal(err)
	}
}

// load returns the timing cache of a name; "none" if there is none.
func load(t *testing.T, s *store.Store, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "timing.cache")
	ok, err := s.Load(t.Context(), name, path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if ok != (err == nil) {
		t.Fatalf("it says %t, and the file is %v", ok, err)
	}
	if !ok {
		return "none"
	}
	return string(data)
}

func TestTimingCaches(t *testing.T) {
	t.Parallel()
	s := open(t)
	const h100, t4 = "NVIDIA H100, TensorRT 10.9.0.34", "Tesla T4, TensorRT 10.9.0.34"
	if got := load(t, s, h100); got != "none" {
		t.Errorf("at first there is %q", got)
	}
	for _, content := range []string{"times\n of\x00 kernels", "more times", "more times"} {
		keep(t, s, h100, content)
		if got := load(t, s, h100); got != content {
			t.Errorf("kept %q and loaded %q", content, got)
		}
	}
	keep(t, s, h100, "") // a trtexec that wrote nothing
	if got := load(t, s, h100); got != "more times" {
		t.Errorf("after an empty one there is %q", got)
	}
	if got := load(t, s, t4); got != "none" {
		t.Errorf("that of another GPU is %q", got)
	}
	keep(t, s, t4, "others")
	for range 2 { // what is not there is forgotten, too
		if err := s.Forget(t.Context(), h100); err != nil {
			t.Fatal(err)
		}
		if got, other := load(t, s, h100), load(t, s, t4); got != "none" || other != "others" {
			t.Errorf("after one is forgotten it is %q, and the other one %q", got, other)
		}
	}
	wantEmpty(t, s, "tmp")
}

// What is not whole is none: TensorRT would have to find that out.
func TestDamagedTimingCaches(t *testing.T) {
	t.Parallel()
	damages := map[string]func([]byte) []byte{
		"cut":             func(b []byte) []byte { return b[:len(b)-1] },
		"cut in its head": func(b []byte) []byte { return b[:10] },
		"empty":           func([]byte) []byte { return nil },
		"altered":         func(b []byte) []byte { b[len(b)-2] ^= 1; return b },
		"of another name": func(b []byte) []byte { return bytes.Replace(b, []byte("H100"), []byte("H200"), 1) },
		"grown":           func(b []byte) []byte { return append(b, 'x') },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			keep(t, s, "H100", "times of kernels")
			for _, path := range glob(t, s, "timings/*") {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := load(t, s, "H100"); got != "none" {
				t.Errorf("it loads %q", got)
			}
			keep(t, s, "H100", "times of kernels")
			if got := load(t, s, "H100"); got != "times of kernels" {
				t.Errorf("kept again it is %q", got)
			}
		})
	}
}

func TestTimingCachesAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 20 {
		keep(t, s, fmt.Sprint("GPU ", i), "times")
		for _, path := range glob(t, s, "timings/*") { // so that all are older than the next one, whatever the clock's grain
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			older := info.ModTime().Add(-time.Second)
			if err := os.Chtimes(path, older, older); err != nil {
				t.Fatal(err)
			}
		}
		_ = load(t, s, "GPU 0") // what is used stays
	}
	if n := len(glob(t, s, "timings/*")); n != 16 {
		t.Errorf("%d are kept", n)
	}
	for i, want := range map[int]string{0: "times", 1: "none", 4: "none", 5: "times", 19: "times"} {
		if got := load(t, s, fmt.Sprint("GPU ", i)); got != want {
			t.Errorf("that of GPU %d is %s, want %s", i, got, want)
		}
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, 64<<20+1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(t.Context(), "GPU 0", large); err == nil || !strings.Contains(err.Error(), "67108865 bytes") {
		t.Errorf("one that is too large: %v", err)
	}
}

func TestTimingCacheErrors(t *testing.T) {
	t.Parallel()
	s := open(t)
	keep(t, s, "H100", "times")
	path := filepath.Join(t.TempDir(), "timing.cache")
	if err := os.WriteFile(path, []byte("a user's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "H100", path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file that is there: %v", err)
	}
	if err := s.Keep(t.Context(), "H100", filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if got := load(t, s, "H100"); got != "times" {
		t.Errorf("afterwards there is %q", got)
	}
}

// Builders on one machine keep and load at a time: what is loaded is always what one of them kept.
func TestTimingCachesTogether(t *testing.T) {
	t.Parallel()
	s := open(t)
	contents := []string{strings.Repeat("a", 1000), strings.Repeat("b", 2000)}
	keep(t, s, "H100", contents[0])
	var wg sync.WaitGroup
	for _, content := range contents {
		dir := t.TempDir()
		wg.Go(func() {
			file := filepath.Join(dir, "timing.cache")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Error(err)
			}
			for i := range 20 {
				if err := s.Keep(t.Context(), "H100", file); err != nil {
					t.Error(err)
				}
				to := filepath.Join(dir, strconv.Itoa(i))
				ok, err := s.Load(t.Context(), "H100", to)
				data, readErr := os.ReadFile(to)
				if got := string(data); !ok || err != nil || readErr != nil || got != contents[0] && got != contents[1] {
					t.Errorf("loaded %d bytes, %t, %v, %v", len(data), ok, err, readErr)
				}
			}
		})
	}
	wg.Wait()
	wantEmpty(t, s, "tmp")
}

// TestEvictTimingCaches checks that they go after the entries, and that --cache-size 0 leaves none.
func TestEvictTimingCaches(t *testing.T) {
	t.Parallel()
	s := open(t)
	keep(t, s, "H100", strings.Repeat("t", 1000))
	keep(t, s, "T4", strings.Repeat("t", 1000))
	for _, tt := range []struct {
		most      int64
		dryRun    bool
		gone, are int
	}{{1 << 20, false, 0, 2}, {0, true, 2, 2}, {1500, false, 1, 1}, {0, false, 1, 0}, {0, false, 0, 0}} {
		gone, err := evictOr(t, s, tt.most, tt.dryRun)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range gone {
			if g.Step != "timing-cache" || g.Bytes < 1000 || g.Used.IsZero() {
				t.Errorf("gone is %+v", g)
			}
		}
		left, err := os.ReadDir(filepath.Join(s.Dir(), "timings"))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(left); len(gone) != tt.gone || n != tt.are {
			t.Errorf("to %d bytes: %d are gone and %d are left, want %d and %d", tt.most, len(gone), n, tt.gone, tt.are)
		}
	}
}
