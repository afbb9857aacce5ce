package ui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline"
)

func failure() *pipeline.StepError {
	return &pipeline.StepError{Step: "build-engine", Elapsed: 41 * time.Second, Err: &pipeline.Fault{
		Kind: pipeline.ContainerFailed, Err: errors.New("trtexec exited with status 1"),
		Tail:   []string{"[I] Start\rparsing network", "\x1b[31m[E] Could not find any implementation for node …\x1b[0m"},
		Repeat: "docker run --rm example \\\n  trtexec",
		Hint:   "the image's TensorRT needs driver ≥ 570; this host has 535",
	}}
}

func TestError(t *testing.T) {
	t.Parallel()
	logs := func(id pipeline.ID) string { return "/logs/" + string(id) + ".log" }
	undo := errors.New("remove container dalirun-r1-serve: gone")
	gone := pipeline.Faultf(pipeline.NotReady, "serve again", "gone")
	late := fmt.Errorf("late: %w: %w", context.Canceled, gone)
	whole := `✗ build-engine failed after 41s: trtexec exited with status 1
  last output:
    parsing network
    [E] Could not find any implementation for node …
  repeat it by hand, until the next run: docker run --rm example \
      trtexec
  hint: the image's TensorRT needs driver ≥ 570; this host has 535
  full log: /logs/build-engine.log
`
	for name, c := range map[string]struct {
		err  error
		term Terminal
		logs func(pipeline.ID) string
		want string
	}{
		"nil":          {nil, Terminal{}, logs, ""},
		"step":         {failure(), Terminal{}, logs, whole},
		"joined":       {errors.Join(failure(), undo), Terminal{}, logs, whole + "✗ remove container dalirun-r1-serve: gone\n"},
		"twice":        {errors.Join(failure(), errors.Join(failure(), undo), undo), Terminal{}, logs, whole + "✗ remove container dalirun-r1-serve: gone\n"},
		"consequences": {errors.Join(context.Canceled, failure(), context.Canceled), Terminal{}, logs, whole},
		"a cause told": {errors.Join(&pipeline.StepError{Step: "verify", Err: gone}, gone, undo, gone), Terminal{}, nil, "✗ verify failed after 0.0s: gone\n  hint: serve again\n✗ remove container dalirun-r1-serve: gone\n"},
		"equal causes": {errors.Join(gone, gone, undo), Terminal{}, nil, "✗ gone\n  hint: serve again\n✗ remove container dalirun-r1-serve: gone\n"},
		"the cause of what is cancelled": {
			errors.Join(&pipeline.StepError{Step: "serve", Err: late}, gone, undo), Terminal{}, nil, "✗ gone\n  hint: serve again\n✗ remove container dalirun-r1-serve: gone\n",
		},
		"wrapped": {fmt.Errorf("set up: %w", &pipeline.StepError{Step: "serve", Err: errors.New("x")}), Terminal{}, nil, "✗ set up: serve failed after 0.0s: x\n"},
		"no step": {pipeline.Faultf(pipeline.Environment, "start it", "no container engine answers at %s", "unix:///x"), Terminal{}, logs, "✗ no container engine answers at unix:///x\n  hint: start it\n"},
		"step of two": {
			&pipeline.StepError{Step: "serve", Elapsed: time.Second, Err: errors.Join(errors.New("a"), errors.New("b"))},
			Terminal{},
			nil, "✗ serve failed after 1.0s: a\n✗ serve failed after 1.0s: b\n",
		},
		"own words for two": {fmt.Errorf("%w, then %w", errors.New("a"), errors.New("b")), Terminal{}, nil, "✗ a, then b\n"},
		"cancelled":         {context.Canceled, Terminal{}, nil, "✗ context canceled\n"},
		"lines":             {errors.New("first\n\x1b[Ksecond"), Terminal{}, nil, "✗ first\n  second\n"},
		"colour":            {errors.New("x"), Terminal{IsTTY: true, Term: "xterm"}, nil, "\x1b[31m✗\x1b[0m x\n"},
		"GitHub": {failure(), Terminal{GitHubActions: true}, logs, `::error title=build-engine failed::build-engine failed after 41s: trtexec exited with status 1%0Ahint: the image's TensorRT needs driver ≥ 570; this host has 535
  last output:
    | parsing network
    | [E] Could not find any implementation for node …
  repeat it by hand, until the next run: docker run --rm example \
      trtexec
  full log: /logs/build-engine.log
`},
		"GitHub escapes": {
			&pipeline.StepError{Step: "a,b:c", Err: errors.New("100%\n::warning::x")},
			Terminal{GitHubActions: true},
			nil, "::error title=a%2Cb%3Ac failed::a,b:c failed after 0.0s: 100%25%0A::warning::x\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			Error(&b, c.err, c.term, c.logs)
			if diff := cmp.Diff(c.want, b.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
