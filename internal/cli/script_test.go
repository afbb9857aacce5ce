package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dalirun/dalirun/internal/bench"
	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/cli/dockertest"
	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/registry/registrytest"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/ui"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// TestScripts runs dalirun in a world of its own: no network, no nvidia-smi, and no container engine but a fake one. Each
// script says what it shows; CONTRIBUTING.md says how to write one.
func TestScripts(t *testing.T) {
	t.Parallel()
	pictures := makePictures(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("testscript.Run has no testing.TB for its scripts")
			}
			env.Values[scriptKey{}] = &script{tb: tb}
			path, _, _ := strings.Cut(os.Getenv("PATH"), string(filepath.ListSeparator)) // that of dalirun alone
			for name, value := range map[string]string{
				"PATH": path, "HOME": filepath.Join(env.WorkDir, "home"), "XDG_CACHE_HOME": filepath.Join(env.WorkDir, "cache"),
				"DOCKER_HOST": "unix://" + filepath.Join(env.WorkDir, "no.sock"), "PICTURES": pictures, "TZ": "UTC",
				// Nothing listens there: whoever asks for another host is refused at once.
				"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9",
				// The race detector lets each process sleep for a second at its end unless it is told not to.
				"GORACE": "atexit_sleep_ms=0",
			} {
				env.Setenv(name, value)
			}
			return errors.Join(os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700), makeLabels(env.WorkDir))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode":   exitcode,
			"within":     within,
			"engine":     startEngine,
			"faraway":    farAway,
			"agree":      agree,
			"registry":   startRegistry,
			"movetag":    moveTag,
			"delete":     deleteImage,
			"replace":    replaceText,
			"requests":   showRequests,
			"leave":      leave,
			"pretrained": storePretrained,
			"moveserver": moveServer,
			"containers": showContainers,
			"images":     showImages,
			"hang":       hang,
			"deadsocket": deadSocket,
			"occupy":     occupy,
			"triton":     startTriton,
			"pty":        inTerminal,
			"stdoutto":   stdoutTo,
			"fifo":       makeFIFO,
			"nul":        makeNUL,
			"sparse":     makeSparse,
			"checkpoint": makeCheckpoint,
			"frompipe":   fromPipe,
			"interrupt":  interrupt,
			"killserve":  killServe,
			"hidelogs":   hideLogs,
			"lease":      takeLease,
			"records":    showRecords,
			"serverfile": changeServerFile,
			"notestop":   noteStop,
			"isjson":     isJSON,
			"entries":    showEntries,
			"logpath":    logPath,
			"mask":       mask,
			"unpack":     unpackBundle,
			"allfiles":   allFiles,
			"rot":        rot,
			"tree":       showTree,
			"scale":      scaleBaseline,
			"paths":      showPaths,
		},
	})
}

type scriptKey struct{}

// script is what the commands of one script share.
type script struct {
	tb     testing.TB
	engine *dockertest.Engine
	images *registrytest.Server
	lock   *owner.Lock
}

func of(ts *testscript.TestScript) *script {
	s, ok := ts.Value(scriptKey{}).(*script)
	if !ok {
		ts.Fatalf("the script has no state")
	}
	return s
}

func arguments(ts *testscript.TestScript, neg bool, args []string, low, high int, usage string) {
	if neg || len(args) < low || len(args) > high {
		ts.Fatalf("usage: %s", usage)
	}
}

const anyNumber = 1 << 10

// takeLease has another job have the lease of a GPU until the script ends.
func takeLease(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "lease UUID")
	maria := host.Holder{PID: 123, User: "maria", Command: "dalirun e2e", Run: "r1", Workspace: "/home/maria/w", Doing: "builds an engine"}
	lease, err := host.Leases{Folder: ts.Getenv("WORK")}.Take(context.Background(), []host.GPU{{UUID: args[0]}}, maria, 0, host.LeaseObserver{})
	ts.Check(err)
	ts.Defer(lease.Release)
}

