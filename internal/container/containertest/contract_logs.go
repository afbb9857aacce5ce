package containertest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
)

// logOf returns the lines of a container's log, with "!" before those of stderr.
func (s *suite) logOf(t *testing.T, c container.Container, o container.LogOptions) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	got := []string{}
	err := c.Logs(ctx, o, func(l container.LogLine) error {
		if since := time.Since(l.Time); since < -time.Minute || since > time.Hour {
			t.Errorf("%q is stamped %s", l.Text, l.Time)
		}
		if l.Stderr {
			l.Text = "!" + l.Text
		}
		got = append(got, l.Text)
		return nil
	})
	if err != nil {
		t.Errorf("logs: %v", err)
	}
	return got
}

// reopened returns a container as another process finds it.
func (s *suite) reopened(t *testing.T, c container.Container) container.Container {
	t.Helper()
	opened, err := s.Runner.Open(t.Context(), c.ID())
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func testLogs(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("trap", "last\nwords"))
	all := container.LogOptions{Tail: container.AllLines}
	if diff := cmp.Diff([]string{"ready"}, s.logOf(t, s.reopened(t, c), all)); diff != "" {
		t.Errorf("while it runs (-want +got):\n%s", diff)
	}
	before := time.Now()
	if err := c.Stop(t.Context(), wait); err != nil {
		t.Fatal(err)
	}
	exit := s.wait(t, c)
	if after := exit.At.Sub(before); after < -time.Minute || after > wait+time.Minute { // another clock
		t.Errorf("it ended at %s, %s after %s", exit.At, after, before)
	}
	if again := s.wait(t, s.reopened(t, c)); !again.At.Equal(exit.At) {
		t.Errorf("opened after its end: %s, not %s", again.At, exit.At)
	}
	for name, tt := range map[string]struct {
		options container.LogOptions
		want    []string
	}{
		"all":      {all, []string{"ready", "last", "words"}},
		"followed": {container.LogOptions{Tail: container.AllLines, Follow: true}, []string{"ready", "last", "words"}},
		"two":      {container.LogOptions{Tail: 2}, []string{"last", "words"}},
		"more":     {container.LogOptions{Tail: 100}, []string{"ready", "last", "words"}},
		"none":     {container.LogOptions{}, []string{}},
		"recent": {
			container.LogOptions{Tail: container.AllLines, Since: before.Add(-time.Hour)}, []string{"ready", "last", "words"},
		},
		"two recent": {container.LogOptions{Tail: 2, Since: before.Add(-time.Hour)}, []string{"last", "words"}},
		"to come":    {container.LogOptions{Tail: container.AllLines, Since: before.Add(time.Hour)}, []string{}},
	} {
		if diff := cmp.Diff(tt.want, s.logOf(t, s.reopened(t, c), tt.options)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func testLogStreams(t *testing.T, s *suite) {
	t.Helper()
	c, err := s.Runner.Run(t.Context(), s.spec("print", "to stdout\nunfinished", "to stderr"), container.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	s.wait(t, c)
	got := map[bool][]string{}
	for _, line := range s.logOf(t, c, container.LogOptions{Tail: container.AllLines}) { // of two streams in any order
		text, stderr := strings.CutPrefix(line, "!")
		got[stderr] = append(got[stderr], text)
	}
	want := map[bool][]string{false: {"to stdout", "unfinished"}, true: {"to stderr"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// testLogSince holds that a time of the log itself selects the line of that time and those after it.
func testLogSince(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("trap", "drained"))
	<-time.After(10*time.Millisecond + s.Times.Lines) // so that the lines have other times, however coarse they are
	if err := c.Stop(t.Context(), wait); err != nil {
		t.Fatal(err)
	}
	s.wait(t, c)
	var last time.Time
	if err := c.Logs(t.Context(), container.LogOptions{Tail: 1}, func(l container.LogLine) error {
		last = l.Time
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := s.logOf(t, c, container.LogOptions{Tail: container.AllLines, Since: last})
	if diff := cmp.Diff([]string{"drained"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// testLogFollow follows a container that writes much at its very end: no line is lost, and none comes twice.
func testLogFollow(t *testing.T, s *suite) {
	t.Helper()
	many, long := strings.Repeat("line\n", 20_000)+"unfinished", strings.Repeat("x", 50_000)
	for _, last := range []string{"drained", many, long} {
		c, _ := s.ready(t, s.spec("trap", last))
		ready := make(chan struct{})
		var got []string
		var err error
		var following sync.WaitGroup
		following.Go(func() {
			options := container.LogOptions{Tail: container.AllLines, Follow: true}
			err = s.reopened(t, c).Logs(t.Context(), options, func(l container.LogLine) error {
				if got = append(got, l.Text); len(got) == 1 {
					close(ready)
				}
				return nil
			})
		})
		select {
		case <-ready:
		case <-time.After(wait):
			t.Fatalf("no line within %s", wait)
		}
		if stopErr := c.Stop(t.Context(), wait); stopErr != nil {
			t.Error(stopErr)
		}
		following.Wait()
		if err != nil {
			t.Errorf("follow: %v", err)
		}
		want := strings.Split("ready\n"+last, "\n")
		if s.CutsLine {
			got = uncut(t, got, want)
		}
		if !cmp.Equal(want, got) {
			t.Errorf("got %d lines, want %d: %.200q", len(got), len(want), got)
		}
	}
}

// uncut returns lines with the first that is not what is wanted made whole, if it is the beginning of that.
func uncut(t *testing.T, got, want []string) []string {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] && strings.HasPrefix(want[i], got[i]) {
			t.Logf("line %d is cut: %q of %q", i, got[i], want[i])
			return slices.Replace(slices.Clone(got), i, i+1, want[i])
		}
	}
	return got
}

// testLogEnds holds that whoever reads a log can leave it.
func testLogEnds(t *testing.T, s *suite) {
	t.Helper()
	c, _ := s.ready(t, s.spec("ignore"))
	follow := container.LogOptions{Tail: container.AllLines, Follow: true}
	enough := errors.New("enough")
	if err := c.Logs(t.Context(), follow, func(container.LogLine) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("each failed: got %v", err)
	}
	cause := errors.New("interrupt")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := c.Logs(ctx, follow, func(container.LogLine) error {
		cancel(cause)
		return nil
	})
	if !errors.Is(err, cause) {
		t.Errorf("cancelled: got %v", err)
	}
	ended := make(chan error, 1)
	reached := make(chan struct{})
	go func() {
		ended <- c.Logs(t.Context(), follow, func(container.LogLine) error {
			close(reached)
			return nil
		})
	}()
	<-reached
	if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("removed: got %v", err)
		}
	case <-time.After(wait):
		t.Errorf("removed: it is still followed after %s", wait)
	}
	err = c.Logs(t.Context(), container.LogOptions{Tail: 1}, func(container.LogLine) error { return nil })
	if !errors.Is(err, container.ErrNotFound) {
		t.Errorf("of what was removed: got %v", err)
	}
}
