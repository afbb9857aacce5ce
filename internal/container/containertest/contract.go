package containertest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// Env is what [TestRunner], [TestDial], [TestImages] and [TestBuilder] need of an implementation, whose test calls
// those that it claims. They remove every container that carries Labels.
type Env struct {
	Runner  container.Runner
	Images  container.Images  // for TestImages and TestBuilder
	Builder container.Builder // for TestBuilder
	// Image is an image with the probe at [ProbePath] as its entrypoint, PROBE=image in its environment, and a folder
	// /open that everybody may write; Broken is one whose entrypoint does not exist.
	Image, Broken string
	// Labels are what Runner puts on its containers; they are this Env's alone.
	Labels container.Labels
	// UID and GID are those that containers run as. The suite gives folders to them, which takes root where they are
	// not the process's own.
	UID, GID int
	// Pause freezes the processes of a container; nil where the runtime has nothing like it.
	Pause func(ctx context.Context, id string) error
	// NoMemoryLimit says why a container's memory cannot be limited here, or is empty.
	NoMemoryLimit string
	// NoOOM says why the runtime does not tell that the kernel killed a container for memory, or is empty.
	NoOOM string
	// InitNotFound is the exit code of the runtime's init for a command that does not exist; 0 is
	// [container.ExitNotFound].
	InitNotFound int
	// CutsLine says that the line may be cut at which a followed log ends with its container.
	CutsLine bool
	// Times is how coarse the runtime's times are, of files that it copies and of lines of its log.
	Times Times
}

// Times are the units in which a runtime counts. The zero value is a nanosecond for both.
type Times struct{ Files, Lines time.Duration }

// wait bounds each single wait of the suite.
const wait = 30 * time.Second

// TestRunner runs the contract of [container.Runner]. It calls newEnv once for each of its tests, which run in
// parallel.
func TestRunner(t *testing.T, newEnv func(t *testing.T) Env) { //nolint:tparallel // its caller is the test
	t.Helper()
	contract{
		"info":                            testInfo,
		"exit codes":                      testExitCodes,
		"streams":                         testStreams,
		"last line":                       testLastLine,
		"nil streams":                     testNilStreams,
		"failing writer":                  testFailingWriter,
		"wait after exit":                 testWaitAfterExit,
		"wait until cancelled":            testWaitUntilCancelled,
		"remove twice":                    testRemoveTwice,
		"remove by many":                  testRemoveByMany,
		"missing command":                 testMissingCommand,
		"unknown image":                   testUnknownImage,
		"cancelled before":                testCancelledBefore,
		"cancelled during":                testCancelledDuring,
		"cancelled after":                 testCancelledAfter,
		"environment":                     testEnvironment,
		"user":                            testUser,
		"missing mount source":            testMissingMountSource,
		"inputs":                          testInputs,
		"refresh":                         testRefresh,
		"nested mounts":                   testNestedMounts,
		"outputs":                         testOutputs,
		"read-only root":                  testReadOnlyRoot,
		"stop without grace":              testStopWithoutGrace,
		"stop with grace":                 testStopWithGrace,
		"stop and kill":                   testStopAndKill,
		"stop without handler":            testStopWithoutHandler,
		"stop what ended":                 testStopWhatEnded,
		"stop what is paused":             testStopWhatIsPaused,
		"network none":                    testNetworkNone,
		"network publish":                 testNetworkPublish,
		"publish elsewhere":               testPublishElsewhere,
		"publish neighbours":              testPublishNeighbours,
		"publish everywhere":              testPublishEverywhere,
		"publish without network":         testPublishWithoutNetwork,
		"preferred port":                  testPreferredPort,
		"taken port":                      testTakenPort,
		"required port":                   testRequiredPort,
		"own port":                        testOwnPort,
		"logs":                            testLogs,
		"log streams":                     testLogStreams,
		"log since":                       testLogSince,
		"log follow":                      testLogFollow,
		"log ends":                        testLogEnds,
		"exec":                            testExec,
		"exec missing command":            testExecMissingCommand,
		"open":                            testOpen,
		"open unknown":                    testOpenUnknown,
		"labels":                          testLabels,
		"memory":                          testMemory,
		"command line":                    testCommandLine,
		"container names are of the step": testName,
	}.run(t, newEnv)
}

