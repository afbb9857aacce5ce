package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
)

// A watch goes on until a signal ends it, and on a terminal it draws in the same place.
func TestWatchUntilSignal(t *testing.T) {
	t.Parallel()
	w, _ := worlds(t, "stocked")
	engine := dockertest.New(t, w.fake())
	dir := t.TempDir()
	workspace := filepath.Join(dir, "w")
	env := map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir, "TERM": "xterm"}
	var stderr bytes.Buffer
	app := appIn(env, &bytes.Buffer{}, &stderr)
	if got := app.Run(t.Context(), []string{"serve", "--detach", "--accel", "cpu", "--weights", "random:0", "--workspace", workspace}); got != ExitOK {
		t.Fatalf("exit code %d:\n%s", got, &stderr)
	}
	args := []string{"status", "--watch", "--interval", "1s", "--workspace", workspace}
	for name, tt := range map[string]struct {
		args   []string
		ci     string
		shows  string // twice, before the signal comes
		absent string
	}{
		"on a terminal": {args, "", "\r\x1b[", ""},
		"in CI":         {args, "true", " is healthy", "\x1b"},
		"as JSON":       {append(slices.Clip(args), "--format", "json"), "", `{"version":1,`, "\x1b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close() //nolint:errcheck // only read
			ctx, cancel := context.WithCancelCause(t.Context())
			screen := make(chan string, 1)
			go func() {
				var text strings.Builder
				buffer := make([]byte, 1<<16)
				for {
					n, err := ours.Read(buffer)
					text.Write(buffer[:n])
					if strings.Count(text.String(), tt.shows) >= 2 {
						cancel(&SignalError{Signal: os.Interrupt})
					}
					if err != nil { // EIO, once the other end is closed
						screen <- text.String()
						return
					}
				}
			}()
			env := map[string]string{"DOCKER_HOST": engine.Host(), "HOME": dir, "TERM": "xterm", "CI": tt.ci}
			var stderr bytes.Buffer
			deadline := time.AfterFunc(time.Minute, func() { cancel(&SignalError{Signal: syscall.SIGTERM}) })
			defer deadline.Stop()
			got := appIn(env, theirs, &stderr).Run(ctx, tt.args)
			if err := theirs.Close(); err != nil {
				t.Error(err)
			}
			text := <-screen
			if got != ExitSIGINT || !strings.Contains(stderr.String(), "stopped by Ctrl-C") {
				t.Errorf("exit code %d, stderr %q, screen\n%q", got, &stderr, text)
			}
			if tt.absent != "" && strings.Contains(text, tt.absent) {
				t.Errorf("it has %q: %q", tt.absent, text)
			}
		})
	}
}
