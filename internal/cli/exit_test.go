package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	fault := func(k pipeline.Kind) error { return pipeline.Faultf(k, "", "a fault") }
	step := func(err error) error { return &pipeline.StepError{Step: "serve", Err: err} }
	signal := func(s os.Signal) error { return &SignalError{Signal: s} }
	for _, tt := range []struct {
		name string
		err  error
		want ExitCode
	}{
		{"nothing", nil, ExitOK},
		{"an error of no kind", errors.New("x"), ExitUnclassified},
		{"a fault of no kind", fault(pipeline.Unclassified), ExitUnclassified},
		{"usage", fault(pipeline.Usage), ExitUsage},
		{"environment", fault(pipeline.Environment), ExitEnvironment},
		{"container failed", step(fault(pipeline.ContainerFailed)), ExitContainer},
		{"not ready", step(fault(pipeline.NotReady)), ExitNotReady},
		{"not verified", step(fault(pipeline.NotVerified)), ExitNotVerified},
		{"gate", fault(pipeline.GateFailed), ExitGate},
		{"wrapped", fmt.Errorf("around: %w", step(fault(pipeline.NotReady))), ExitNotReady},
		{"joined with what cleaning up met", errors.Join(step(fault(pipeline.ContainerFailed)), errors.New("remove: x")), ExitContainer},
		{"shown before", &shownError{fault(pipeline.NotVerified)}, ExitNotVerified},

		{"no engine", fmt.Errorf("list containers: %w", container.ErrUnreachable), ExitEnvironment},
		{"settings", fmt.Errorf("ask: %w", container.ErrSettings), ExitEnvironment},
		{"no permission", container.ErrPermission, ExitEnvironment},
		{"no GPU", container.ErrNoGPU, ExitEnvironment},
		{"port taken", container.ErrPortTaken, ExitEnvironment},
		{"no space", container.ErrNoSpace, ExitEnvironment},
		{"denied", container.ErrDenied, ExitEnvironment},
		{"registry", container.ErrRegistry, ExitEnvironment},
		{"disk full", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, ExitEnvironment},
		{"broken disk", &os.PathError{Op: "read", Path: "x", Err: syscall.EIO}, ExitEnvironment},
		{"a file that is gone", fmt.Errorf("read: %w", &os.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}), ExitEnvironment},
		{"a link that cannot be", &os.LinkError{Op: "symlink", Old: "a", New: "x", Err: syscall.EEXIST}, ExitEnvironment},
		{"read-only disk", &os.PathError{Op: "mkdir", Path: "x", Err: syscall.EROFS}, ExitEnvironment},

		{"Ctrl-C", signal(os.Interrupt), ExitSIGINT},
		{"SIGTERM", signal(syscall.SIGTERM), ExitSIGTERM},
		{"SIGHUP", signal(syscall.SIGHUP), ExitSIGHUP},
		{"a signal goes before the fault that it caused", errors.Join(step(fault(pipeline.ContainerFailed)), signal(syscall.SIGTERM)), ExitSIGTERM},
		{"cancelled without a signal", context.Canceled, ExitSIGINT},
		{"out of time", context.DeadlineExceeded, ExitUnclassified},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := exitCode(remedy.Explainer{}.Explain(tt.err)); got != tt.want {
				t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}

// The steps of a run have it by then: their events and the reports say it too.
func TestRunnerExplainsDisks(t *testing.T) {
	t.Parallel()
	x := session{app: appIn(nil, io.Discard, io.Discard), flags: &runFlags{}}
	err := x.runner(nil).Explain(&os.PathError{Op: "rename", Path: "/cache/x", Err: syscall.EDQUOT})
	if f, ok := errors.AsType[*pipeline.Fault](err); !ok || !strings.HasPrefix(f.Hint, "free space in your quota on the disk of /cache/x") {
		t.Errorf("got %v", err)
	}
}

// Scripts depend on the numbers.
func TestExitCodesArePinned(t *testing.T) {
	t.Parallel()
	want := []ExitCode{0, 1, 2, 3, 4, 5, 6, 7, 129, 130, 143}
	codes := ExitCodes()
	if len(codes) != len(want) {
		t.Fatalf("there are %d exit codes, want %d", len(codes), len(want))
	}
	for i, c := range codes {
		if c.Code != want[i] || c.Means == "" || c.Typical == "" {
			t.Errorf("exit code %d is %+v, want %d with a meaning", i, c, want[i])
		}
	}
}

// Each case that the table of exit codes names is run: in a section of exit.txtar with its words, or by a test that needs more than a script.
func TestDocumentedExitsAreRun(t *testing.T) {
	t.Parallel()
	elsewhere := map[string]string{
		"`serve`: the server drained, or had nothing to drain, after Ctrl-C, SIGTERM, SIGHUP or `dalirun stop`": "TestServeUntilSignal",
		"`logs --follow`: after the end of the server, and after a signal":                                      "TestFollowUntilSignal",
		"a file that was named may not be read":                                                                 "TestFilesThatMayNotBeRead",
		"the disk is full":                                                                                      "TestOnSmallDisk",
		"the terminal was closed":                                                                               "TestSignal",
		"Ctrl-C":                                                                                                "TestSignal",
		"`status --watch`: it goes on until then":                                                               "TestWatchUntilSignal",
	}
	script, err := os.ReadFile(filepath.Join("testdata", "script", "exit.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	for _, c := range ExitCodes() {
		if c.Code == ExitUnclassified { // that nothing has, by their words
			continue
		}
		cases := strings.Split(c.Typical, "; ")
		switch c.Code {
		case ExitUsage:
			cases = strings.Split(c.Typical, ", ")
		case ExitContainer:
			cases = []string{c.Typical} // it is what to do
		}
		for _, what := range cases {
			if test := elsewhere[what]; test != "" {
				if !strings.Contains(tests.String(), "func "+test+"(") {
					t.Errorf("%d, %s: there is no test %s", c.Code, what, test)
				}
				continue
			}
			_, section, found := strings.Cut(string(script), fmt.Sprintf("\n# %d: %s\n", c.Code, what))
			section, _, _ = strings.Cut(section, "\n#")
			runs := fmt.Sprintf(`(?m)^(exitcode|stdoutto full|interrupt) %d `, c.Code)
			if c.Code == ExitOK {
				runs = `(?m)^exec dalirun `
			}
			if !found || !regexp.MustCompile(runs).MatchString(section) {
				t.Errorf("exit.txtar does not run %d: %s", c.Code, what)
			}
		}
	}
}

func matches(pattern, text string) bool {
	return regexp.MustCompile(`(?m)` + pattern).MatchString(text)
}

// A signal is named as people do, and an error that was shown stays what it is.
func TestNames(t *testing.T) {
	t.Parallel()
	for s, want := range map[os.Signal]string{
		os.Interrupt: "stopped by Ctrl-C (SIGINT)", syscall.SIGTERM: "stopped by SIGTERM", syscall.SIGHUP: "stopped by SIGHUP", syscall.SIGQUIT: "stopped by quit",
	} {
		if got := (&SignalError{Signal: s}).Error(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	cause := pipeline.Faultf(pipeline.NotReady, "", "no server runs")
	if shown := error(&shownError{cause}); shown.Error() != cause.Error() || !errors.Is(shown, cause) {
		t.Errorf("%v, want %v", shown, cause)
	}
}
