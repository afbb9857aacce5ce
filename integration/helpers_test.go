//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/docker"
	"github.com/dalirun/dalirun/internal/needtest"
)

// dalirun is the path of the binary under test: built once, as it is released.
var dalirun string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	// The reaper of testcontainers is an image of a registry, which may be out of reach; each test removes what it starts.
	if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "dalirun-bin")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }() // nobody is left to tell
		err = os.Chmod(dir, 0o755)               // some tests run it as another user
	}
	if err == nil {
		dalirun = filepath.Join(dir, "dalirun")
		err = goBuild(context.Background(), dalirun, "github.com/dalirun/dalirun/cmd/dalirun")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build dalirun:", err)
		return 1
	}
	return m.Run()
}

// goBuild compiles the main package pkg to the static binary file.
func goBuild(ctx context.Context, file, pkg string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-race=false", "-trimpath", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", pkg, err, out)
	}
	return nil
}

// engine is a container engine to run dalirun against.
type engine struct {
	Host string // its endpoint, as in DOCKER_HOST
	// netns is the path of the network namespace in which the engine publishes ports on 127.0.0.1, where dalirun has to
	// run to reach them. Empty is the test's own.
	netns string
	// bin is where the engine, and dalirun, find the hook for GPUs. Empty is nowhere.
	bin string
}

// mainEngine returns the container engine of this machine.
func mainEngine(t *testing.T) engine {
	t.Helper()
	home, _ := os.UserHomeDir() // only Docker's configuration is there
	r, err := docker.New(docker.Options{Env: os.Getenv, Home: home})
	if err != nil {
		needtest.Missing(t, "%v", err)
	}
	t.Cleanup(func() { _ = r.Close() })
	info, err := r.Info(t.Context())
	if err != nil {
		needtest.Missing(t, "%v", err)
	}
	return engine{Host: info.Endpoint}
}

