package steps

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/pipeline/lines"
)

const (
	gib = 1 << 30

	// DefaultMemory is the memory limit of each container, in bytes. It stops a program whose memory grows without end.
	// TensorRT's builder needs the most: a few times the model and its workspace.
	DefaultMemory = 16 * gib
	// DefaultShm is the size of each container's /dev/shm, in bytes: that of the --shm-size=1g with which NVIDIA's
	// documents start Triton. A batch of 256 tensors between two Python models takes 147 MiB of it. What is not used of it
	// takes no memory.
	DefaultShm = gib

	// tailLines and tailBytes bound the end of a container's output that an error shows.
	tailLines = 15
	tailBytes = 16 << 10
	// removeWithin bounds the removal of a container; CI runners kill 10 s after they ask.
	removeWithin = 8 * time.Second
	// startWithin bounds the start of a container. It takes a second; on slow disks, or where the container engine maps
	// user IDs by copying, the first start of an image of 20 GB takes minutes.
	startWithin = 5 * time.Minute
	// outDir is where a batch container finds the folder for its outputs.
	outDir = "/out"
)

// containers starts, bounds and removes the containers of the steps.
type containers struct {
	runner container.Runner
	memory int64 // limit of each container, in bytes
}

func newContainers(t Tools) containers { return containers{t.Runner, cmp.Or(t.Memory, DefaultMemory)} }

// spec describes a container that runs one program as the caller, with no network, and with its outputs alone to write
// to. Torch and DALI need a writable /tmp, a home and a user name: otherwise getuser raises, and caches go to a
// read-only /.cache.
func (c containers) spec(step pipeline.ID, image string, command ...string) container.Spec {
	return container.Spec{
		Step:     string(step),
		Image:    image,
		Command:  command,
		Env:      map[string]string{"HOME": "/tmp", "USER": "dalirun", "TORCH_HOME": "/tmp/torch"},
		Network:  container.NetworkNone,
		ReadOnly: true,
		Tmpfs:    map[string]int64{"/tmp": 2 * gib},
		Shm:      DefaultShm,
		Init:     true,
		Memory:   c.memory,
		Pids:     4096,
		Role:     container.RoleBatch,
	}
}

// pythonTarget is where containers find the embedded Python programs.
const pythonTarget = "/dalirun/python"

// script is an embedded Python program and the modules that it shares with others, by file name.
type script []string

// sources returns the texts of the program and its modules by file name.
func (s script) sources() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range s {
		text, err := dalirun.Assets.ReadFile(path.Join("assets/python", name))
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	return files, nil
}

// python is the interpreter's usual name in the images.
const python = "python3"

// command returns the argv that runs the program.
func (s script) command(args ...string) []string {
	return append([]string{python, path.Join(pythonTarget, s[0])}, args...)
}

// mount writes the program into a hidden folder of the step's folder, and returns its mount.
func (s script) mount(w *pipeline.Work) (container.Mount, error) {
	files, err := s.sources()
	if err != nil {
		return container.Mount{}, err
	}
	dir := w.Path(filepath.Join(".dalirun", "python"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return container.Mount{}, err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return container.Mount{}, err
		}
	}
	return container.Mount{Source: dir, Target: pythonTarget}, nil
}

// facts returns the facts of a step that runs the program by command.
func (s script) facts(command []string) (pipeline.Facts, error) {
	files, err := s.sources()
	if err != nil {
		return nil, err
	}
	facts := pipeline.Facts{"argv": argv(command)}
	for name, text := range files {
		facts[name] = digest(text)
	}
	return facts, nil
}