// rot turns the first byte of a file over. Nothing but its content shows it.
func rot(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "rot FILE")
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s is %d files", args[0], len(found))
	}
	path := found[0]
	info, err := os.Stat(path)
	ts.Check(err)
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[0] ^= 0xff
	ts.Check(os.Chmod(path, 0o600))
	ts.Check(os.WriteFile(path, data, 0o600))
	ts.Check(os.Chmod(path, info.Mode()))
	ts.Check(os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// showTree prints all that can be seen of what is below a folder: modes, links, times and contents.
func showTree(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "tree FOLDER")
	root := ts.MkAbs(args[0])
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var sum [sha256.Size]byte
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(data)
		}
		links := linksOf(info)
		_, err = fmt.Fprintf(ts.Stdout(), "%s %s %d links, %d, %x\n", strings.TrimPrefix(path, root), info.Mode(), links,
			info.ModTime().UnixNano(), sum[:4])
		return err
	}))
}

// scaleBaseline makes a baseline of a server that was so many times as fast.
func scaleBaseline(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 3, 3, "scale FACTOR FROM TO")
	factor, err := strconv.ParseFloat(args[0], 64)
	ts.Check(err)
	b, err := bench.ReadBaseline([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	for _, level := range b.Levels {
		for figure, values := range level.Figures {
			for i := range values {
				switch figure {
				case bench.PicturesPerSecond:
					values[i] *= factor
				case bench.P50Seconds, bench.P99Seconds:
					values[i] /= factor
				case bench.AnsweredShare:
				}
			}
		}
	}
	var text bytes.Buffer
	ts.Check(b.WriteJSON(&text))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), text.Bytes(), 0o600))
}

// exitcode runs a command that must end with a code.
func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 2, anyNumber, "exitcode N command [args...]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := codeOf(ts, ts.Exec(args[1], args[2:]...))
	if got != want {
		ts.Fatalf("it ended with %d, not %d", got, want)
	}
}

func codeOf(ts *testscript.TestScript, err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// within is exitcode with a limit of time. A machine that is busy with something else gets another try: the limit is the
// program's.
func within(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 3, anyNumber, "within DURATION N command [args...]")
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	var took time.Duration
	for range 3 {
		began := time.Now()
		exitcode(ts, false, args[1:])
		if took = time.Since(began); took <= limit {
			return
		}
	}
	ts.Fatalf("it took %s, more than %s", took, limit)
}

// startEngine starts a fake container engine in a world and points DOCKER_HOST at it.
func startEngine(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "engine WORLD")
	s := of(ts)
	w, ok := worlds(s.tb, args[0])
	if !ok {
		ts.Fatalf("there is no world %q", args[0])
	}
	s.engine = dockertest.New(s.tb, w.fake())
	ts.Setenv("DOCKER_HOST", s.engine.Host())
}

// farAway points DOCKER_HOST at the engine as if it were on another host: 0.0.0.0 is this one, and is not its loopback address.
func farAway(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "faraway")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = listener.Close() })
	socket := strings.TrimPrefix(of(ts).engine.Host(), "unix://")
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return // the script ended
			}
			go forward(from, "unix", socket)
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	ts.Check(err)
	ts.Setenv("DOCKER_HOST", "tcp://0.0.0.0:"+port)
	ts.Setenv("NO_PROXY", "0.0.0.0")
}

// agree demands that plan ends with a code, and that doctor with the same flags fails exactly if plan does.
func agree(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, anyNumber, "agree N [flags...]")
	exitcode(ts, false, append([]string{args[0], "dalirun", "plan"}, args[1:]...))
	want := strconv.Itoa(int(ExitEnvironment))
	if args[0] == "0" {
		want = "0"
	}
	exitcode(ts, false, append([]string{want, "dalirun", "doctor"}, args[1:]...))
}

// showRequests prints what the engine was asked to change: what only reads is left out.
func showRequests(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "requests")
	for _, r := range of(ts).engine.Requests() {
		if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "HEAD ") {
			fmt.Fprintln(ts.Stdout(), r)
		}
	}
	_ = ts.Stdout() // also of none
}

// showContainers prints the names of the engine's containers, a line each.
func showContainers(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "containers")
	_ = ts.Stdout()
	for _, c := range of(ts).engine.Containers() {
		fmt.Fprintln(ts.Stdout(), c.Name)
	}
}