// client returns a client of the engine for what the tests ask beside dalirun.
func (e engine) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithHost(e.Host), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// containers lists the containers of a workspace, or with an empty one those of every dalirun on the engine, each as
// NAME (STATUS).
func (e engine) containers(t *testing.T, workspace string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	label := container.LabelRun
	if workspace != "" {
		label = container.LabelWorkspace + "=" + workspace
	}
	rows, err := e.client(t).ContainerList(ctx, dcontainer.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, row := range rows {
		names = append(names, fmt.Sprintf("%s (%s)", strings.TrimPrefix(row.Names[0], "/"), row.Status))
	}
	slices.Sort(names)
	return names
}

// user is who runs dalirun.
type user struct {
	UID, GID int
	Groups   []int // beside GID
}

// ordinary returns a user who may talk to the engine and is nobody else: as root, "not root-owned" proves nothing.
func ordinary(t *testing.T, e engine) user {
	t.Helper()
	if os.Getuid() != 0 {
		needtest.Missing(t, "only root can run dalirun as another user")
	}
	socket, ok := strings.CutPrefix(e.Host, "unix://")
	if !ok {
		needtest.Missing(t, "%s is no unix socket whose group could be taken", e.Host)
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(socket, &stat); err != nil {
		t.Fatal(err)
	}
	return user{UID: 12345, GID: 12345, Groups: []int{int(stat.Gid)}}
}

// folder returns a new folder of the user's that every user can get to; those of t.TempDir are the test's alone.
func (u user) folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dalirun-user") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, u.UID, u.GID)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// foreign lists what is in dir and not the user's.
func (u user) foreign(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && (int(stat.Uid) != u.UID || int(stat.Gid) != u.GID) {
			found = append(found, fmt.Sprintf("%s of %d:%d", path, stat.Uid, stat.Gid))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// opts say how dalirun is run. The zero value is the test's own user in a new folder, which is its home too.
type opts struct {
	Dir     string        // working folder
	Home    string        // HOME, under which the cache is; Dir if empty
	Env     []string      // NAME=value, beside the environment that run gives
	Path    []string      // folders to search before those of PATH
	User    *user         // nil is the test's own
	Timeout time.Duration // after which it is killed and the test fails; 0 is five minutes
}

// result is what became of a run of dalirun.
type result struct {
	Code           int // its exit code, or 128 and the signal that killed it
	Stdout, Stderr string
	Duration       time.Duration
}

// run runs dalirun to its end.
func run(t *testing.T, e engine, o opts, args ...string) result {
	t.Helper()
	return start(t, e, o, args...).wait(t)
}

// mustRun is run where another exit code than want ends the test.
func mustRun(t *testing.T, want int, e engine, o opts, args ...string) result {
	t.Helper()
	r := run(t, e, o, args...)
	if r.Code != want {
		t.Fatalf("dalirun %s: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), r.Code, want, r.Stdout, r.Stderr)
	}
	return r
}

// process is a dalirun that was started. Its PID is dalirun's own, also where it was started in another network
// namespace or by another user.
type process struct {
	cmd            *exec.Cmd
	limit          time.Duration
	began          time.Time
	stdout, stderr output
	ended          chan struct{} // closed after the end, and after the last byte of output
}

// start starts dalirun. It ends with the test at the latest.
func start(t *testing.T, e engine, o opts, args ...string) *process {
	t.Helper()
	argv := append(e.enter(), o.as()...)
	argv = append(argv, dalirun)
	argv = append(argv, args...)
	p := &process{ended: make(chan struct{}), limit: o.Timeout, began: time.Now()}
	if p.limit == 0 {
		p.limit = 5 * time.Minute
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = 10 * time.Second
	p.cmd.Dir = o.Dir
	if p.cmd.Dir == "" {
		p.cmd.Dir = t.TempDir()
	}
	p.cmd.Env = o.environment(e, p.cmd.Dir)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its ProcessState says it all
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// enter is the command that goes to the engine's network namespace. It becomes what it starts, as does that of as.
func (e engine) enter() []string {
	if e.netns == "" {
		return nil
	}
	return []string{"nsenter", "--net=" + e.netns, "--"}
}

func (o opts) as() []string {
	if o.User == nil {
		return nil
	}
	groups := []string{strconv.Itoa(o.User.GID)}
	for _, g := range o.User.Groups {
		groups = append(groups, strconv.Itoa(g))
	}
	return []string{
		"setpriv", "--reuid=" + strconv.Itoa(o.User.UID), "--regid=" + strconv.Itoa(o.User.GID), "--groups=" + strings.Join(groups, ","),
		"--inh-caps=-all", "--bounding-set=-all", "--",
	}
}

// environment is the test's own without what would change what dalirun does. DALIRUN_BASE_IMAGE is left: it says what
// local images can be built on here.
func (o opts) environment(e engine, dir string) []string {
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return strings.HasPrefix(name, "DALIRUN_") && name != "DALIRUN_BASE_IMAGE" || strings.HasPrefix(name, "XDG_") ||
			slices.Contains([]string{"CI", "GITHUB_ACTIONS", "DOCKER_CONTEXT", "HOME", "PATH", "TERM", "NO_COLOR"}, name)
	})
	home := o.Home
	if home == "" {
		home = dir
	}
	folders := append(slices.Clone(o.Path), os.Getenv("PATH"))
	if e.bin != "" {
		folders = append(folders, e.bin)
	}
	path := strings.Join(folders, string(os.PathListSeparator))
	return append(append(env, "DOCKER_HOST="+e.Host, "HOME="+home, "PATH="+path), o.Env...)
}

// signal sends dalirun a signal; it is no error if it has ended.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// wait returns what became of it, and ends the test if its time is over.
func (p *process) wait(t *testing.T) result {
	t.Helper()
	timer := time.NewTimer(p.limit)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Fatalf("%s did not end within %s\nstdout:\n%s\nstderr:\n%s", strings.Join(p.cmd.Args, " "), p.limit, &p.stdout, &p.stderr)
	}
	r := result{
		Code: p.cmd.ProcessState.ExitCode(), Stdout: p.stdout.String(), Stderr: p.stderr.String(), Duration: time.Since(p.began),
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		r.Code = 128 + int(status.Signal())
	}
	return r
}

// until waits for something, and ends the test if dalirun ends first or its time is over.
func (p *process) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timer := time.NewTimer(p.limit)
	defer timer.Stop()
	for !done() {
		select {
		case <-p.ended:
			if done() {
				return
			}
			t.Fatalf("dalirun ended before %s\nstdout:\n%s\nstderr:\n%s", what, &p.stdout, &p.stderr)
		case <-timer.C:
			t.Fatalf("no sign within %s of %s\nstdout:\n%s\nstderr:\n%s", p.limit, what, &p.stdout, &p.stderr)
		case <-tick.C:
		}
	}
}

// output is a buffer that can be read while it is written.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}
