//go:build unix

package docker

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// An engine behind ssh that does not answer costs no more than the deadline, also where a master of ControlMaster has the pipes of the
// ssh that began it.
func TestFrozenOverSSH(t *testing.T) {
	bin := t.TempDir()
	pids := filepath.Join(bin, "pids")
	// Each is the leader of a session of its own.
	write(t, filepath.Join(bin, "ssh"), "#!/bin/sh\necho $$ >>"+pids+"\nsleep 300 & wait\n", 0o700)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Cleanup(func() {
		text, _ := os.ReadFile(pids)
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				_ = syscall.Kill(-pid, syscall.SIGKILL) // it may have ended
			}
		}
	})
	r, err := New(Options{Host: "ssh://me@far.example", Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	const limit = 200 * time.Millisecond
	r.infoLimit = limit
	stopped := errors.New("stopped by the test")
	for question, c := range map[string]struct {
		ask  func(context.Context) error
		want string
	}{
		"info":  {func(ctx context.Context) error { _, err := r.Info(ctx); return err }, "does not answer at ssh://me@far.example: no reply within 200ms"},
		"image": {func(ctx context.Context) error { _, err := r.Resolve(ctx, "a:b"); return err }, "image a:b: stopped by the test"},
		"attach": {func(ctx context.Context) error {
			_, err := (&handle{runtime: r, id: "a", name: "a"}).attach(ctx, ctx, container.Streams{Stdout: io.Discard})
			return err
		}, "attach to a: stopped by the test"},
		"closing": {func(context.Context) error { return errors.Join(r.Close(), stopped) }, ""},
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*limit, stopped)
		ended := make(chan error, 1)
		go func() { ended <- c.ask(ctx) }()
		select {
		case err := <-ended:
			if !errors.Is(err, stopped) && !errors.Is(err, container.ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", question, err, c.want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it has not ended after 20 s", question)
		}
		cancel()
	}
}
