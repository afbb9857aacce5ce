package store_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

func TestNotes(t *testing.T) {
	t.Parallel()
	s := open(t)
	last := func(workspace string, id pipeline.ID) pipeline.Facts {
		t.Helper()
		f, err := s.Last(workspace, id)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := last("/w", "serve"); f != nil {
		t.Errorf("before any note there is %v", f)
	}
	want := pipeline.Facts{"gpu": "H100", "argv": "--fp16"}
	if err := s.Note("/w", "serve", want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, last("/w", "serve")); diff != "" {
		t.Error(diff)
	}
	if last("/other", "serve") != nil || last("/w", "verify") != nil {
		t.Error("a note of one step in one workspace is another's, too")
	}
	if err := s.Note("/w", "verify", nil); err != nil {
		t.Fatal(err)
	}
	if last("/w", "verify") == nil {
		t.Error("a result without facts is none")
	}
	for _, path := range glob(t, s, "last/*/serve.json") {
		if err := os.WriteFile(path, []byte(`{"workspace":"/w","fac`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if f := last("/w", "serve"); f != nil {
		t.Errorf("a damaged note says %v", f)
	}
	if err := s.Note("/w", "serve", want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, last("/w", "serve")); diff != "" {
		t.Error(diff)
	}
	wantEmpty(t, s, "tmp")
}

func TestRefs(t *testing.T) {
	t.Parallel()
	s := open(t)
	if v, ok := s.Recall("image a"); ok {
		t.Errorf("it remembers %q without having been told", v)
	}
	for _, v := range []string{"sha256:1", "sha256:2", "sha256:2", ""} {
		if err := s.Remember("image a", v); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Recall("image a"); !ok || got != v {
			t.Errorf("it remembers %q, %t instead of %q", got, ok, v)
		}
	}
	for _, path := range glob(t, s, "refs/*.json") {
		if err := os.Truncate(path, 3); err != nil {
			t.Fatal(err)
		}
	}
	if v, ok := s.Recall("image a"); ok {
		t.Errorf("a damaged file says %q", v)
	}
	wantEmpty(t, s, "tmp")
}
