package docker

import (
	"testing"

	"github.com/dalirun/dalirun/internal/container"
)

// What of an environment leads to an engine is known to who has to correct it, and to who wants another shell to find it.
func TestSettingsOf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env         map[string]string
		want        container.Settings
		assignments string
	}{
		"none":    {nil, container.Settings{Variables: "DOCKER_HOST or DOCKER_CONTEXT"}, ""},
		"empty":   {map[string]string{"DOCKER_HOST": ""}, container.Settings{Variables: "DOCKER_HOST or DOCKER_CONTEXT"}, ""},
		"version": {map[string]string{"DOCKER_API_VERSION": "1.40"}, container.Settings{Variables: "DOCKER_API_VERSION", Version: "DOCKER_API_VERSION"}, "DOCKER_API_VERSION=1.40"},
		"several": {
			map[string]string{"DOCKER_CONFIG": "/a b", "DOCKER_HOST": "tcp://b:2375"},
			container.Settings{Variables: "DOCKER_HOST or DOCKER_CONFIG", NamedBy: "DOCKER_HOST"},
			"DOCKER_HOST=tcp://b:2375 DOCKER_CONFIG='/a b'",
		},
	} {
		env := func(name string) string { return tt.env[name] }
		r, err := New(Options{Env: env, Home: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		var configured container.Configured = r
		if got := configured.Settings(); got != tt.want {
			t.Errorf("%s: %+v", name, got)
		}
		if got := Assignments(env); got != tt.assignments {
			t.Errorf("%s: %s", name, got)
		}
	}
}
