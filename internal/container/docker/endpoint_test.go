package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dalirun/dalirun/internal/container"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir := filepath.Join(home, ".docker")
	addContext(t, dir, "far", "ssh://me@far.example")
	addContext(t, dir, "near", "unix:///run/user/1000/docker.sock")
	write(t, filepath.Join(dir, "config.json"), `{"currentContext": "near"}`, 0o600)
	empty := t.TempDir()

	for name, tt := range map[string]struct {
		options Options
		env     map[string]string
		want    string
		remote  bool
	}{
		"nothing":                  {Options{Home: empty}, nil, "unix:///var/run/docker.sock", false},
		"current context":          {Options{Home: home}, nil, "unix:///run/user/1000/docker.sock", false},
		"DOCKER_CONTEXT":           {Options{Home: home}, map[string]string{"DOCKER_CONTEXT": "far"}, "ssh://me@far.example", true},
		"DOCKER_CONTEXT=default":   {Options{Home: home}, map[string]string{"DOCKER_CONTEXT": "default"}, "unix:///var/run/docker.sock", false},
		"DOCKER_HOST wins":         {Options{Home: home}, map[string]string{"DOCKER_CONTEXT": "far", "DOCKER_HOST": "tcp://10.0.0.1:2375"}, "tcp://10.0.0.1:2375", true},
		"the option wins":          {Options{Home: home, Host: "tcp://127.0.0.1:2375"}, map[string]string{"DOCKER_HOST": "tcp://10.0.0.1:2375"}, "tcp://127.0.0.1:2375", false},
		"DOCKER_CONFIG":            {Options{Home: empty}, map[string]string{"DOCKER_CONFIG": dir}, "unix:///run/user/1000/docker.sock", false},
		"a host without a scheme":  {Options{Home: empty, Host: "far.example:2375"}, nil, "tcp://far.example:2375", true},
		"TLS without certificates": {Options{Home: empty, Host: "tcp://far.example:2376"}, map[string]string{"DOCKER_TLS": "1"}, "tcp://far.example:2376", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.options.Env = func(name string) string { return tt.env[name] }
			r, err := New(tt.options)
			if err != nil {
				t.Fatal(err)
			}
			if r.endpoint != tt.want || r.remote != tt.remote || r.copies(container.Spec{}) != tt.remote {
				t.Errorf("got %s (remote %t), want %s (%t)", r.endpoint, r.remote, tt.want, tt.remote)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	broken := t.TempDir()
	write(t, filepath.Join(broken, "config.json"), "{", 0o600)
	for name, o := range map[string]Options{
		"an unknown context":     {Env: func(name string) string { return map[string]string{"DOCKER_CONTEXT": "gone"}[name] }, Home: t.TempDir()},
		"a broken configuration": {Env: func(name string) string { return map[string]string{"DOCKER_CONFIG": broken}[name] }},
		"certificates of nowhere": {Host: "tcp://x:1", Env: func(name string) string {
			return map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "nowhere"}[name]
		}},
		"TLS with nobody to trust": {Host: "tcp://x:1", Home: t.TempDir(), Env: func(name string) string { return map[string]string{"DOCKER_TLS_VERIFY": "1"}[name] }},
		"an unknown kind of host":  {Host: "gopher://x"},
		"an unknown kind of copy":  {Transfer: "pigeon"},
		"an ssh host with a query": {Host: "ssh://me@far.example?x=y"},
	} {
		if r, err := New(o); err == nil {
			t.Errorf("%s: %s", name, r.endpoint)
		}
	}
}

// addContext writes a context as docker context create does.
func addContext(t *testing.T, dir, name, host string) {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	meta := filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]))
	if err := os.MkdirAll(meta, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(meta, "meta.json"), fmt.Sprintf(
		`{"Name":%q,"Metadata":{"Description":"x"},"Endpoints":{"docker":{"Host":%q,"SkipTLSVerify":false}}}`, name, host), 0o600)
}
