package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/pipeline"
)

func TestAsCalled(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ program, text, want string }{
		{"dalirun", "`dalirun ps` lists", "`dalirun ps` lists"},
		{"", "dalirun stop", "dalirun stop"},
		{"bin/dalirun", "`dalirun ps` lists those of dalirun", "`" + here + "/bin/dalirun ps` lists those of dalirun"},
		{"/opt/d/dalirun", "dalirun stop --workspace /x/dalirun && dalirun serve", "/opt/d/dalirun stop --workspace /x/dalirun && /opt/d/dalirun serve"},
		{"/a b/dalirun", "run `dalirun doctor`, or `docker info`", "run `'/a b/dalirun' doctor`, or `docker info`"},
		{"/a/$1/dalirun", "`dalirun gc`", "`'/a/$1/dalirun' gc`"},
	} {
		a := &App{Program: tt.program}
		if got := a.asCalled(tt.text); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.program, got, tt.want)
		}
		if got := a.asCalled(a.asCalled(tt.text)); got != tt.want {
			t.Errorf("%s, twice: %s\nwant %s", tt.program, got, tt.want)
		}
	}
}

// Whatever is around a hint, it gets there.
func TestExplainedHints(t *testing.T) {
	t.Parallel()
	fault := func() *pipeline.Fault { return pipeline.Faultf(pipeline.NotReady, "`dalirun ps` says", "x") }
	a, b, c := fault(), fault(), fault()
	inner := pipeline.Faultf(pipeline.Usage, "", "around: %w", c)
	err := errors.Join(&pipeline.StepError{Step: "serve", Err: a}, fmt.Errorf("y: %w, %w", b, errors.New("z")), inner)
	_ = (&App{Program: "/opt/dalirun"}).explained(err)
	for _, f := range []*pipeline.Fault{a, b, c} {
		if f.Hint != "`/opt/dalirun ps` says" {
			t.Error(f.Hint)
		}
	}
}

// Who calls dalirun by a path gets its commands with that path, wherever they are told.
func TestCommandsAsCalled(t *testing.T) {
	t.Parallel()
	me, err := owner.CurrentIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w, _ := worlds(t, "stocked")
	engine := dockertest.New(t, w.fake())
	workspace := filepath.Join(t.TempDir(), ".dalirun")
	id := engine.Leave(container.Summary{Name: "mute", Running: true, Labels: container.Labels{
		container.LabelRun: "r1", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
		container.LabelRole: string(container.RoleServer),
	}})
	if err := owner.WriteServer(workspace, owner.ServerFile{Container: id, Name: "mute", Run: "r1", Host: me.Host, Command: []string{"serve"}}); err != nil {
		t.Fatal(err)
	}
	picture := filepath.Join(makePictures(t), "coffee.jpg")
	const mend = "/opt/bin/dalirun stop --workspace WORKSPACE && /opt/bin/dalirun serve"
	for _, tt := range []struct {
		args string
		code ExitCode
		want string
	}{
		{"ps", ExitOK, "  " + mend + "\n"},
		{"ps --format json", ExitOK, `"mend": "/opt/bin/dalirun stop --workspace WORKSPACE && /opt/bin/dalirun serve"`},
		{"serve --accel cpu --weights random:0 --workspace WORKSPACE", ExitEnvironment, "hint: `" + mend + "` mends it\n"},
		{"classify --url 127.0.0.1:9 " + picture, ExitNotReady, "`/opt/bin/dalirun ps` lists those of dalirun\n"},
		{"classify --format json --url 127.0.0.1:9 " + picture, ExitNotReady, "`/opt/bin/dalirun ps` lists those of dalirun\""},
		{"plan --accel cpu --weights random:0 --workspace WORKSPACE --progress quiet classify", ExitUsage, "`/opt/bin/dalirun plan --help` has examples"},
	} {
		var out bytes.Buffer
		a := appIn(map[string]string{"DOCKER_HOST": engine.Host(), "XDG_CACHE_HOME": t.TempDir()}, &out, &out)
		a.Program = "/opt/bin/dalirun"
		args := strings.Fields(strings.ReplaceAll(tt.args, "WORKSPACE", workspace))
		if code, want := a.Run(t.Context(), args), strings.ReplaceAll(tt.want, "WORKSPACE", workspace); code != tt.code || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", tt.args, code, tt.code, want, &out)
		}
	}
}
