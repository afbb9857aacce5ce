package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

// A second serve beside one that another process runs is refused with what ends that one: nothing stops a server that is not there yet.
func TestServeBesideAnother(t *testing.T) {
	t.Parallel()
	me, err := owner.CurrentIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		serves     bool
		noted      bool
	}{
		{"at work", "hint: wait until it serves, end it with Ctrl-C, or name another --workspace\n", false, false},
		{"starting, and named", "has a server already: theirs, of another `dalirun serve`; it is starting: ", true, false},
		{"starting", "hint: wait until it serves, end it with Ctrl-C, or name another --workspace\n", true, false},
		{"serving, and named", "has a server already: theirs, of another `dalirun serve`; it is not healthy: ", true, true},
		{"serving", "hint: `CALLED stop --workspace WORKSPACE && CALLED serve", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _ := worlds(t, "stocked")
			engine := dockertest.New(t, w.fake())
			workspace := filepath.Join(t.TempDir(), ".dalirun")
			if err := owner.MakeWorkspace(workspace); err != nil {
				t.Fatal(err)
			}
			other := flock.New(serving.LockPath(workspace))
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
			if want := strings.NewReplacer("WORKSPACE", workspace, "CALLED", "DOCKER_HOST="+engine.Host()+" dalirun").Replace(tt.want); code != ExitEnvironment || !strings.Contains(stderr.String(), want) {
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
		other := flock.New(serving.LockPath(workspace))
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
	after := flock.New(serving.LockPath(workspace))
	if ok, err := after.TryLock(); err != nil || !ok {
		t.Errorf("it is locked after the end: %t, %v", ok, err)
	}
	_ = after.Close()
}

// Whatever said how a server is to be is in the arguments that start it again from another folder; what concerned the one
// run is not.
func TestStartAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	weights, picture := filepath.Join(dir, "w.pth"), filepath.Join(dir, "cat.jpg")
	for _, file := range []string{weights, picture} {
		if err := os.WriteFile(file, []byte(checkpoint), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		args      []string
		env       map[string]string
		config    string
		workspace string
		want      []string
	}{
		{"nothing", nil, nil, "", filepath.Join(here, ".dalirun"), nil},
		{
			"flags",
			[]string{"--workspace", "/w", "--grpc-port", "9001", "--detach", "--require-gpu", "--ready-timeout", "1m", "--shm-size", "2048m"},
			nil, "", "/w",
			[]string{"--detach", "--grpc-port=9001", "--ready-timeout=1m0s", "--require-gpu", "--shm-size=2g"},
		},
		{"of the one run", []string{"--force", "all", "--progress", "plain", "--format", "json", "-v"}, nil, "", filepath.Join(here, ".dalirun"), nil},
		{
			"environment and configuration", nil,
			map[string]string{"DALIRUN_ACCEL": "cpu"},
			"weights: random:7\nserving:\n  queue-delay: 500us\n  dali-threads: 2\n", filepath.Join(here, ".dalirun"),
			[]string{"--accel=cpu", "--serving=dali-threads=2,queue-delay=500µs", "--weights=random:7"},
		},
		{
			"paths",
			[]string{"--weights", filepath.Join(relative, "w.pth"), "--image", filepath.Join(relative, "cat.jpg"), "--cache-dir", "c"},
			nil, "", filepath.Join(here, ".dalirun"),
			[]string{"--image=" + picture, "--weights=" + weights},
		},
		{"a picture on stdin", []string{"--image", "-"}, nil, "", filepath.Join(here, ".dalirun"), nil},
		{"a picture through a pipe", []string{"--image", "/dev/null"}, nil, "", filepath.Join(here, ".dalirun"), nil},
		{
			"what the cpu lane has no use for",
			[]string{"--accel", "cpu"},
			map[string]string{"DALIRUN_REGISTRY": "mirror.example/ngc", "DALIRUN_OPT_BATCH": "8", "DALIRUN_BASE_IMAGE": "debian:12"},
			"precision: fp16\ngpus: device=1\nrelease: \"25.03\"\n", filepath.Join(here, ".dalirun"),
			[]string{"--accel=cpu", "--base-image=debian:12"},
		},
		{
			"what NVIDIA's images have no use for",
			[]string{"--images", "ngc"},
			map[string]string{"DALIRUN_BASE_IMAGE": "debian:12", "DALIRUN_REGISTRY": "mirror.example/ngc"},
			"build-network: none\n", filepath.Join(here, ".dalirun"),
			[]string{"--images=ngc", "--registry=mirror.example/ngc"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"XDG_CACHE_HOME": "/xdg"}
			maps.Copy(env, tt.env)
			a := appIn(env, &bytes.Buffer{}, &bytes.Buffer{})
			file := filepath.Join(t.TempDir(), config.File)
			if err := os.WriteFile(file, []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			parse := func(args []string, lookup func(string) (string, bool), file string) *runFlags {
				var r runFlags
				var o outputFlags
				root, cmd := &cobra.Command{Use: "dalirun"}, &cobra.Command{Use: "serve", Run: func(*cobra.Command, []string) {}}
				root.AddCommand(cmd)
				r.flags(a, cmd)
				o.flags(cmd)
				cmd.Flags().BoolP("detach", "d", false, "")
				cmd.SetContext(t.Context())
				if err := cmd.ParseFlags(args); err != nil {
					t.Fatal(err)
				}
				if err := fillFlags(cmd, lookup, file); err != nil {
					t.Fatal(err)
				}
				var err error
				if r.folders, err = r.find(t.Context()); err != nil {
					t.Fatal(err)
				}
				r.request.Settings = settingsOf(cmd.Flags())
				if r.weights != string(target.Pretrained) {
					if r.request.Weights, err = steps.ParseWeights(r.weights, r.request.Settings); err != nil {
						t.Fatal(err)
					}
				}
				return &r
			}
			x := session{flags: parse(tt.args, a.LookupEnv, file), target: target.Target{Lane: target.CPU, Source: target.Local}}
			if x.flags.request.Images == string(target.NGC) {
				x.target.Source = target.NGC
			}
			cache := "/xdg/dalirun"
			if slices.Contains(tt.args, "--cache-dir") {
				cache = filepath.Join(here, "c")
			}
			want := append([]string{"serve", "--workspace=" + tt.workspace, "--cache-dir=" + cache}, tt.want...)
			got := x.startAgain()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := refusal(got); err != nil {
				t.Errorf("dalirun does not take them: %v", err)
			}
			again := parse(got[1:], func(string) (string, bool) { return "", false }, filepath.Join(t.TempDir(), config.File))
			if told, err := again.request.Situation(x.target.Lane, x.target.Source).Unused(); err != nil || len(told) > 0 {
				t.Errorf("a run has no use for some of them: %q, %v", told, err)
			}
		})
	}
}

// The help and the documents say how a server is watched.
func TestWatchIsDocumented(t *testing.T) {
	t.Parallel()
	w := serving.UsualWatch()
	if w.InARow != 3 {
		t.Errorf("%d times on end, and the documents say three", w.InARow)
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }
	for file, want := range map[string][]string{
		filepath.Join(docsDir, "cli", "dalirun_serve.md"): {"Every " + seconds(w.Every), "three times on end", "an answer may take " + seconds(w.Probe.Within)},
		filepath.Join(docsDir, "cli", "dalirun_ps.md"):    {"within " + seconds(serving.StatusWithin)},
		filepath.Join(docsDir, "..", "README.md"):         {"every " + seconds(w.Every), "three times on end"},
		filepath.Join(docsDir, "adr", "0012-healthy-means-an-inference.md"): {
			"every " + seconds(w.Every), "three times on end with " + seconds(w.Probe.Within) + " each", "within " + seconds(serving.StopWithin),
		},
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(string(data)), " ")
		for _, words := range want {
			if !strings.Contains(text, words) {
				t.Errorf("%s does not say %q", filepath.Base(file), words)
			}
		}
	}
}

// What setup and serve record is a command line of serve: a flag of setup alone would be one that serve refuses.
func TestRecordedFlagsAreServes(t *testing.T) {
	t.Parallel()
	serve := asked(t, "serve", nil, nil, "")
	asked(t, "setup", nil, nil, "").VisitAll(func(f *pflag.Flag) {
		r := target.Request{Command: "setup", Settings: target.Settings{{Flag: f.Name, Value: "v"}}}
		recorded := r.ServeArguments(target.Target{Lane: target.GPU, Source: target.NGC}, "/picture")
		if f.Name != "help" && len(recorded) > 0 && serve.Lookup(f.Name) == nil {
			t.Errorf("--%s of setup: serve has no such flag; if it is of the one run, say so in ServeArguments", f.Name)
		}
	})
}

// What setup never has a use for is the server's own, and another server in its place keeps it, whatever was built since:
// all but the picture, which proves one run.
func TestRestartKeepsWhatIsTheServers(t *testing.T) {
	t.Parallel()
	built := owner.Built{Repository: "/new", Command: []string{"serve", "--weights=random:1"}}
	for _, flag := range append(target.NeverUsed("setup"), "detach") {
		server := owner.ServerFile{
			HTTP: "127.0.0.1:7", GRPC: "127.0.0.1:7", Metrics: "127.0.0.1:7", Repository: "/old", Command: []string{"serve", "--" + flag + "=7"},
		}
		if kept := slices.Contains(serving.StartAgain(server, built), "--"+flag+"=7"); kept != (flag != "image") {
			t.Errorf("--%s: it is kept: %t; StartAgain of internal/serving says what is the server's own", flag, kept)
		}
	}
}
