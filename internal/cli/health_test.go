package cli

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

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
			[]string{"--workspace", "/w", "--grpc-port", "9001", "--detach", "--require-gpu", "--ready-timeout", "1m"},
			nil, "", "/w",
			[]string{"--detach", "--grpc-port=9001", "--ready-timeout=1m0s", "--require-gpu"},
		},
		{"of the one run", []string{"--force", "all", "--progress", "plain", "--format", "json", "-v"}, nil, "", filepath.Join(here, ".dalirun"), nil},
		{
			"environment and configuration", nil,
			map[string]string{"DALIRUN_ACCEL": "cpu"},
			"weights: random:7\n", filepath.Join(here, ".dalirun"),
			[]string{"--accel=cpu", "--weights=random:7"},
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
			config := filepath.Join(t.TempDir(), configFile)
			if err := os.WriteFile(config, []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			parse := func(args []string, lookup func(string) (string, bool), config string) *wishes {
				w := &wishes{serves: true}
				var s shown
				root, cmd := &cobra.Command{Use: "dalirun"}, &cobra.Command{Use: "serve", Run: func(*cobra.Command, []string) {}}
				root.AddCommand(cmd)
				w.flags(a, cmd)
				s.flags(cmd)
				cmd.Flags().BoolP("detach", "d", false, "")
				cmd.SetContext(t.Context())
				if err := cmd.ParseFlags(args); err != nil {
					t.Fatal(err)
				}
				if err := fillFlags(cmd, lookup, config); err != nil {
					t.Fatal(err)
				}
				if err := w.resolve(); err != nil {
					t.Fatal(err)
				}
				return w
			}
			w := parse(tt.args, a.LookupEnv, config)
			run := steps.Options{Lane: steps.CPU}
			run.Images = imageSource(w, run.Lane)
			cache := "/xdg/dalirun"
			if slices.Contains(tt.args, "--cache-dir") {
				cache = filepath.Join(here, "c")
			}
			want := append([]string{"serve", "--workspace=" + tt.workspace, "--cache-dir=" + cache}, tt.want...)
			got := startAgain(w, run)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := refusal(got); err != nil {
				t.Errorf("dalirun does not take them: %v", err)
			}
			again := parse(got[1:], func(string) (string, bool) { return "", false }, filepath.Join(t.TempDir(), configFile))
			if told, err := again.situation(run.Lane, run.Images).of(again.stepsOf(run)).unused(); err != nil || len(told) > 0 {
				t.Errorf("a run has no use for some of them: %q, %v", told, err)
			}
		})
	}
}

type warnings chan string

func (w warnings) Emit(e pipeline.Event) {
	if told, ok := e.Payload.(pipeline.Warning); ok {
		w <- told.Text
	}
}

// That a server is not watched any more is told of.
func TestWatchThatEnds(t *testing.T) {
	t.Parallel()
	told := make(warnings, 1)
	x := &session{app: &App{}, sink: told}
	sick := x.watch(t.Context(), serving.Watch{Every: time.Nanosecond, InARow: 1}, "no:such:address\x00")
	select {
	case text := <-told:
		if !strings.HasPrefix(text, "whether the server is healthy is not watched any more: ") {
			t.Error(text)
		}
	case h := <-sick:
		t.Errorf("%+v", h)
	case <-time.After(10 * time.Second):
		t.Error("nothing is told")
	}
}

// The list of ps says why a server's health is not known.
func TestNotJudged(t *testing.T) {
	t.Parallel()
	h := orNotJudged(serving.Health{}, errors.New("no picture"))
	var b bytes.Buffer
	if err := writeProcesses(&b, []process{{Name: "s", Running: true, Health: &h}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "  unknown  ") || !strings.Contains(b.String(), "s is unknown: no picture\n") {
		t.Error(b.String())
	}
}

// The help and the documents say how a server is watched.
func TestWatchIsDocumented(t *testing.T) {
	t.Parallel()
	w := usualWatch()
	if w.InARow != 3 {
		t.Errorf("%d times on end, and the documents say three", w.InARow)
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }
	for file, want := range map[string][]string{
		filepath.Join(docsDir, "cli", "dalirun_serve.md"): {"Every " + seconds(w.Every), "three times on end", "an answer may take " + seconds(w.Probe.Within)},
		filepath.Join(docsDir, "cli", "dalirun_ps.md"):    {"within " + seconds(statusWithin)},
		filepath.Join(docsDir, "..", "README.md"):         {"every " + seconds(w.Every), "three times on end"},
		filepath.Join(docsDir, "adr", "0012-healthy-means-an-inference.md"): {
			"every " + seconds(w.Every), "three times on end with " + seconds(w.Probe.Within) + " each", "within " + seconds(stopWithin),
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
