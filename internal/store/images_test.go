package store_test

import (
	"context"
	"errors"
	"testing"
	"time"
)

// An image that a run holds stays; one that none does goes, and with it what was noted of it.
func TestImages(t *testing.T) {
	t.Parallel()
	s := open(t)
	if used := s.ImageUsed("a:1"); !used.IsZero() {
		t.Errorf("used at %s without a run", used)
	}
	before := time.Now().Add(-time.Second)
	release, err := s.HoldImages(t.Context(), "a:1", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.HoldImages(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	if used := s.ImageUsed("a:1"); used.Before(before) {
		t.Errorf("used at %s", used)
	}
	removed := 0
	remove := func() error { removed++; return nil }
	for _, refs := range [][]string{{"a:1"}, {"c:1", "b:1"}} {
		held, err := s.ImageHeld(refs)
		if !held || err != nil {
			t.Errorf("%q is held: %t, %v", refs, held, err)
		}
		if done, err := s.TakeImage(refs, remove); done || err != nil || removed > 0 {
			t.Errorf("%q is taken: %t, %v", refs, done, err)
		}
	}
	if !s.ImageUsed("c:1").IsZero() {
		t.Error("to be refused is a use")
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if done, err := s.TakeImage([]string{"b:1"}, remove); !done || err != nil || removed != 1 {
		t.Errorf("what was released is taken: %t, %v", done, err)
	}
	if done, err := s.TakeImage([]string{"a:1"}, remove); done || err != nil {
		t.Errorf("what another run holds is taken: %t, %v", done, err)
	}
	if err := second(); err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("a container is of it")
	if done, err := s.TakeImage([]string{"a:1"}, func() error { return wrong }); done || !errors.Is(err, wrong) {
		t.Errorf("what could not be removed is taken: %t, %v", done, err)
	}
	if s.ImageUsed("a:1").IsZero() {
		t.Error("what was not removed is forgotten")
	}
	if done, err := s.TakeImage([]string{"a:1"}, remove); !done || err != nil {
		t.Errorf("it is taken: %t, %v", done, err)
	}
	wantEmpty(t, s, "images")
}

// A run waits for the end of a removal.
func TestHoldWaits(t *testing.T) {
	t.Parallel()
	s := open(t)
	done, err := s.TakeImage([]string{"a:1"}, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := s.HoldImages(ctx, "a:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it is held while it is removed: %v", err)
		}
		return nil
	})
	if !done || err != nil {
		t.Fatal(done, err)
	}
	release, err := s.HoldImages(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
