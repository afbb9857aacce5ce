package containertest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest/probe"
)

// ProbePath is where the contract suite's image has the probe: its entrypoint, and what Exec calls.
const ProbePath = "/probe"

// ProbeImage returns the image of the contract suite for a [Fake]. It is what an image FROM scratch with the probe as
// its entrypoint is to a real runtime.
func ProbeImage() Image {
	run := func(ctx context.Context, spec container.Spec, out container.Streams) int {
		return probe.Run(ctx, &fakeSystem{container: surroundings(ctx), spec: spec}, spec.Command, out.Stdout, out.Stderr)
	}
	return Image{
		Image: container.Image{Env: map[string]string{"PROBE": "image"}},
		Main:  run, Commands: map[string]Program{ProbePath: run},
	}
}

// fakeSystem is the probe's surroundings in a Fake.
type fakeSystem struct {
	container *fakeContainer
	spec      container.Spec
}

func (s *fakeSystem) Getenv(name string) string {
	if v, ok := s.spec.Env[name]; ok {
		return v
	}
	return s.container.image.Env[name]
}

func (s *fakeSystem) ReadFile(name string) ([]byte, error) {
	host, _, err := HostPath(s.spec, name)
	if err == nil {
		return os.ReadFile(host)
	}
	s.container.mu.Lock()
	defer s.container.mu.Unlock()
	data, ok := s.container.files[path.Clean(name)]
	if !ok {
		return nil, err
	}
	return data, nil
}

func (s *fakeSystem) WriteFile(name string, data []byte) error {
	host, writable, err := HostPath(s.spec, name)
	switch {
	case err == nil && writable:
		return os.WriteFile(host, data, 0o644) //nolint:gosec // as readable as the real probe's
	case err == nil, s.spec.ReadOnly && !s.onTmpfs(name):
		return fmt.Errorf("write %s: %w", name, syscall.EROFS)
	}
	s.container.mu.Lock()
	defer s.container.mu.Unlock()
	s.container.files = put(s.container.files, path.Clean(name), data)
	return nil
}

func (s *fakeSystem) Modified(name string) (time.Time, error) {
	host, _, err := HostPath(s.spec, name)
	if err != nil {
		return time.Time{}, err
	}
	return probe.OS{}.Modified(host)
}

func (s *fakeSystem) onTmpfs(name string) bool {
	for dir := range s.spec.Tmpfs {
		if strings.HasPrefix(path.Clean(name), path.Clean(dir)+"/") {
			return true
		}
	}
	return false
}

func (*fakeSystem) IDs() (uid, gid int) { return os.Getuid(), os.Getgid() }

func (s *fakeSystem) Interfaces() ([]string, error) {
	if s.spec.Network == container.NetworkPublish {
		return []string{"eth0"}, nil
	}
	return nil, nil
}

func (s *fakeSystem) Listen(_ context.Context, port uint16) (net.Listener, error) {
	return s.container.listener(port)
}

func (s *fakeSystem) Terminated() <-chan struct{} { return s.container.handleTerm() }

func (s *fakeSystem) Allocate(n int64) {
	if s.spec.Memory > 0 && n > s.spec.Memory {
		s.container.kill(codeKilled, true)
	}
}