// showImages prints the names of the engine's images, a line each.
func showImages(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "images")
	_ = ts.Stdout()
	for _, img := range of(ts).engine.Images() {
		fmt.Fprintln(ts.Stdout(), strings.Join(img.Tags, " "))
	}
}

// untrained is the step that fetches the pretrained weights, without them.
type untrained struct{ *steps.PretrainedWeights }

func (untrained) Run(_ context.Context, w *pipeline.Work) error {
	return os.WriteFile(w.Path(steps.NewPretrainedWeights(nil, target.Remote{}).Outputs()[0].Name), []byte("weights"), 0o600)
}

// storePretrained adds to the cache what the step that fetches the pretrained weights leaves there.
func storePretrained(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "pretrained")
	cache, err := store.Open(filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "dalirun"))
	ts.Check(err)
	model, err := recipe.Load(recipe.Default)
	ts.Check(err)
	step := untrained{steps.NewPretrainedWeights(nil, target.PretrainedWeights(model).Remote)}
	runner := pipeline.Runner{RunID: "r0", Workspace: ts.MkAbs(".dalirun"), Store: cache, Sink: ui.Tee()}
	ts.Check(runner.Run(of(ts).tb.Context(), []pipeline.Step{step}))
}

// leave adds a container to the engine, named after whose it is.
func leave(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "leave alive|dead|server|failing-server|restarted-server|silent-server|paused-server|ended-server|starting-server|created-server|e2e-server|foreign|foreign-server|expired|unknown"
	arguments(ts, neg, args, 1, 1, usage)
	s := of(ts)
	me, err := owner.CurrentIdentity(time.Now())
	ts.Check(err)
	workspace := ts.MkAbs(".dalirun")
	c := container.Summary{Name: args[0], Image: "dalirun/server:1", Running: true, Created: time.Now().Add(-time.Hour), Labels: container.Labels{
		container.LabelRun: "r1", container.LabelHost: me.Host, container.LabelBoot: me.Boot, container.LabelWorkspace: workspace,
		container.LabelStep: "export-onnx", container.LabelRole: string(container.RoleBatch),
	}}
	switch args[0] {
	case "dead":
		c.Running = false
	case "alive":
		c.Labels[container.LabelRun] = "r2"
		s.lock, err = owner.Acquire(workspace, "r2")
		ts.Check(err)
		ts.Defer(func() { ts.Check(s.lock.Release()) })
	case "server", "failing-server", "restarted-server", "silent-server", "paused-server", "ended-server", "starting-server", "created-server", "e2e-server":
		leaveServer(ts, s, c)
		return
	case "foreign", "foreign-server":
		c.Labels[container.LabelHost] = "another-host"
		if args[0] == "foreign-server" {
			c.Labels[container.LabelRole] = string(container.RoleServer)
		}
	case "expired":
		c.Labels[container.LabelHost] = "another-host"
		c.Labels[container.LabelExpires] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	case "unknown":
		delete(c.Labels, container.LabelHost)
	default:
		ts.Fatalf("usage: %s", usage)
	}
	s.engine.Leave(c)
}

