package cli

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
)

// Who calls dalirun by a path gets its commands with that path, wherever they are told, and for the same container engine.
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
	called := "DOCKER_HOST=" + engine.Host() + " /opt/bin/dalirun"
	mend := called + " stop --workspace WORKSPACE && " + called + " serve"
	for _, tt := range []struct {
		args string
		code ExitCode
		want string
	}{
		{"ps", ExitOK, "  " + mend + "\n"},
		{"ps --format json", ExitOK, `"mend": "` + mend + `"`},
		{"serve --accel cpu --weights random:0 --workspace WORKSPACE", ExitEnvironment, "hint: `" + mend + "` mends it\n"},
		{"classify --url 127.0.0.1:9 " + picture, ExitNotReady, "`" + called + " ps` lists those of dalirun\n"},
		{"classify --format json --url 127.0.0.1:9 " + picture, ExitNotReady, "`" + called + " ps` lists those of dalirun\""},
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

// The variables that are set are what another shell lacks.
func TestEngineVariables(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{"DOCKER_HOST": "", "HOME": "/root"}, ""},
		{map[string]string{"DOCKER_CONTEXT": "gpus"}, "DOCKER_CONTEXT=gpus"},
		{
			map[string]string{"DOCKER_CERT_PATH": "/a b", "DOCKER_HOST": "tcp://gpus:2376", "DOCKER_TLS_VERIFY": "1"},
			"DOCKER_HOST=tcp://gpus:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH='/a b'",
		},
	} {
		if got := appIn(tt.env, io.Discard, io.Discard).engineVariables(); got != tt.want {
			t.Errorf("%v: %s\nwant %s", tt.env, got, tt.want)
		}
	}
}
