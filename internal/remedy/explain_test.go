package remedy_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

func TestDisk(t *testing.T) {
	t.Parallel()
	write := func(errno error) error { return &fs.PathError{Op: "write", Path: "/cache/tmp/x", Err: errno} }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"full":             {write(syscall.ENOSPC), "free space on the disk of /cache/tmp/x (`df -h`"},
		"full, wrapped":    {fmt.Errorf("store the outputs: %w", errors.Join(write(syscall.ENOSPC), fs.ErrClosed)), "free space on the disk of /cache/tmp/x"},
		"full, a rename":   {&os.LinkError{Op: "rename", Old: "/a", New: "/b", Err: syscall.ENOSPC}, "free space on the disk of /b"},
		"full, no path":    {syscall.ENOSPC, "free space on the disk that was written to"},
		"quota":            {write(syscall.EDQUOT), "free space in your quota on the disk of /cache/tmp/x (`quota -s`"},
		"read-only":        {write(syscall.EROFS), "the file system of /cache/tmp/x is read-only"},
		"broken":           {&fs.PathError{Op: "read", Path: "/mnt/my.pth", Err: syscall.EIO}, "the disk of /mnt/my.pth does not read or write: `sudo dmesg`"},
		"not there":        {&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, ""},
		"not permitted":    {&fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}, ""},
		"words of another": {errors.New("no space left on device"), ""},
		"none":             {nil, ""},
	} {
		hint, ok := remedy.Disk(c.err)
		_, file := remedy.File(c.err)
		if _, named := errors.AsType[*fs.PathError](c.err); !ok && file != named {
			t.Errorf("%s: it is an error of a file: %t", name, file)
		}
		if ok != (c.want != "") || !strings.HasPrefix(hint, c.want) {
			t.Errorf("%s: got %q, %t; want %q", name, hint, ok, c.want)
		}
	}

	folders := []remedy.Folder{{Path: "/work", What: "the workspace", Flag: "--workspace"}, {Path: "/cache", What: "the cache", Flag: "--cache-dir"}}
	const want = "free space on the disk of the cache, /cache (`df -h` shows it, `df -i` whether it can have no more files), then run again, or name another with --cache-dir"
	if hint, ok := remedy.Disk(write(syscall.ENOSPC), folders...); !ok || hint != want {
		t.Errorf("in the cache: got %q, %t; want %q", hint, ok, want)
	}
	if hint, ok := remedy.Disk(&fs.PathError{Op: "write", Path: "/workers/x", Err: syscall.ENOSPC}, folders...); !ok || !strings.HasPrefix(hint, "free space on the disk of /workers/x (") {
		t.Errorf("in no folder: got %q, %t", hint, ok)
	}
}

// Where a disk is at fault, nothing else is said to be, and each of several errors keeps its own hint.
func TestExplain(t *testing.T) {
	t.Parallel()
	full := &os.PathError{Op: "write", Path: "/cache/x", Err: syscall.ENOSPC}
	const hint = "free space on the disk of /cache/x"
	for name, c := range map[string]struct {
		err   error
		hints []string // of each fault
		text  string
	}{
		"none":              {nil, nil, ""},
		"another":           {pipeline.Usagef("use a flag", "x"), []string{"use a flag"}, "x"},
		"by itself":         {full, []string{hint}, full.Error()},
		"of a file":         {&os.PathError{Op: "open", Path: "/w/a b", Err: syscall.ELOOP}, []string{"`ls -ld '/w/a b'` shows whether it is there and whose it is; or name other folders"}, "open /w/a b: " + syscall.ELOOP.Error()},
		"of a file, hinted": {pipeline.Usagef("use a flag", "x: %w", &os.PathError{Op: "open", Path: "/w", Err: syscall.ELOOP}), []string{"use a flag"}, "x: open /w: " + syscall.ELOOP.Error()},
		"of a step":         {&pipeline.StepError{Step: "weights", Err: full}, []string{hint}, "weights: " + full.Error()},
		"met with a flag":   {&pipeline.StepError{Step: "weights", Err: pipeline.Usagef("use a flag", "read: %w", full)}, []string{hint}, "weights: read: " + full.Error()},
		"beside another":    {errors.Join(pipeline.Faultf(pipeline.Environment, "use a flag", "x"), full), []string{"use a flag", hint}, "x\n" + full.Error()},
		"worded by itself":  {fmt.Errorf("a: %w, b: %w", full, errors.New("y")), []string{hint}, "a: " + full.Error() + ", b: y"},
	} {
		got := remedy.Explainer{}.Explain(c.err)
		if got == nil || c.err == nil {
			if got != nil || c.err != nil {
				t.Errorf("%s: %v", name, got)
			}
			continue
		}
		parts := []error{got}
		if joined, ok := got.(interface{ Unwrap() []error }); ok { // of this very error
			parts = joined.Unwrap()
		}
		if got.Error() != c.text || len(parts) != len(c.hints) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, part := range parts {
			if f, ok := errors.AsType[*pipeline.Fault](part); !ok || !strings.HasPrefix(f.Hint, c.hints[i]) || c.hints[i] == hint && f.Kind != pipeline.Environment {
				t.Errorf("%s: %q has %+v, want the hint %q", name, part, f, c.hints[i])
			}
		}
	}
}

