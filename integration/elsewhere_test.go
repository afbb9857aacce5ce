//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	dimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/steps"
)

// copied is what is told of an engine that does not see dalirun's folders.
const copied = "folders of this process are not those of the container engine at "

// elsewhere is an engine whose loopback address is not dalirun's, with stub images.
type elsewhere struct {
	engine engine
	stubs  stubs
	opts   opts
	copies bool // its folders are not dalirun's either
}

// newElsewhere starts an engine somewhere. dalirun stays where the test is.
func newElsewhere(t *testing.T, where place) elsewhere {
	t.Helper()
	w := elsewhere{opts: opts{Dir: t.TempDir()}, copies: where.tcp || where.hidden != ""}
	if where.hidden != "" {
		where.hidden = w.opts.Dir
	}
	w.engine = startEngineIn(t, where)
	w.engine.netns, w.engine.bin = "", ""
	w.stubs = newStubs(t, w.engine)
	w.stubs.pytorch(t, pytorchRef(stubRegistry, "25.03"), pytorch2503...)
	w.stubs.triton(t, tritonRef(stubRegistry, "25.03"), triton2503...)
	return w
}

// args are those of a command with the lane and the images.
func (w elsewhere) args(command string, flags ...string) []string {
	return append([]string{
		command, "--accel", "cpu", "--images", "ngc", "--registry", stubRegistry, "--release", "25.03", "--weights", "random:0",
	}, flags...)
}

// mustRun runs a command that starts containers, and looks whether it is told once that folders are copied.
func (w elsewhere) mustRun(t *testing.T, command string, flags ...string) result {
	t.Helper()
	r := mustRun(t, 0, w.engine, w.opts, w.args(command, flags...)...)
	want := 0
	if w.copies {
		want = 1
	}
	if n := strings.Count(r.Stderr, copied+w.engine.Host); n != want {
		t.Errorf("%s tells %d times that folders are copied, want %d:\n%s", command, n, want, r.Stderr)
	}
	return r
}

// clean fails the test if a run has left anything on the engine.
func (w elsewhere) clean(t *testing.T) {
	t.Helper()
	if left := w.engine.containers(t, ""); len(left) != 0 {
		t.Errorf("containers are left: %v", left)
	}
	volumes, err := w.engine.client(t).VolumeList(t.Context(), volume.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes.Volumes {
		t.Errorf("a volume is left: %s %v", v.Name, v.Labels)
	}
}

// TestEngineElsewhere is the whole of dalirun where the job is a container itself and has the socket of its host's engine
// (another network, and the folders are shared or not), and where the engine is reached over a network.
func TestEngineElsewhere(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]place{
		"a mounted socket and shared folders": {},
		"a mounted socket":                    {hidden: "its working folder"},
		"a network":                           {tcp: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newElsewhere(t, where)
			w.mustRun(t, "setup")
			if r := mustRun(t, 0, w.engine, w.opts, w.args("setup")...); strings.Contains(r.Stderr, copied) {
				t.Errorf("a run without containers copies:\n%s", r.Stderr)
			}
			w.mustRun(t, "e2e")
			w.clean(t)
			w.serve(t)
			w.clean(t)
			w.killed(t)
		})
	}
}

func (w elsewhere) serve(t *testing.T) {
	t.Helper()
	r := w.mustRun(t, "serve", "--detach")
	if !strings.Contains(r.Stdout, "ready: on the container engine's host, "+w.engine.Host+": grpc 127.0.0.1:") {
		t.Errorf("serve says\n%s", r.Stdout)
	}
	server := name(w.engine.containers(t, workspace(w.opts.Dir))[0])
	if r = mustRun(t, 0, w.engine, w.opts, "ps"); !strings.Contains(r.Stdout, server+":8001") || !strings.Contains(r.Stdout, " healthy ") {
		t.Errorf("ps says\n%s", r.Stdout)
	}
	picture := write(t, w.opts.Dir, "coffee.jpg", sample(t))
	r = mustRun(t, 0, w.engine, w.opts, "classify", "--format", "json", picture, picture)
	if strings.Count(r.Stdout, fmt.Sprintf(`"server": "%s:8001"`, server)) != 2 || strings.Count(r.Stdout, `"classes"`) != 2 {
		t.Errorf("classify says\n%s", r.Stdout)
	}
	if r = mustRun(t, 0, w.engine, w.opts, "stop"); !strings.Contains(r.Stdout, server) || strings.Contains(r.Stderr, "nothing to drain") {
		t.Errorf("stop says\n%s%s", r.Stdout, r.Stderr)
	}

	p := start(t, w.engine, w.opts, w.args("serve")...)
	p.until(t, "that the server is ready", func() bool { return strings.Contains(p.stdout.String(), "ready: ") })
	p.signal(t, syscall.SIGINT)
	if r := p.wait(t); r.Code != 0 {
		t.Errorf("serve ended with %d after Ctrl-C\n%s", r.Code, r.Stderr)
	}
}