// leaveServer adds the detached server of a workspace. Its gRPC port is told as PORT.
func leaveServer(ts *testscript.TestScript, s *script, c container.Summary) {
	addr, server := startServer(s)
	ts.Defer(server.Stop)
	switch c.Name {
	case "failing-server":
		server.KillStub("dali")
	case "restarted-server":
		server.Restart()
	case "silent-server":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Defer(func() { _ = listener.Close() })
		addr = listener.Addr().String()
	case "paused-server":
		c.Paused = true
	case "ended-server":
		c.Running = false
	case "starting-server", "e2e-server":
		server.Restart() // as before the first model is loaded
	case "created-server":
		c.Running = false // yet
	}
	const run = "r3"
	workspace := c.Labels[container.LabelWorkspace]
	c.Labels[container.LabelRun] = run
	if c.Name != "e2e-server" {
		c.Labels[container.LabelRole] = string(container.RoleServer)
	}
	c.Labels[container.LabelStep] = string(steps.IDServe)
	if c.Running {
		c.Ports = portsAt(ts, addr)
	}
	c.ID = s.engine.Leave(c)
	_, port, err := net.SplitHostPort(addr)
	ts.Check(err)
	ts.Setenv("PORT", port)
	if slices.Contains([]string{"starting-server", "created-server", "e2e-server"}, c.Name) {
		lock, err := owner.Acquire(workspace, run)
		ts.Check(err)
		ts.Defer(func() { ts.Check(lock.Release()) })
		return
	}
	ts.Check(owner.WriteServer(workspace, owner.ServerFile{
		Container: c.ID, Name: c.Name, Run: run, Host: c.Labels[container.LabelHost], GRPC: addr,
		Served:  owner.Served{Lane: "cpu", Source: "local", Precision: "fp32", Weights: "random:7", LabelsMeanNothing: new(true)},
		Command: []string{"serve", "--workspace=" + workspace, "--detach", "--weights=random:7"},
	}))
}

// moveServer says in the server file that the server is another host's.
func moveServer(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "moveserver HOST")
	file, err := owner.ReadServer(ts.MkAbs(".dalirun"))
	ts.Check(err)
	file.Host = args[0]
	ts.Check(owner.WriteServer(ts.MkAbs(".dalirun"), file))
}

// hang makes a container engine that takes connections and never answers.
func hang(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "hang")
	listener, err := net.Listen("unix", ts.MkAbs("hanging.sock"))
	ts.Check(err)
	ts.Defer(func() { _ = listener.Close() })
	ts.Setenv("DOCKER_HOST", "unix://"+listener.Addr().String())
}

// deadSocket leaves the socket of a container engine that is gone.
func deadSocket(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "deadsocket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs("dead.sock"), Net: "unix"})
	ts.Check(err)
	listener.SetUnlinkOnClose(false)
	ts.Check(listener.Close())
	ts.Setenv("DOCKER_HOST", "unix://"+ts.MkAbs("dead.sock"))
}

// occupy listens on a port and tells it as PORT.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "occupy")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = listener.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	ts.Check(err)
	ts.Setenv("PORT", port)
}

// startTriton starts a Triton server with the ensemble, and tells its address as TRITON.
func startTriton(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 1, "triton [without-labels]")
	s := of(ts)
	names := labels()
	if len(args) == 1 {
		names = make([]string, len(names))
	}
	server := tritontest.New(s.tb, tritontest.Classifier("ensemble_dali_resnet50", names, func([]byte) ([]float32, error) { return logits(), nil }))
	server.MustLoad("ensemble_dali_resnet50")
	ts.Setenv("TRITON", server.Addr())
}

func startServer(s *script) (addr string, server *tritontest.Server) {
	w, _ := worlds(s.tb, "stocked")
	server = tritontest.New(s.tb, w.models()...)
	server.MustLoad("ensemble_dali_resnet50")
	return server.Addr(), server
}

// inTerminal runs a command whose stdin and stderr are a terminal, of which it prints the output as stderr.
func inTerminal(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 2, anyNumber, "pty N command [args...]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var stdout bytes.Buffer
	screen, runErr := runInTerminal(terminalCommand(ts, args[1:]), &stdout)
	_, _ = ts.Stdout().Write(stdout.Bytes())
	_, _ = ts.Stderr().Write(screen)
	if got := codeOf(ts, runErr); got != want {
		ts.Fatalf("it ended with %d, not %d:\n%q", got, want, screen)
	}
}

