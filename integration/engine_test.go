//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dalirun/dalirun/internal/needtest"
)

const (
	// gpuHook is what makes Docker Engine know --gpus: an executable of this name on its PATH when it starts. The engine
	// has it called before the container's process starts.
	gpuHook = "nvidia-container-runtime-hook"
	// netnsPrefix and the test's PID are the name of an own engine's network namespace.
	netnsPrefix = "dalirun-it-"
)

// startEngine starts a container engine of the test's own, which knows --gpus although there is no GPU. It is in a
// network namespace: beside another engine it would take that one's bridge and its rules.
func startEngine(t *testing.T) engine {
	t.Helper()
	return startEngineIn(t, place{})
}

// place is how an engine sees this machine, beside the network that is its own.
type place struct {
	hidden string // a folder in whose stead the engine has an empty one
	tcp    bool   // it is asked on an address of its network
}

func startEngineIn(t *testing.T, where place) engine {
	t.Helper()
	if os.Getuid() != 0 {
		needtest.Missing(t, "a container engine of the test's own needs root")
	}
	for _, program := range []string{"dockerd", "ip", "nsenter", "iptables"} {
		if _, err := exec.LookPath(program); err != nil {
			needtest.Missing(t, "a container engine of the test's own needs %s: %v", program, err)
		}
	}
	// Not t.TempDir: a unix socket's path has at most 107 bytes, and the socket is for other users too.
	dir, err := os.MkdirTemp("", "dalirun-engine") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unmountUnder(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(bin, 0o755), os.WriteFile(filepath.Join(bin, gpuHook), []byte("#!/bin/sh\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	e := engine{Host: "unix://" + filepath.Join(dir, "s"), netns: addNetns(t), bin: bin}
	if where.tcp {
		e.Host = "tcp://" + connect(t, e.netns) + ":2375"
	}
	log := startDockerd(t, e, where, dir)
	waitForEngine(t, e, log)
	return e
}

// connect joins a network namespace to that of the test, and returns its address there.
func connect(t *testing.T, netns string) string {
	t.Helper()
	name := filepath.Base(netns)
	net := fmt.Sprintf("10.213.%d.", rand.IntN(256))
	near, far := fmt.Sprintf("dit%x", rand.Uint32()), "uplink"
	for _, argv := range [][]string{
		{"ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name}, // it ends with the namespace
		{"ip", "addr", "add", net + "1/30", "dev", near},
		{"ip", "link", "set", near, "up"},
		{"ip", "-n", name, "addr", "add", net + "2/30", "dev", far},
		{"ip", "-n", name, "link", "set", far, "up"},
	} {
		if err := command(t, argv...); err != nil {
			needtest.Missing(t, "%v", err)
		}
	}
	return net + "2"
}

// addNetns makes a network namespace with a loopback interface and returns its path.
func addNetns(t *testing.T) string {
	t.Helper()
	removeDeadNetns(t)
	name := netnsPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := command(t, "ip", "netns", "add", name); err != nil {
		needtest.Missing(t, "%v", err)
	}
	t.Cleanup(func() {
		if err := command(t, "ip", "netns", "del", name); err != nil {
			t.Error(err)
		}
	})
	if err := command(t, "ip", "-n", name, "link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join("/run/netns", name)
}

// removeDeadNetns removes the namespaces of test processes that were killed. Their engines ended with them.
func removeDeadNetns(t *testing.T) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("/run/netns", netnsPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), netnsPrefix), "-")
		if _, err := os.Stat(filepath.Join("/proc", pid)); os.IsNotExist(err) {
			if err := command(t, "ip", "netns", "del", filepath.Base(path)); err != nil {
				t.Log(err) // it only stays where it was
			}
		}
	}
}

// command runs a program of this machine, also while the test ends.
func command(t *testing.T, argv ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// startDockerd starts dockerd with all that it writes under dir, and returns its log.
func startDockerd(t *testing.T, e engine, where place, dir string) *output {
	t.Helper()
	name := filepath.Base(e.netns)
	argv := e.enter()
	if where.hidden != "" {
		argv = append(argv, "unshare", "--mount", "--", "sh", "-c", `mount -t tmpfs tmpfs "$0" && exec "$@"`, where.hidden)
	}
	argv = append(argv, "dockerd",
		"--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"),
		"--host="+e.Host,
		// Where a system's containerd runs, dockerd uses it: not as the machine's own engine does.
		"--containerd-namespace="+name, "--containerd-plugins-namespace="+name+"-plugins",
	)
	cmd := exec.Command(argv[0], argv[1:]...)
	log := &output{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = 5 * time.Second // what it started may have the pipes
	cmd.Env = append(os.Environ(), "PATH="+e.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	// A test process that is killed takes its engine along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := cmd.Start(); err != nil {
		needtest.Missing(t, "%v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // stopping it is how it ends
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(20 * time.Second)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
			t.Errorf("dockerd did not end after SIGTERM:\n%s", log)
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	})
	return log
}

func waitForEngine(t *testing.T, e engine, log *output) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := e.client(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := c.Ping(ctx); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			needtest.Missing(t, "dockerd did not answer within 30 s:\n%s", log)
		case <-tick.C:
		}
	}
}

// unmountUnder unmounts what an engine left mounted under dir.
func unmountUnder(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			if err := syscall.Unmount(fields[4], syscall.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", fields[4], err))
			}
		}
	}
	return errors.Join(errs...)
}
