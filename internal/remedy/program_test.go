package remedy_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/pipeline"
)

func TestProgramCommands(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, text, want string }{
		{"dalirun", "`dalirun ps` lists", "`dalirun ps` lists"},
		{"", "dalirun stop", "dalirun stop"},
		{"bin/dalirun", "`dalirun ps` lists those of dalirun", "`" + here + "/bin/dalirun ps` lists those of dalirun"},
		{"/opt/d/dalirun", "dalirun stop --workspace /x/dalirun && dalirun serve", "/opt/d/dalirun stop --workspace /x/dalirun && /opt/d/dalirun serve"},
		{"/a b/dalirun", "run `dalirun doctor`, or `docker info`", "run `'/a b/dalirun' doctor`, or `docker info`"},
		{"/a/$1/dalirun", "`dalirun gc`", "`'/a/$1/dalirun' gc`"},
	} {
		p := remedy.Program{Path: tt.path}
		if got := p.Commands(tt.text); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.path, got, tt.want)
		}
		if got := p.Commands(p.Commands(tt.text)); got != tt.want {
			t.Errorf("%s, twice: %s\nwant %s", tt.path, got, tt.want)
		}
	}
}

// A command about servers is for the container engine that was asked. Another shell may find another one.
func TestProgramEngine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ path, text, want string }{
		{"dalirun", "`dalirun ps` lists those of dalirun", "`DOCKER_HOST=tcp://b dalirun ps` lists those of dalirun"},
		{"/opt/d/dalirun", "dalirun stop --workspace /x && dalirun serve", "DOCKER_HOST=tcp://b /opt/d/dalirun stop --workspace /x && DOCKER_HOST=tcp://b /opt/d/dalirun serve"},
		{"dalirun", "dalirun gc", "DOCKER_HOST=tcp://b dalirun gc"},
		{"/opt/d/dalirun", "`dalirun serve --help` has examples", "`/opt/d/dalirun serve --help` has examples"},
		{"dalirun", "docker unpause a", "DOCKER_HOST=tcp://b docker unpause a"},
		{"dalirun", "`docker unpause a` mends it", "`DOCKER_HOST=tcp://b docker unpause a` mends it"},
		{"dalirun", "`dalirun psst`, `dalirun --help`", "`dalirun psst`, `dalirun --help`"},
	} {
		p := remedy.Program{Path: tt.path, Engine: "DOCKER_HOST=tcp://b"}
		if got := p.Commands(tt.text); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.path, got, tt.want)
		}
		if got := p.Commands(p.Commands(tt.text)); got != tt.want {
			t.Errorf("%s, twice: %s\nwant %s", tt.path, got, tt.want)
		}
	}
}

// Whatever is around a hint, it gets there.
func TestProgramName(t *testing.T) {
	t.Parallel()
	fault := func() *pipeline.Fault { return pipeline.Faultf(pipeline.NotReady, "`dalirun ps` says", "x") }
	a, b, c := fault(), fault(), fault()
	inner := pipeline.Usagef("", "around: %w", c)
	err := errors.Join(&pipeline.StepError{Step: "serve", Err: a}, fmt.Errorf("y: %w, %w", b, errors.New("z")), inner)
	remedy.Program{Path: "/opt/dalirun"}.Name(err)
	for _, f := range []*pipeline.Fault{a, b, c} {
		if f.Hint != "`/opt/dalirun ps` says" {
			t.Error(f.Hint)
		}
	}
}