// TestImages runs the contract of [container.Images], as TestRunner does its own.
func TestImages(t *testing.T, newEnv func(t *testing.T) Env) { //nolint:tparallel // its caller is the test
	t.Helper()
	contract{
		"image":        testImage,
		"absent image": testAbsentImage,
		"list images":  testListImages,
	}.run(t, newEnv)
}

// TestBuilder runs the contract of [container.Builder], as TestRunner does its own. Images tell what was built.
func TestBuilder(t *testing.T, newEnv func(t *testing.T) Env) { //nolint:tparallel // its caller is the test
	t.Helper()
	contract{
		"build":         testBuild,
		"remove image":  testRemoveImage,
		"used image":    testUsedImage,
		"failing build": testFailingBuild,
	}.run(t, newEnv)
}

// contract are tests by name.
type contract map[string]func(*testing.T, *suite)

func (c contract) run(t *testing.T, newEnv func(t *testing.T) Env) {
	t.Helper()
	for name, test := range c {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &suite{Env: newEnv(t)}
			t.Cleanup(func() { s.removeAll(t) })
			test(t, s)
		})
	}
}

type suite struct{ Env }

// spec returns a Spec as the steps' are, for the given probe command.
func (s *suite) spec(command ...string) container.Spec {
	return container.Spec{
		Step: "probe", Image: s.Image, Command: command,
		Network: container.NetworkNone, Role: container.RoleBatch,
		ReadOnly: true, Tmpfs: map[string]int64{"/tmp": 1 << 20}, Init: true, Pids: 64, Grace: 10 * time.Second,
	}
}

// start runs spec and returns what it writes to stdout.
func (s *suite) start(t *testing.T, spec container.Spec) (container.Container, *output) {
	t.Helper()
	out := newOutput()
	c, err := s.Runner.Run(t.Context(), spec, container.Streams{Stdout: out, Stderr: out})
	if err != nil {
		t.Fatalf("run %q: %v", spec.Command, err)
	}
	return c, out
}

// ready runs spec and waits until the probe says that it is ready.
func (s *suite) ready(t *testing.T, spec container.Spec) (container.Container, *output) {
	t.Helper()
	c, out := s.start(t, spec)
	out.await(t, "ready\n")
	return c, out
}

// finish runs spec to its end and removes the container.
func (s *suite) finish(t *testing.T, spec container.Spec) (exit container.Exit, stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	c, err := s.Runner.Run(t.Context(), spec, container.Streams{Stdout: &o, Stderr: &e})
	if err != nil {
		t.Fatalf("run %q: %v", spec.Command, err)
	}
	exit = s.wait(t, c)
	stdout, stderr = o.String(), e.String()
	if err := s.Runner.Remove(t.Context(), c.ID()); err != nil {
		t.Errorf("remove: %v", err)
	}
	return exit, stdout, stderr
}

// succeed is finish for a command that must end with 0. It returns stdout.
func (s *suite) succeed(t *testing.T, spec container.Spec) string {
	t.Helper()
	exit, stdout, stderr := s.finish(t, spec)
	if exit.Code != 0 {
		t.Fatalf("%q ended with %d: %s%s", spec.Command, exit.Code, stdout, stderr)
	}
	return stdout
}

func (s *suite) wait(t *testing.T, c container.Container) container.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	exit, err := c.Wait(ctx)
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	return exit
}

// left returns this Env's containers.
func (s *suite) remaining(ctx context.Context, t *testing.T) []container.Summary {
	t.Helper()
	rows, err := s.Runner.List(ctx, s.Labels)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return rows
}

func (s *suite) wantNothingLeft(t *testing.T) {
	t.Helper()
	for _, row := range s.remaining(t.Context(), t) {
		t.Errorf("left behind: %s (running %t)", row.Name, row.Running)
	}
}

func (s *suite) removeAll(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), wait)
	defer cancel()
	rows, err := s.Runner.List(ctx, s.Labels)
	for _, row := range rows {
		err = errors.Join(err, s.Runner.Remove(ctx, row.ID))
	}
	if err != nil {
		t.Errorf("clean up: %v", err)
	}
}

// output is a writer that a test can wait on.
type output struct {
	mu      sync.Mutex
	data    bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{}, 1)} }

// Write appends p.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return o.data.Write(p)
}

// String returns all that was written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.String()
}

func (o *output) await(t *testing.T, want string) {
	t.Helper()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for !strings.Contains(o.String(), want) {
		select {
		case <-o.changed:
		case <-timer.C:
			t.Fatalf("no %q within %s, but %q", want, wait, o.String())
		}
	}
}
