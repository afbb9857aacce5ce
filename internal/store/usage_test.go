package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Bytes count once, whatever has them, and are lost once nothing has them any more.
func TestUsage(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	folder, outside := s.path("data"), t.TempDir()
	write := func(name string, size int, links ...string) {
		t.Helper()
		path := filepath.Join(folder, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, make([]byte, size), 0o600)
		}
		for _, link := range links {
			if err == nil {
				err = os.MkdirAll(filepath.Dir(link), 0o700)
			}
			if err == nil {
				err = os.Link(path, link)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("a/alone", 1)
	write("a/shared", 10, filepath.Join(folder, "b/shared"))
	write("a/served", 100, filepath.Join(outside, "served"))
	write("b/stays", 1000)
	all, err := s.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := all.Bytes() - before.Bytes(); got != 1111 {
		t.Errorf("all takes %d bytes, want 1111", got)
	}
	of := func(name string) Evicted {
		u, err := usageOf(t.Context(), filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return Evicted{usage: u}
	}
	a := of("a")
	left := all.Without([]Evicted{a})
	if got := left.Bytes() - before.Bytes(); got != 1010 {
		t.Errorf("without a, %d bytes are left, want 1010", got)
	}
	if got, want := all.LossTo(left), (Loss{Freed: 1, Results: 10, Workspaces: 100}); got != want {
		t.Errorf("the loss of a is %+v, want %+v", got, want)
	}
	if got, want := all.LossTo(all.Without([]Evicted{a, of("b")})), (Loss{Freed: 1011, Workspaces: 100}); got != want {
		t.Errorf("the loss of both is %+v, want %+v", got, want)
	}
	if got := all.LossTo(all); got != (Loss{}) {
		t.Errorf("nothing went, and the loss is %+v", got)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if _, err := s.Usage(ctx); !errors.Is(err, stopped) {
		t.Errorf("stopped: %v", err)
	}
}
