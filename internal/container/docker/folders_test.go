package docker

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
)

// TestOtherFolders plays engines that see this process's folders, have others at the same paths, or none there.
func TestOtherFolders(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		create, stat func(source string) http.HandlerFunc
		copies       bool
	}{
		"the same":                 {created, sameFile, false},
		"others at the same paths": {created, otherFile, true},
		"none there":               {refused, sameFile, true},
		"a question that a proxy refuses": {created, func(string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := t.TempDir()
			a := &api{answers: map[string]http.HandlerFunc{
				"POST /containers/create": tt.create(source), "HEAD /containers/c/archive": tt.stat(source),
				"POST /containers/c/start": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
				"POST /containers/c/wait":  say(`{"StatusCode":0}`),
			}}
			var notices []string
			r := a.serve(t, Options{Notice: func(text string) { notices = append(notices, text) }})
			spec := container.Spec{Step: "s", Image: "x", Outputs: []container.Mount{{Source: source, Target: "/out"}}}
			for range 2 { // what is found out is not asked again
				_, _ = r.Run(t.Context(), spec, container.Streams{}) // a copy ends at an engine that has no volumes
			}
			if got := r.copies(spec); got != tt.copies {
				t.Errorf("copies: %t, want %t", got, tt.copies)
			}
			want := 2 // the second Run's
			if tt.copies {
				want = 1 + 2 // and that of the first, which found out
			}
			if got := a.count("POST /containers/create"); got != want {
				t.Errorf("%d creations, want %d: %q", got, want, a.requests)
			}
			if tt.copies != (len(notices) == 1) || len(notices) > 1 || tt.copies && !strings.Contains(notices[0], r.endpoint) {
				t.Errorf("told %q", notices)
			}
		})
	}
}

func created(string) http.HandlerFunc { return say(`{"Id":"c"}`) }

// refused refuses the first creation, which has a bind mount.
func refused(source string) http.HandlerFunc {
	text := `invalid mount config for type "bind": bind source path does not exist: ` + source
	return inTurn([]http.HandlerFunc{fail(http.StatusBadRequest, text), created(source)})
}

func sameFile(source string) http.HandlerFunc { return statOf(source, 0) }

func otherFile(source string) http.HandlerFunc { return statOf(source, time.Nanosecond) }

// statOf describes a folder as an engine does, with its time moved by offset.
func statOf(source string, offset time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		about, err := os.Stat(source)
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		text := fmt.Sprintf(`{"name":"out","size":4096,"mode":%d,"mtime":%q}`, uint32(about.Mode()), about.ModTime().Add(offset).Format(time.RFC3339Nano))
		w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString([]byte(text)))
	}
}

// TestSourceThatWent holds that a source which somebody removes meanwhile is no sign of another file system.
func TestSourceThatWent(t *testing.T) {
	t.Parallel()
	source := filepath.Join(t.TempDir(), "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	a := &api{answers: map[string]http.HandlerFunc{"POST /containers/create": func(w http.ResponseWriter, r *http.Request) {
		if err := os.Remove(source); err != nil {
			t.Error(err)
		}
		fail(http.StatusBadRequest, "bind source path does not exist: "+source)(w, r)
	}}}
	r := a.serve(t, Options{})
	spec := container.Spec{Step: "s", Image: "x", Outputs: []container.Mount{{Source: source, Target: "/out"}}}
	if _, err := r.Run(t.Context(), spec, container.Streams{}); err == nil || !strings.Contains(err.Error(), source) || r.copies(spec) {
		t.Errorf("got %v, copies: %t", err, r.copies(spec))
	}
}

func TestLongestPoint(t *testing.T) {
	t.Parallel()
	const mounts = "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n" +
		"23 22 0:5 / /data rw - tmpfs tmpfs rw\n" +
		"24 23 0:6 /x /data/my\\040files rw - ext4 /dev/vdb rw\n" +
		"broken\n"
	got := map[string]string{}
	want := map[string]string{
		"/etc/x": "/", "/data": "/data", "/data/a": "/data", "/database": "/", "/data/my files/b": "/data/my files", "/data/my": "/data",
	}
	for path := range want {
		got[path] = longestPoint(mounts, path)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
