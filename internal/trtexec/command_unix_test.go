//go:build unix

package trtexec_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/trtexec"
)

// TestCommand runs the command with a trtexec that prints its arguments: the exit status is that of the build alone.
func TestCommand(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		tensorRT  string
		fails     string // the option at which trtexec fails
		status    int
		readsBack bool // which TensorRT the plan names
	}{
		"8.0":                       {"8.0.1.6", "", 0, false},
		"8.0, the build fails":      {"8.0.1.6", "--onnx", 3, false},
		"10.6":                      {"10.6.0.26", "", 0, true},
		"10.6, the build fails":     {"10.6.0.26", "--onnx", 3, false},
		"10.6, the plan is no plan": {"10.6.0.26", "--getPlanVersionOnly", 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program := "#!/bin/sh\necho \"$@\"\ncase \"$FAILS $*\" in --onnx\\ *--onnx*|--get*\\ *--getPlanVersionOnly*) exit 3;; esac\n"
			if err := os.WriteFile(filepath.Join(dir, "trtexec"), []byte(program), 0o700); err != nil {
				t.Fatal(err)
			}
			v, b := version(t, tt.tensorRT), build()
			command, err := trtexec.Command(v, b)
			if err != nil {
				t.Fatal(err)
			}
			args, err := trtexec.Args(v, b)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Join(args, " ") + "\n"
			if tt.readsBack {
				want += strings.Join(trtexec.PlanVersionArgs(v, b.Plan), " ") + "\n"
			}
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "FAILS=" + tt.fails}
			out, err := cmd.Output()
			status := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				status = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(out)); diff != "" || status != tt.status {
				t.Errorf("it exited with %d, want %d; it ran (-want +got):\n%s", status, tt.status, diff)
			}
			if !slices.Equal(command[len(command)-len(args):], args) {
				t.Errorf("the command %q does not end in %q", command, args)
			}
		})
	}
	b := build()
	if got, err := trtexec.Command(version(t, "11.0"), b); !errors.Is(err, trtexec.ErrNeedsCast) {
		t.Errorf("fp16 on 11: %v, %v", got, err)
	}
}