// killed kills runs, one of them while it copies, and looks whether the next one clears away what they left.
func (w elsewhere) killed(t *testing.T) {
	t.Helper()
	for _, k := range []kill{
		{signal: syscall.SIGKILL, at: containerOf(steps.IDExportONNX)},
		{signal: syscall.SIGTERM, at: containerOf(steps.IDExportONNX)},
		{signal: syscall.SIGKILL, at: containerOf(steps.IDServe)},
		{signal: syscall.SIGKILL, at: event(steps.IDServe, "step.ended", "done")},
	} {
		created := watch(t, w.engine, workspace(w.opts.Dir))
		args := w.args("e2e", "--force", string(steps.IDExportONNX), "--progress", "json")
		v := &victim{process: start(t, w.engine, w.opts, args...), cache: filepath.Join(w.opts.Dir, ".cache", "dalirun"), created: created}
		k.at.reach(t, v)
		v.signal(t, k.signal)
		if r := v.wait(t); r.Code != 128+int(k.signal) {
			t.Fatalf("exit code %d after %s\n%s", r.Code, k.signal, r.Stderr)
		}
		if k.signal == syscall.SIGKILL {
			// An engine under load goes on creating what its client asked for, and may end after the next run has looked.
			for range 5 {
				mustRun(t, 0, w.engine, w.opts, w.args("setup")...)
				if len(w.engine.containers(t, "")) == 0 {
					break
				}
				<-time.After(time.Second)
			}
		}
		w.clean(t)
		soundCache(t, v.cache)
	}
}