func argv(command []string) string {
	quoted := make([]string, len(command))
	for i, a := range command {
		quoted[i] = a
		if strings.ContainsAny(a, " \t\n\"'\\") || a == "" {
			quoted[i] = strconv.Quote(a)
		}
	}
	return strings.Join(quoted, " ")
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// runScript runs an embedded program in a batch container until it ends. The step's folder is the container's output.
func (c containers) runScript(
	ctx context.Context, w *pipeline.Work, s script, spec container.Spec, limit time.Duration,
) error {
	return c.readScript(ctx, w, s, spec, &tail{}, limit)
}

// readScript does what runScript does, and puts the program's output into last.
func (c containers) readScript(
	ctx context.Context, w *pipeline.Work, s script, spec container.Spec, last *tail, limit time.Duration,
) error {
	mount, err := s.mount(w)
	if err != nil {
		return err
	}
	spec.Inputs = append(spec.Inputs, mount)
	spec.Outputs = append(spec.Outputs, container.Mount{Source: w.Dir, Target: outDir})
	return c.run(ctx, w, spec, last, limit)
}

// run runs a container until it ends, and puts its output into last. It leaves no container, also after an error.
func (c containers) run(
	ctx context.Context, w *pipeline.Work, spec container.Spec, last *tail, limit time.Duration,
) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("%s did not end within %s", program(spec.Command), limit))
	defer cancel()
	started, err := c.start(ctx, spec, last.streams(w))
	if err != nil {
		return err
	}
	defer c.remove(ctx, w, started)
	exit, err := started.Wait(ctx)
	if err != nil {
		fault := &pipeline.Fault{
			Kind: pipeline.ContainerFailed, Err: inTime(ctx, err), Tail: last.lines(), Repeat: c.runner.Repeat(spec),
		}
		if hint, ok := remedy.EngineInRun(fault.Err); ok { // it is not the container that failed
			fault.Kind, fault.Hint = pipeline.Environment, hint
		}
		return fault
	}
	if exit.Code == 0 && !exit.OOM {
		return nil
	}
	fault := &pipeline.Fault{
		Kind:   pipeline.ContainerFailed,
		Err:    exitError(spec, exit, last.lines()),
		Hint:   exitHint(exit, spec.Memory),
		Tail:   last.lines(),
		Repeat: c.runner.Repeat(spec),
	}
	if !exit.OOM {
		last.explain(fault)
	}
	return fault
}

// scriptError is an error that one of the embedded programs reports and that a user can mend.
type scriptError struct {
	status         int
	script, reason string
}

func (e *scriptError) Error() string { return e.script + ": " + e.reason }

func exitError(spec container.Spec, exit container.Exit, lines []string) error {
	name := program(spec.Command)
	if exit.OOM {
		return fmt.Errorf("%s was killed: it needs more memory than there is", name)
	}
	for _, line := range lines { // an embedded program ends with such a line if a user can mend the error
		if reason, ok := strings.CutPrefix(line, "error: "); ok {
			return &scriptError{status: exit.Code, script: name, reason: onHost(spec.Inputs, reason)}
		}
	}
	return fmt.Errorf("%s exited with status %d", name, exit.Code)
}

// program returns the name of the program that command runs, which is not its interpreter's.
func program(command []string) string {
	name := path.Base(command[0])
	switch {
	case name == python && len(command) > 1:
		return path.Base(command[1])
	case name == "sh" && len(command) > 3: // sh -c SCRIPT NAME …
		return command[3]
	default:
		return name
	}
}

// start starts a container, whose program may run for longer than ctx. The time that the container engine and its hooks
// take is bounded.
func (c containers) start(
	ctx context.Context, spec container.Spec, out container.Streams,
) (container.Container, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, pipeline.Faultf(pipeline.Environment, remedy.EngineHangs,
		"the container of %s did not start within %s", spec.Step, startWithin))
	defer cancel()
	return c.runner.Run(ctx, spec, out)
}

// remove removes a container, also after ctx ended. A container that cannot be removed is a warning, since its work is
// done.
func (c containers) remove(ctx context.Context, w *pipeline.Work, ended container.Container) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	if err := c.runner.Remove(ctx, ended.ID()); err != nil {
		w.Emit(pipeline.Warning{Text: "container " + ended.Name() + " could not be removed: " + err.Error()})
	}
}

// tail keeps the last lines of a container's output, also an unfinished one, and searches all lines for known messages.
type tail struct {
	read     func(line string) // if set, gets each line as it ends, one at a time
	remedyID string            // of the remedy that explain added to a fault

	stdout, stderr *lines.Writer

	mu     sync.Mutex
	last   []string
	finder remedy.Finder
}

// streams returns the streams for the container whose output t keeps. w emits their lines too.
func (t *tail) streams(w *pipeline.Work) container.Streams {
	t.stdout, t.stderr = w.Lines(t.add), w.Lines(t.add)
	return container.Streams{Stdout: t.stdout, Stderr: t.stderr}
}

// lines returns the last lines. It must not be called before streams.
func (t *tail) lines() []string {
	t.stdout.Flush()
	t.stderr.Flush()
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.last)
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimRight(line, " ")
	if text == "" {
		return
	}
	t.finder.Read(text)
	if t.read != nil {
		t.read(text)
	}
	t.last = append(t.last, text[max(0, len(text)-tailBytes):])
	for len(t.last) > tailLines || len(strings.Join(t.last, "")) > tailBytes {
		t.last = t.last[1:]
	}
}