// What was explained stays as it is: the error of a picture is explained for its record, and for the end of the command.
func TestExplainTwice(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"a disk":      &os.PathError{Op: "write", Path: "/cache/x", Err: syscall.ENOSPC},
		"a file":      &os.PathError{Op: "open", Path: "/w/x", Err: syscall.ELOOP},
		"the engine":  fmt.Errorf("pull x: %w", container.ErrNoSpace),
		"its GPU":     fmt.Errorf("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7: %w", container.ErrNoGPU),
		"a command":   pipeline.Faultf(pipeline.NotReady, "`dalirun serve` starts one, `cd /w && dalirun ps` lists them", "no server"),
		"several":     errors.Join(container.ErrNoInit, pipeline.Usagef("`dalirun gc --dry-run`", "x")),
		"unexplained": errors.New("x"),
	} {
		for _, program := range []remedy.Program{{Path: "dalirun"}, {Path: "/opt/a b/dalirun", Engine: "DOCKER_HOST=tcp://b"}, {Path: "dalirun", Engine: "DOCKER_HOST=tcp://b"}} {
			x := remedy.Explainer{Program: program}
			once := x.Explain(err)
			text, hint := once.Error(), pipeline.HintOf(once)
			if twice := x.Explain(once); twice.Error() != text || pipeline.HintOf(twice) != hint {
				t.Errorf("%s: %q, hint %q; then %q, hint %q", name, text, hint, twice, pipeline.HintOf(twice))
			}
		}
	}
}

// advised is an error with the advice of an adapter.
type advised struct{ error }

func (a advised) Advice() string { return "start " + a.Error() }

func (a advised) Unwrap() error { return a.error }

// listed is an error that cannot be compared.
type listed []string

func (l listed) Error() string { return strings.Join(l, ", ") }

// The advice about a container engine depends on what was asked of it; where it cannot be talked to, its adapter has it.
func TestEngine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err              error
		hint, inRun      string
		engine, registry bool
	}{
		"unreachable": {advised{container.ErrUnreachable}, "start container engine does not answer", remedy.EngineDied, true, false},
		"silent":      {container.ErrUnreachable, "", remedy.EngineDied, true, false},
		"failing":     {advised{container.ErrFailing}, "start container engine answers with an error", "start container engine answers with an error", true, false},
		"no space":    {container.ErrNoSpace, remedy.FreeEngineDisk, remedy.FreeEngineDisk, true, false},
		"denied":      {container.ErrDenied, "", "", false, true},
		"registry":    {container.ErrRegistry, "", "", false, true},
		"not found":   {container.ErrNotFound, "", "", false, false},
	} {
		err := fmt.Errorf("x: %w", c.err)
		hint, engine := remedy.Engine(err)
		inRun, engineInRun := remedy.EngineInRun(err)
		_, registry := remedy.Registry(err)
		if hint != c.hint || inRun != c.inRun || engine != c.engine || engineInRun != c.engine || registry != c.registry {
			t.Errorf("%s: %q, %q, %t, %t, %t", name, hint, inRun, engine, engineInRun, registry)
		}
		fault, isFault := remedy.EngineFault(err)
		if isFault != (engine || registry) || isFault && (fault.Kind != pipeline.Environment || !errors.Is(fault, c.err)) {
			t.Errorf("%s: %v, %t", name, fault, isFault)
		}
	}
	for _, err := range []error{nil, pipeline.Usagef("correct it", "%w", container.ErrDenied), listed{"x"}} {
		if fault, ok := remedy.EngineFault(err); ok {
			t.Errorf("%v is the engine's fault: %v", err, fault)
		}
	}
	if err := (remedy.Explainer{}).Explain(listed{"x"}); err.Error() != "x" {
		t.Errorf("an error that cannot be compared is %v", err)
	}
}