// TestJobContainer runs dalirun in a container of the engine that it uses by a mounted socket, as CI systems do: in the
// network of its own containers, in none, and in the host's.
func TestJobContainer(t *testing.T) { //nolint:tparallel // its subtests count what one engine was asked
	t.Parallel()
	w := newElsewhere(t, place{})
	j := newJobs(t, w.engine)
	for network, forwarded := range map[string]bool{"bridge": false, "none": true, "host": false} { //nolint:paralleltest // see above
		t.Run(network, func(t *testing.T) {
			began := time.Now()
			code, stderr := j.run(t, network, nil, w.args("e2e")...)
			if code != 0 || strings.Count(stderr, copied) != 1 {
				t.Errorf("exit code %d, and folders are to be copied, which is to be told once:\n%s", code, stderr)
			}
			if execs := execs(t, w.engine, began); (execs > 0) != forwarded {
				t.Errorf("%d programs were started inside of containers; a forwarder is needed: %t", execs, forwarded)
			}
			w.clean(t)
		})
	}
	t.Run("killed", func(t *testing.T) {
		// A CI system ends a job by its container. The next job has another name, and another file system.
		created := watch(t, w.engine, "/builds/.dalirun")
		id := j.start(t, "bridge", nil, w.args("e2e", "--force", string(steps.IDExportONNX))...)
		for end := time.Now().Add(time.Minute); !created.hasStep(string(steps.IDExportONNX)); {
			if <-time.After(time.Millisecond); time.Now().After(end) {
				t.Error("the job did not export within a minute")
				break
			}
		}
		if err := w.engine.client(t).ContainerRemove(t.Context(), id, dcontainer.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Fatal(err)
		}
		if left := w.engine.containers(t, ""); len(left) == 0 {
			t.Error("the job left nothing: the test does not see what it is about")
		}
		code, stderr := j.run(t, "bridge", nil, w.args("setup")...)
		if code != 0 || !strings.Contains(stderr, ": the job that made it, in the container "+id[:12]+", has ended") {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
		w.clean(t)
	})
}

// TestJobContainerOnCPULane lets a job in no network reach the real server, by the Python of its image. It shares the cache with
// the engine, as a CI system's folder for jobs is shared, and is to copy nothing.
func TestJobContainerOnCPULane(t *testing.T) {
	t.Parallel()
	c := cpuLane(t)
	lane := c.withOwnCache(t, nil)
	began := time.Now()
	j := newJobs(t, c.engine)
	code, stderr := j.run(t, "none", []string{lane.cache}, lane.args("e2e")...)
	if code != 0 || strings.Contains(stderr, copied) {
		t.Errorf("exit code %d, and nothing is to be copied:\n%s", code, stderr)
	}
	if execs(t, c.engine, began) == 0 {
		t.Error("no program was started inside of a container, and no other way leads there")
	}
	c.checkNoContainer(t, "/builds")
}

// jobs are containers of an engine that have its socket and run dalirun.
type jobs struct {
	engine engine
	image  string
}

func newJobs(t *testing.T, e engine) jobs {
	t.Helper()
	binary, err := os.ReadFile(dalirun)
	if err != nil {
		t.Fatal(err)
	}
	j := jobs{e, fmt.Sprintf("job.test/dalirun:%d", os.Getpid())}
	stubs{e, binary}.image(t, j.image, []string{"usr/bin/dalirun"}, nil)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if _, err := e.client(t).ImageRemove(ctx, j.image, dimage.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	return j
}

// run runs dalirun in a new job, which shares folders with the engine, and returns its exit code and what it writes to stderr.
func (j jobs) run(t *testing.T, network string, shared []string, args ...string) (code int, stderr string) {
	t.Helper()
	id := j.start(t, network, shared, args...)
	c := j.engine.client(t)
	defer func() {
		if err := c.ContainerRemove(t.Context(), id, dcontainer.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Error(err)
		}
	}()
	ends, failures := c.ContainerWait(t.Context(), id, dcontainer.WaitConditionNotRunning)
	select {
	case end := <-ends:
		code = int(end.StatusCode)
	case err := <-failures:
		t.Fatal(err)
	case <-time.After(5 * time.Minute):
		t.Fatal("the job did not end within 5 minutes")
	}
	log, err := c.ContainerLogs(t.Context(), id, dcontainer.LogsOptions{ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // it was read to its end
	var text bytes.Buffer
	if _, err := stdcopy.StdCopy(&text, &text, log); err != nil {
		t.Fatal(err)
	}
	return code, text.String()
}

// start starts dalirun in a new job, which shares folders with the engine, and returns its container.
func (j jobs) start(t *testing.T, network string, shared []string, args ...string) (id string) {
	t.Helper()
	c := j.engine.client(t)
	binds := []string{strings.TrimPrefix(j.engine.Host, "unix://") + ":/run/docker.sock"}
	for _, dir := range shared {
		binds = append(binds, dir+":"+dir)
	}
	made, err := c.ContainerCreate(t.Context(), &dcontainer.Config{
		Image: j.image, Entrypoint: append([]string{"/usr/bin/dalirun"}, args...), WorkingDir: "/builds",
		Env: []string{"HOME=/root", "DOCKER_HOST=unix:///run/docker.sock", "DALIRUN_BASE_IMAGE=" + os.Getenv("DALIRUN_BASE_IMAGE")},
	}, &dcontainer.HostConfig{
		NetworkMode: dcontainer.NetworkMode(network), Binds: binds, Tmpfs: map[string]string{"/tmp": ""},
	}, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ContainerStart(t.Context(), made.ID, dcontainer.StartOptions{}); err != nil {
		t.Fatal(errors.Join(err, c.ContainerRemove(t.Context(), made.ID, dcontainer.RemoveOptions{Force: true, RemoveVolumes: true})))
	}
	return made.ID
}

// execs counts the programs that the engine was asked to start inside of containers since a time.
func execs(t *testing.T, e engine, since time.Time) int {
	t.Helper()
	messages, failures := e.client(t).Events(t.Context(), events.ListOptions{
		Since: since.Format(time.RFC3339Nano), Until: time.Now().Format(time.RFC3339Nano),
		Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("event", "exec_create")),
	})
	n := 0
	for {
		select {
		case <-messages:
			n++
		case err := <-failures:
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			return n
		}
	}
}
