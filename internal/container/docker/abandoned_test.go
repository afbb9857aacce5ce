//go:build integration

package docker_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
	"github.com/dalirun/dalirun/internal/container/docker"
)

// TestAbandoned takes clients away from the engine while it creates and starts containers for them, as kill -9 does, and
// then clears away as the next start does: what Remove says is gone must be gone.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	network, address, _ := strings.Cut(newRuntime(t, docker.Options{}).Endpoint(), "://")
	env := e.env(t, docker.Options{UID: os.Getuid(), GID: os.Getgid()})
	t.Cleanup(func() { removeListed(t, env) })
	const (
		rounds = 60
		// longest is what a creation takes where two cores are busy.
		longest = 60 * time.Millisecond
	)
	random := rand.New(rand.NewPCG(3, 2)) // the same delays each time
	listed := 0
	for range rounds {
		source := t.TempDir()
		line := newLine(t, network, address)
		client := newRuntime(t, docker.Options{Host: line.host, Labels: env.Labels, UID: os.Getuid(), GID: os.Getgid()})
		if _, err := client.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() {
			_, _ = client.Run(t.Context(), container.Spec{
				Step: "probe", Image: e.image, Command: []string{"ignore"}, Network: container.NetworkNone,
				Outputs: []container.Mount{{Source: source, Target: "/out"}}, Init: true, Pids: 64,
			}, container.Streams{}) // its line is cut, sooner or later
		})
		<-time.After(time.Duration(random.Int64N(int64(longest))))
		line.cut()
		if err := os.RemoveAll(source); err != nil { // what a sweep of the cache does: a creation may fail by it
			t.Error(err)
		}
		listed += removeListed(t, env)
		all.Wait()
	}
	t.Logf("of %d clients, %d left a container that was listed at once", rounds, listed)
	if listed == 0 {
		t.Error("no client was killed at a moment that matters")
	}
	// An engine may list a container only after the look that followed its client's death.
	<-time.After(time.Second)
	removeListed(t, env)
	if rows, err := env.Runner.List(t.Context(), env.Labels); err != nil || len(rows) != 0 {
		t.Errorf("left behind: %+v, %v", rows, err)
	}
}

// removeListed removes what is listed, and returns how many those are.
func removeListed(t *testing.T, env containertest.Env) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	rows, err := env.Runner.List(ctx, env.Labels)
	if err != nil {
		t.Fatal(err)
	}
	gone := map[string]bool{}
	for _, row := range rows {
		if err := env.Runner.Remove(ctx, row.ID); err != nil {
			t.Error(err)
		}
		gone[row.ID] = true
	}
	left, err := env.Runner.List(ctx, env.Labels)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range left {
		if gone[row.ID] {
			t.Errorf("%s was removed, and is listed", row.Name)
		}
	}
	return len(rows)
}

// line is a way to the engine that can be cut.
type line struct {
	host string

	mu     sync.Mutex
	closed bool
	ends   []io.Closer
}

func newLine(t *testing.T, network, address string) *line {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "engine.sock")
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	cable := &line{host: "unix://" + socket, ends: []io.Closer{l}}
	t.Cleanup(cable.cut)
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			var d net.Dialer
			far, err := d.DialContext(context.WithoutCancel(t.Context()), network, address)
			if err != nil {
				_ = near.Close()
				continue
			}
			cable.hold(near, far)
			go func() { _, _ = io.Copy(far, near) }()
			go func() { _, _ = io.Copy(near, far) }()
		}
	}()
	return cable
}

// hold keeps what is to be closed, or closes it at once.
func (l *line) hold(ends ...io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, ends...)
	if l.closed {
		l.closeAll()
	}
}

// cut closes all connections, as the end of the client's process does.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.closeAll()
}

func (l *line) closeAll() {
	for _, end := range l.ends {
		_ = end.Close() // some are closed already
	}
	l.ends = nil
}