// stdoutTo runs a command whose stdout is on a full disk, a pipe that nobody reads, not open to be written to, or closed by a shell.
func stdoutTo(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "stdoutto full|nobody|unwritable|closed N command [args...]"
	arguments(ts, neg, args, 3, anyNumber, usage)
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	cmd := terminalCommand(ts, args[2:])
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var to *os.File
	switch args[0] {
	case "full":
		to, err = os.OpenFile("/dev/full", os.O_WRONLY, 0)
		ts.Check(err)
	case "unwritable": // not open, as far as writing goes
		to, err = os.Open(os.DevNull)
		ts.Check(err)
	case "closed":
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `exec "$@" >&-`, "sh", cmd.Path}, cmd.Args[1:]...)
		to, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		ts.Check(err)
	case "nobody":
		var from *os.File
		from, to, err = os.Pipe()
		ts.Check(errors.Join(err, from.Close()))
	default:
		ts.Fatalf("usage: %s", usage)
	}
	cmd.Stdout = to
	runErr := cmd.Run()
	ts.Check(to.Close())
	_ = ts.Stdout()
	_, _ = ts.Stderr().Write(stderr.Bytes())
	if got := codeOf(ts, runErr); got != want {
		ts.Fatalf("it ended with %d, not %d:\n%s", got, want, stderr.String())
	}
}

// makeFIFO makes a named pipe.
func makeFIFO(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "fifo NAME")
	ts.Check(makePipe(ts.MkAbs(args[0])))
}

// makeNUL makes of a list of lines one whose names end with NUL, with the extension .nul.
func makeNUL(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "nul FILE")
	name := ts.MkAbs(args[0])
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "\n", "\x00")
	ts.Check(os.WriteFile(strings.TrimSuffix(name, filepath.Ext(name))+".nul", []byte(text), 0o600))
}

// makeSparse makes a file of 1 TiB that takes no room.
func makeSparse(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "sparse NAME")
	ts.Check(errors.Join(os.WriteFile(ts.MkAbs(args[0]), nil, 0o600), os.Truncate(ts.MkAbs(args[0]), 1<<40)))
}

// makeCheckpoint makes a file that begins as a checkpoint of PyTorch.
func makeCheckpoint(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "checkpoint NAME")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(checkpoint), 0o600))
}

// checkpoint is how a checkpoint of PyTorch begins.
const checkpoint = "PK\x03\x04"

// replaceText replaces a text in a file, where it must be.
func replaceText(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 3, 3, "replace OLD NEW FILE")
	text := ts.ReadFile(args[2])
	if !strings.Contains(text, args[0]) {
		ts.Fatalf("%s has no %q:\n%s", args[2], args[0], text)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.ReplaceAll(text, args[0], args[1])), 0o600))
}

// fromPipe runs a command to which a shell gives a file through a pipe, as in `command <(cat FILE)`.
func fromPipe(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 3, anyNumber, "frompipe N FILE command [args...], where /dev/fd/3 is the pipe")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	from, to, err := os.Pipe()
	ts.Check(err)
	go func() {
		_, _ = to.Write(data) // the command may end before it has read all
		_ = to.Close()
	}()
	cmd := terminalCommand(ts, args[2:])
	cmd.ExtraFiles = []*os.File{from}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	runErr := cmd.Run()
	ts.Check(from.Close())
	_, _ = ts.Stdout().Write(stdout.Bytes())
	_, _ = ts.Stderr().Write(stderr.Bytes())
	if got := codeOf(ts, runErr); got != want {
		ts.Fatalf("it ended with %d, not %d:\n%s", got, want, stderr.String())
	}
}

// interrupt runs a command that reads a named pipe, which nobody fills, and asks it to end once it does.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 3, anyNumber, "interrupt N FIFO command [args...]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	cmd := terminalCommand(ts, args[2:])
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ts.Check(cmd.Start())
	deadline := time.Now().Add(30 * time.Second)
	var pipe *os.File
	for tick := time.NewTicker(5 * time.Millisecond); pipe == nil; <-tick.C {
		pipe, err = os.OpenFile(ts.MkAbs(args[1]), os.O_WRONLY|syscall.O_NONBLOCK, 0) // ENXIO until somebody reads
		if time.Now().After(deadline) {
			_ = cmd.Process.Signal(syscall.SIGQUIT) // it prints where it is
			_ = cmd.Wait()
			ts.Fatalf("nobody reads %s: %v\n%s%s", args[1], err, &stdout, &stderr)
		}
	}
	asked := time.Now()
	ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	runErr := cmd.Wait()
	ts.Check(pipe.Close())
	_, _ = ts.Stdout().Write(stdout.Bytes())
	_, _ = ts.Stderr().Write(stderr.Bytes())
	if took := time.Since(asked); took > 5*time.Second {
		ts.Fatalf("it ended %s after SIGTERM", took)
	}
	if got := codeOf(ts, runErr); got != want {
		ts.Fatalf("it ended with %d, not %d:\n%s", got, want, stderr.String())
	}
}

