//go:build integration

package integration

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"

	"github.com/dalirun/dalirun/internal/needtest"
	"github.com/dalirun/dalirun/steps"
)

func testPortInUse(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	o := opts{Dir: t.TempDir()}
	r := mustRun(t, 3, c.engine, o, c.args("serve", "--grpc-port", port)...)
	for _, part := range []string{port, strconv.Itoa(os.Getpid())} { // it is this test that has it
		if !strings.Contains(r.Stderr, part) {
			t.Errorf("%q is not in:\n%s", part, r.Stderr)
		}
	}
	if made := c.engine.created(t, workspace(o.Dir), time.Now().Add(-r.Duration)); len(made) > 0 {
		t.Errorf("it started %v all the same", made)
	}
}

func TestNoCheckpoint(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := opts{Dir: t.TempDir()}
	file := write(t, o.Dir, "my weights.pth", []byte("PK\x03\x04these are no weights\n")) // what begins otherwise is refused before
	r := mustRun(t, 4, c.engine, o, c.args("setup", "--weights", file, "--cache-dir", t.TempDir())...)
	for _, part := range []string{"export_onnx.py", "is not a PyTorch checkpoint", "docker run", ".log"} {
		if !strings.Contains(r.Stderr, part) {
			t.Errorf("%q is not in:\n%s", part, r.Stderr)
		}
	}
	c.checkNoContainer(t, o.Dir)
}

// small returns a folder that holds some bytes and no more.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		needtest.Missing(t, "mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDiskIsFull has no room for the copy of the weights, and then none for what a container makes of them.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	weights := filepath.Join(c.entry(t, string(steps.IDWeights)), "files", "weights.pth")
	for _, size := range []string{"40m", "160m"} {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			o := opts{Dir: t.TempDir()}
			cache := small(t, size)
			r := mustRun(t, 3, c.engine, o, c.args("setup", "--weights", weights, "--cache-dir", cache)...)
			if !strings.Contains(strings.ToLower(r.Stderr), "no space left on device") {
				t.Errorf("it does not say that the disk is full:\n%s", r.Stderr)
			}
			c.checkNoContainer(t, o.Dir)
			soundCache(t, cache)
		})
	}
}

// TestFaultsOfImages are those of a machine whose engine has no network.
func TestFaultsOfImages(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	t.Run("no base image", func(t *testing.T) {
		t.Parallel()
		o := l.opts(t)
		r := mustRun(t, 3, l.engine, o, "setup", "--accel", "cpu", "--weights", "random:0", "--base-image", "nosuch:image")
		if !strings.Contains(r.Stderr, "nosuch:image") || !strings.Contains(r.Stderr, "--base-image") {
			t.Errorf("it does not name the image, or what to do:\n%s", r.Stderr)
		}
		if entries, err := filepath.Glob(filepath.Join(o.Dir, ".cache", "dalirun", "entries", "*")); err != nil || len(entries) > 0 {
			t.Errorf("the cache has %v, %v", entries, err)
		}
	})
	t.Run("build is cancelled", func(t *testing.T) { t.Parallel(); l.testCancelledBuild(t) })
	for _, closed := range []string{"stdout", "stderr"} {
		t.Run(closed+" is closed", func(t *testing.T) { t.Parallel(); l.testClosed(t, closed) })
	}
}

// testCancelledBuild interrupts a build whose step never ends: the engine's own container of it goes as well.
func (l lane) testCancelledBuild(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hang")
	if err := goBuild(t.Context(), file, "github.com/dalirun/dalirun/integration/stub/hang"); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	base := stubRegistry + "/base:hang"
	stubs{l.engine, binary}.image(t, base, nil, nil)
	o := l.opts(t)
	p := start(t, l.engine, o, "setup", "--accel", "cpu", "--images", "local", "--weights", "random:0", "--base-image", base)
	builds := func() (running []string) {
		rows, err := l.engine.client(t).ContainerList(t.Context(), dcontainer.ListOptions{All: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if len(row.Labels) == 0 && strings.HasPrefix(row.Command, "/bin/sh -c") {
				running = append(running, row.ID)
			}
		}
		return running
	}
	p.until(t, "both builds run", func() bool { return len(builds()) == 2 })
	p.signal(t, syscall.SIGTERM)
	r := p.wait(t)
	if r.Code != 143 {
		t.Errorf("exit code %d\n%s", r.Code, r.Stderr)
	}
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(builds()) > 0 { // the engine notices by itself that nobody listens any more
		select {
		case <-deadline.C:
			t.Fatalf("containers of the build are left: %v", builds())
		case <-tick.C:
		}
	}
}

// testClosed runs dalirun with nobody who reads what it writes, as in `dalirun e2e | head -0`.
func (l lane) testClosed(t *testing.T, which string) {
	t.Helper()
	o := l.opts(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	argv := append(append(l.engine.enter(), dalirun, "e2e", "--progress", "plain"), flags(stubRegistry, "25.03")...)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = o.Dir, o.environment(l.engine, o.Dir)
	var rest bytes.Buffer
	if cmd.Stdout, cmd.Stderr = &rest, writer; which == "stdout" {
		cmd.Stdout, cmd.Stderr = writer, &rest
	}
	err = errors.Join(reader.Close(), cmd.Start(), writer.Close())
	if err != nil {
		t.Fatal(err)
	}
	// Whoever reads neither the verdict nor the progress has the exit code.
	if err := cmd.Wait(); err != nil || strings.Contains(rest.String(), "broken pipe") {
		t.Errorf("it ended with %v although it passed and nobody read its %s\n%s", err, which, &rest)
	}
	if left := l.engine.containers(t, workspace(o.Dir)); len(left) != 0 {
		t.Errorf("containers are left: %v", left)
	}
	soundCache(t, filepath.Join(o.Dir, ".cache", "dalirun"))
}
