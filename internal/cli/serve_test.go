package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
)

// A second serve beside one that another process runs is refused with what ends that one: nothing stops a server that is not there yet.
func TestServeBesideAnother(t *testing.T) {
	t.Parallel()
	me, err := owner.Here(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		serves     bool
		noted      bool
	}{
		{"at work", "hint: " + untilItServes + "\n", false, false},
		{"starting, and named", "has a server already: theirs, of another `dalirun serve`; it is starting: ", true, false},
		{"starting", "hint: " + untilItServes + "\n", true, false},
		{"serving, and named", "has a server already: theirs, of another `dalirun serve`; it is not healthy: ", true, true},
		{"serving", "hint: `dalirun stop --workspace WORKSPACE && dalirun serve", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := worlds(t, "stocked")
			engine := dockertest.New(t, w.fake())
			workspace := filepath.Join(t.TempDir(), ".dalirun")
			if err := owner.MakeWorkspace(workspace); err != nil {
				t.Fatal(err)
			}
			other := flock.New(serveLock(workspace))
			if ok, err := other.TryLock(); err != nil || !ok {
				t.Fatal(ok, err)
			}
			t.Cleanup(func() { _ = other.Close() })
			if tt.serves {
				engine.Leave(container.Summary{Name: "theirs", Running: true, Labels: container.Labels{
					container.LabelRun: "r1", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
					container.LabelRole: string(container.RoleServer),
				}})
				live, err := owner.Acquire(workspace, "r1")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = live.Release() })
			}
			if tt.noted {
				if err := owner.NoteServer(workspace, owner.ServerFile{Container: "c", Run: "r1", Command: []string{"serve"}}); err != nil {
					t.Fatal(err)
				}
			}
			var stderr bytes.Buffer
			a := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "XDG_CACHE_HOME": t.TempDir()}, &bytes.Buffer{}, &stderr)
			code := a.Run(t.Context(), []string{"serve", "--accel", "cpu", "--weights", "random:0", "--workspace", workspace})
			if want := strings.ReplaceAll(tt.want, "WORKSPACE", workspace); code != ExitEnvironment || !strings.Contains(stderr.String(), want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, ExitEnvironment, want, &stderr)
			}
		})
	}
}

// A workspace that did not exist before is its serve's alone as well, and free again when that has ended.
func TestServeInANewWorkspace(t *testing.T) {
	t.Parallel()
	w, _ := worlds(t, "stocked")
	w.hangs, w.begun = "export_onnx.py", make(chan struct{})
	engine := dockertest.New(t, w.fake())
	workspace := filepath.Join(t.TempDir(), ".dalirun")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	held := make(chan error, 1)
	go func() {
		<-w.begun
		other := flock.New(serveLock(workspace))
		ok, err := other.TryLock()
		if ok {
			err = errors.New("another process could serve the workspace")
		}
		held <- err
		cancel(&SignalError{Signal: os.Interrupt})
	}()
	var out bytes.Buffer
	a := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "XDG_CACHE_HOME": t.TempDir()}, &out, &out)
	if code := a.Run(ctx, []string{"serve", "--accel", "cpu", "--weights", "random:0", "--workspace", workspace}); code != ExitSIGINT {
		t.Fatalf("exit code %d\n%s", code, &out)
	}
	if err := <-held; err != nil {
		t.Error(err)
	}
	after := flock.New(serveLock(workspace))
	if ok, err := after.TryLock(); err != nil || !ok {
		t.Errorf("it is locked after the end: %t, %v", ok, err)
	}
	_ = after.Close()
}