// killServe runs a `dalirun serve` and kills it once the server is ready. The server's gRPC port is told as PORT.
func killServe(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, anyNumber, "killserve [args...]")
	// The usual port may be another script's as soon as this server has gone.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, own, err := net.SplitHostPort(free.Addr().String())
	ts.Check(err)
	ts.Check(free.Close())
	cmd := terminalCommand(ts, append([]string{"dalirun", "serve", "--grpc-port", own}, args...))
	stdout := &watcher{word: "metrics", seen: make(chan struct{})}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	ts.Check(cmd.Start())
	select {
	case <-stdout.seen:
	case <-time.After(30 * time.Second):
	}
	ts.Check(cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	port := regexp.MustCompile(`ready: grpc 127\.0\.0\.1:(\d+)`).FindStringSubmatch(stdout.text.String())
	if port == nil {
		ts.Fatalf("it did not serve:\n%s", stderr.String())
	}
	ts.Setenv("PORT", port[1])
}

// hideLogs makes unreadable what the engine's containers wrote.
func hideLogs(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "hidelogs")
	of(ts).engine.HideLogs()
}

// showRecords prints a line for each record of classify in the last stdout: the picture, and its class or its error.
func showRecords(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "records")
	var records []classify.Record
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &records); err != nil {
		ts.Fatalf("stdout holds no records: %v", err)
	}
	_ = ts.Stdout()
	for _, r := range records {
		if r.Error != "" {
			_, text, found := strings.Cut(r.Error, r.Image+": ")
			if !found {
				text = r.Error
			}
			fmt.Fprintf(ts.Stdout(), "%s %s: %s\n", filepath.Base(r.Image), r.ErrorClass, text)
			continue
		}
		fmt.Fprintf(ts.Stdout(), "%s %s\n", filepath.Base(r.Image), r.Classes[0].Label)
	}
}

// noteStop leaves what a stop does that does not end the workspace's server.
func noteStop(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "notestop")
	workspace := ts.MkAbs(".dalirun")
	server, err := owner.ReadServer(workspace)
	ts.Check(err)
	ts.Check(owner.NoteStop(workspace, server.Run))
}

// changeServerFile sets fields of the workspace's server file.
func changeServerFile(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, anyNumber, "serverfile NAME[=VALUE]...")
	workspace := ts.MkAbs(".dalirun")
	text := ts.ReadFile(owner.ServerPath(workspace))
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(text), &fields))
	for _, a := range args {
		name, value, named := strings.Cut(a, "=")
		fields[name] = value
		if !named {
			delete(fields, name)
		}
		if value == "true" || value == "false" {
			fields[name] = value == "true"
		}
		if strings.HasPrefix(value, "[") {
			fields[name] = json.RawMessage(value)
		}
	}
	changed, err := json.Marshal(fields)
	ts.Check(err)
	ts.Check(os.WriteFile(owner.ServerPath(workspace), changed, 0o600))
}

// makeLabels makes files of labels: one for each class, one that a person edited, one with a label too many, and two whose labels
// are as many as the classes but for empty lines at their ends.
func makeLabels(dir string) error {
	var whole, edited strings.Builder
	for i := range classes {
		fmt.Fprintf(&whole, "mine %d\n", i)
		line := "twice"
		if i == 13 {
			line = ""
		}
		edited.WriteString(line + "\r\n")
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "thousand.txt"), []byte(whole.String()), 0o600),
		os.WriteFile(filepath.Join(dir, "edited.txt"), []byte("\ufeff"+edited.String()), 0o600),
		os.WriteFile(filepath.Join(dir, "trailing.txt"), []byte(whole.String()+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "unended.txt"), []byte(strings.TrimSuffix(whole.String(), "\n")), 0o600),
		os.WriteFile(filepath.Join(dir, "long.txt"), []byte(whole.String()+"one more\n"), 0o600),
	)
}

