package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// Whatever said how a server is to be is in the arguments that start it again from another folder; what concerned the one
// run is not.
func TestStartAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	weights := filepath.Join(dir, "w.pth")
	if err := os.WriteFile(weights, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, weights)
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
			[]string{"--weights", relative, "--image", "cat.jpg", "--cache-dir", "c"},
			nil, "", filepath.Join(here, ".dalirun"),
			[]string{"--cache-dir=" + filepath.Join(here, "c"), "--image=" + filepath.Join(here, "cat.jpg"), "--weights=" + weights},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := appIn(tt.env, &bytes.Buffer{}, &bytes.Buffer{})
			config := filepath.Join(t.TempDir(), configFile)
			if err := os.WriteFile(config, []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			var w wishes
			var s shown
			root, cmd := &cobra.Command{Use: "dalirun"}, &cobra.Command{Use: "serve", Run: func(*cobra.Command, []string) {}}
			root.AddCommand(cmd)
			w.flags(a, cmd)
			s.flags(cmd)
			cmd.Flags().BoolP("detach", "d", false, "")
			if err := cmd.ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			if err := fillFlags(cmd, a.LookupEnv, config); err != nil {
				t.Fatal(err)
			}
			if err := w.resolve(); err != nil {
				t.Fatal(err)
			}
			want := append([]string{"serve", "--workspace=" + tt.workspace}, tt.want...)
			got := startAgain(cmd.Flags(), &w)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := refusal(got); err != nil {
				t.Errorf("dalirun does not take them: %v", err)
			}
		})
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
