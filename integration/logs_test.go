//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"

	"github.com/dalirun/dalirun/internal/owner"
)

// says lets the server of a workspace write to its stderr what a shell script prints.
func (c cpu) says(t *testing.T, o opts, script string) {
	t.Helper()
	api := c.engine.client(t)
	argv := []string{"sh", "-c", "{ " + script + "\n} >/proc/1/fd/2"}
	created, err := api.ContainerExecCreate(t.Context(), c.server(t, o), dcontainer.ExecOptions{Cmd: argv})
	if err == nil {
		err = api.ContainerExecStart(t.Context(), created.ID, dcontainer.ExecStartOptions{})
	}
	for deadline := time.Now().Add(3 * time.Minute); err == nil && time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		var state dcontainer.ExecInspect
		if state, err = api.ContainerExecInspect(t.Context(), created.ID); err == nil && !state.Running {
			if state.ExitCode != 0 {
				t.Fatalf("%s: exit code %d", script, state.ExitCode)
			}
			return
		}
	}
	t.Fatalf("%s: %v", script, err)
}

// once checks that each text is in what dalirun logs prints, once.
func once(t *testing.T, r result, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if n := strings.Count(r.Stdout, text); n != 1 {
			t.Errorf("%q is there %d times, want once:\n%.4000s", text, n, r.Stdout)
		}
	}
}

// TestLogs reads what a detached server writes, until it is killed behind dalirun's back and the next serve removes it.
func TestLogs(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t, ownPorts(t)...)
	const startup = "Started GRPCInferenceService"
	c.says(t, o, "echo first words")
	r := mustRun(t, 0, c.engine, o, "logs")
	once(t, r, startup, "first words")
	if r.Stderr != "" {
		t.Errorf("of a server that runs:\n%s", r.Stderr)
	}
	if r := mustRun(t, 0, c.engine, o, "logs", "--tail", "1"); r.Stdout != "first words\n" {
		t.Errorf("--tail 1:\n%s", r.Stdout)
	}
	p := start(t, c.engine, o, "logs", "--follow", "--tail", "1")
	p.until(t, "the log is followed", func() bool { return strings.Contains(p.stdout.String(), "first words\n") })
	c.says(t, o, "echo last words")
	p.until(t, "the next line", func() bool { return strings.Contains(p.stdout.String(), "last words\n") })
	if err := c.engine.client(t).ContainerKill(t.Context(), c.server(t, o), "KILL"); err != nil {
		t.Fatal(err)
	}
	r = p.wait(t)
	if r.Code != 0 || r.Stdout != "first words\nlast words\n" || !strings.Contains(r.Stderr, " ended with status 137 at ") {
		t.Errorf("followed to its end: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	r = mustRun(t, 0, c.engine, o, "logs")
	once(t, r, startup, "first words", "last words")
	if !strings.Contains(r.Stderr, " ended with status 137 at ") {
		t.Errorf("of one that was killed:\n%s", r.Stderr)
	}
	if r := mustRun(t, 0, c.engine, o, "logs", "--since", time.Now().Add(time.Hour).Format(time.RFC3339)); r.Stdout != "" {
		t.Errorf("--since an hour hence:\n%s", r.Stdout)
	}
	server, err := owner.ReadServer(workspace(o.Dir))
	if err != nil {
		t.Fatal(err)
	}

	mustRun(t, 0, c.engine, o, c.args("serve", append(ownPorts(t), "--detach")...)...)
	kept, err := os.ReadFile(filepath.Join(owner.RunDir(workspace(o.Dir), server.Run), "serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	once(t, result{Stdout: string(kept)}, startup, "first words", "last words")
	if r := mustRun(t, 0, c.engine, o, "logs"); strings.Contains(r.Stdout, "words") {
		t.Errorf("of the next server:\n%s", r.Stdout)
	}
	mustRun(t, 0, c.engine, o, "stop")
	r = mustRun(t, 0, c.engine, o, "logs")
	once(t, r, startup)
	if strings.Contains(r.Stdout, "words") || !strings.Contains(r.Stderr, "the last one, ") || !strings.Contains(r.Stderr, ", ended at ") {
		t.Errorf("of one that was stopped:\n%s%s", r.Stdout, r.Stderr)
	}
	c.checkNoContainer(t, o.Dir)
}

// TestLogsOfKilledServe kills the serve that follows its server: what the server writes after that is not lost.
func TestLogsOfKilledServe(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := opts{Dir: t.TempDir()}
	p := start(t, c.engine, o, c.args("serve", ownPorts(t)...)...)
	p.ready(t)
	c.says(t, o, "echo before the kill")
	p.until(t, "the line", func() bool { return strings.Contains(p.stderr.String(), "before the kill") })
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	c.says(t, o, "echo after the kill")
	mustRun(t, 0, c.engine, o, "gc", "--cache-dir", c.cache)
	c.checkNoContainer(t, o.Dir)
	once(t, mustRun(t, 0, c.engine, o, "logs"), "Started GRPCInferenceService", "before the kill", "after the kill")
}

// TestLogsAreBounded lets a detached server write 200 MB.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	o := c.detached(t, ownPorts(t)...)
	const flood = 200_000_000
	c.says(t, o, "head -c 200000000 /dev/zero | tr '\\0' x | fold -w 999; echo; echo last words")
	about, err := c.engine.client(t).ContainerInspect(t.Context(), c.server(t, o))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(about.LogPath + "*")
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 110_000_000 || len(files) > 0 && size < 10_000_000 { // none if the engine is on another machine
		t.Errorf("the container engine keeps %d bytes of %d in %q", size, flood, files)
	}
	if r := mustRun(t, 0, c.engine, o, "logs", "--tail", "1"); r.Stdout != "last words\n" || r.Duration > 10*time.Second {
		t.Errorf("--tail 1 took %s:\n%.200s", r.Duration, r.Stdout)
	}
	r := mustRun(t, 0, c.engine, o, "stop")
	t.Logf("stop took %s", r.Duration)
	r = mustRun(t, 0, c.engine, o, "logs")
	once(t, r, "last words")
	if len(r.Stdout) > 4<<20 || len(r.Stdout) < 3<<20 {
		t.Errorf("%d bytes are kept", len(r.Stdout))
	}
	c.checkNoContainer(t, o.Dir)
}
