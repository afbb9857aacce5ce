package docker

import "testing"

// What of an environment leads to an engine is known to who has to correct it, and to who wants another shell to find it.
func TestSettingsOf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env                    map[string]string
		variables, assignments string
	}{
		"none":    {nil, "DOCKER_HOST or DOCKER_CONTEXT", ""},
		"empty":   {map[string]string{"DOCKER_HOST": ""}, "DOCKER_HOST or DOCKER_CONTEXT", ""},
		"version": {map[string]string{"DOCKER_API_VERSION": "1.40"}, "DOCKER_API_VERSION", "DOCKER_API_VERSION=1.40"},
		"several": {
			map[string]string{"DOCKER_CONFIG": "/a b", "DOCKER_HOST": "tcp://b:2375"},
			"DOCKER_HOST or DOCKER_CONFIG", "DOCKER_HOST=tcp://b:2375 DOCKER_CONFIG='/a b'",
		},
	} {
		env := func(name string) string { return tt.env[name] }
		if got := variables(env); got != tt.variables {
			t.Errorf("%s: %s", name, got)
		}
		if got := Assignments(env); got != tt.assignments {
			t.Errorf("%s: %s", name, got)
		}
	}
}