func terminalCommand(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := filepath.Join(ts.Getenv("PATH"), args[0])
	cmd := exec.CommandContext(of(ts).tb.Context(), path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{
		"PATH", "HOME", "XDG_CACHE_HOME", "DOCKER_HOST", "HTTPS_PROXY", "TERM", "NO_COLOR", "CI", "GITHUB_ACTIONS", "GORACE",
		"GOCOVERDIR", // which is set where coverage is measured
	} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// runInTerminal runs cmd with a terminal of 100 columns as stdin and stderr, and returns what it wrote there.
func runInTerminal(cmd *exec.Cmd, stdout io.Writer) (screen []byte, err error) {
	ours, theirs, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 25, Cols: 100}); err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stderr, cmd.Stdout = theirs, theirs, stdout
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	if err := theirs.Close(); err != nil {
		return nil, err
	}
	screen, readErr := io.ReadAll(ours)
	if errors.Is(readErr, syscall.EIO) { // Linux says so when the last one has closed the other end
		readErr = nil
	}
	return screen, errors.Join(readErr, cmd.Wait())
}

// showEntries prints the manifests of the results that the cache holds, a line each, those that count no longer too.
func showEntries(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "entries")
	_ = ts.Stdout()
	cache := filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "dalirun")
	for _, pattern := range []string{"manifest.json", "retired.json"} {
		manifests, err := filepath.Glob(filepath.Join(cache, "entries", "*", "*", pattern))
		ts.Check(err)
		for _, name := range manifests {
			fmt.Fprintln(ts.Stdout(), ts.ReadFile(name))
		}
	}
}

// showPaths prints what is in a folder, a path a line. The IDs of runs, which change, are RUN.
func showPaths(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "paths FOLDER")
	_ = ts.Stdout()
	dir := ts.MkAbs(args[0])
	ts.Check(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		within, err := filepath.Rel(dir, path)
		fmt.Fprintln(ts.Stdout(), regexp.MustCompile(`\d{8}T\d{6}Z-[0-9a-f]{6}`).ReplaceAllString(within, "RUN"))
		return err
	}))
}

// logPath sets LOG to the path of the log that the last error named.
func logPath(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "logpath")
	_, rest, ok := strings.Cut(ts.ReadFile("stderr"), "full log: ")
	path, _, _ := strings.Cut(rest, "\n")
	if !ok {
		ts.Fatalf("no log is named")
	}
	ts.Setenv("LOG", path)
}

// mask prints the last stdout again, with the hashes of the images' builds replaced: they change with every edit of a Dockerfile.
func mask(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "mask")
	text := regexp.MustCompile(`(dalirun/\w+):[0-9a-f]{12}`).ReplaceAllString(ts.ReadFile("stdout"), "$1:RECIPE")
	_, _ = io.WriteString(ts.Stdout(), text)
}

// isJSON checks that a file, or stdout or stderr, holds JSON values: one, or with "lines" one a line.
func isJSON(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 2, "isjson FILE [lines]")
	text := ts.ReadFile(args[0])
	values := []string{text}
	if len(args) == 2 {
		values = slices.Collect(strings.Lines(text))
	}
	if len(values) == 0 {
		ts.Fatalf("%s is empty", args[0])
	}
	for _, v := range values {
		if !json.Valid([]byte(v)) {
			ts.Fatalf("%s is not JSON: %s", args[0], v)
		}
	}
}

// appIn returns the program with an environment and buffers, for tests that need no process of its own.
func appIn(env map[string]string, stdout, stderr io.Writer) *App {
	return &App{
		Program: "dalirun", Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr, root: fstest.MapFS{},
		LookupEnv: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
		Environ: func() []string {
			var all []string
			for name, value := range env {
				all = append(all, name+"="+value)
			}
			return all
		},
	}
}

// stopped is a context that a signal ends when begun is closed.
func stopped(ctx context.Context, begun <-chan struct{}, signal os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-begun:
			cancel(&SignalError{Signal: signal})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
