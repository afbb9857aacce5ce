package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dalirun/dalirun/integration/stub/record"
	"github.com/dalirun/dalirun/internal/tooltest"
	"github.com/dalirun/dalirun/triton/tritontest"
)

// serverOptions are those of tritonserver 2.51, src/command_line_parser.cc, without those of single protocols and
// traces.
const serverOptions = `allow-cpu-metrics allow-gpu-metrics allow-grpc allow-http allow-metrics backend-config
	backend-directory buffer-manager-thread-count cache-config cache-directory cuda-memory-pool-byte-size
	disable-auto-complete-config enable-peer-access exit-on-error exit-timeout-secs grpc-address
	grpc-infer-allocation-pool-size grpc-infer-thread-count grpc-port host-policy http-address http-port http-thread-count
	id load-model log-error log-file log-format log-info log-verbose log-warning metrics-address metrics-config
	metrics-interval-ms metrics-port min-supported-compute-capability model-config-name model-control-mode
	model-load-retry-count model-load-thread-count model-namespacing model-repository model-store
	pinned-memory-pool-byte-size rate-limit rate-limit-resource repository-poll-secs response-cache-byte-size
	reuse-grpc-port reuse-http-port strict-model-config strict-readiness`

// grpcPort is where tritonserver serves gRPC unless told otherwise.
const grpcPort = "8001"

// tritonserver serves a model repository over gRPC until SIGTERM.
func (p *process) tritonserver(ctx context.Context) int {
	if err := record.Write(p.stdout, p.args, p.environ); err != nil {
		fmt.Fprintln(p.stderr, "stub:", err)
		return 70
	}
	given := map[string]string{}
	for _, arg := range p.args[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !strings.HasPrefix(arg, "--") || !slices.Contains(strings.Fields(serverOptions), name) {
			fmt.Fprintf(p.stderr, "tritonserver: unrecognized option '%s'\nUsage: tritonserver [options]\n", arg)
			return 1
		}
		given[name] = value
	}
	switch {
	case given["model-control-mode"] != "explicit" && !p.hasGPU():
		fmt.Fprint(p.stderr, tooltest.Output("tritonserver-without-gpus.log"))
		return 1
	case given["model-control-mode"] != "explicit":
		fmt.Fprintln(p.stderr, "stub: only --model-control-mode=explicit is served")
		return 70
	}
	return p.serve(ctx, given["model-repository"])
}

func (p *process) serve(ctx context.Context, repository string) int {
	log := &lockedWriter{w: p.stderr}
	r := &models{process: p, dir: repository, log: log}
	list, err := r.read()
	if err != nil {
		fmt.Fprintf(p.stderr, "error: creating server: Internal - %v\n", err)
		return 1
	}
	t := &tb{ctx: ctx, log: log}
	defer t.cleanup()
	server := tritontest.New(t, list...) //nolint:contextcheck // t has it
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", ":"+grpcPort)
	if err != nil {
		fmt.Fprintf(p.stderr, "error: failed to start GRPC service: %v\n", err)
		return 1
	}
	go forward(listener, server.Addr())
	head := tooltest.Output("tritonserver-without-gpus.log")
	if p.hasGPU() {
		head = tooltest.Output("tritonserver-gpu-ready.log")
	}
	fmt.Fprint(log, grep(head, `pinned_memory_manager|cuda_memory_manager|server.cc:241`),
		grep(tooltest.Output("tritonserver-gpu-ready.log"), `Started `))
	<-ctx.Done()
	for line := range strings.Lines(tooltest.Output("tritonserver-gpu-stop.log")) {
		if !strings.Contains(line, "CNMEM") { // of a server whose pool was too small
			fmt.Fprint(log, line)
		}
	}
	_ = listener.Close() // nothing is left that could fail
	return 0
}

// grep returns the lines of log that match pattern.
func grep(log, pattern string) string {
	var out strings.Builder
	match := regexp.MustCompile(pattern)
	for line := range strings.Lines(log) {
		if match.MatchString(line) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// forward copies between the container's port and the server, which listens on the loopback interface.
func forward(listener net.Listener, to string) {
	for {
		outer, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer outer.Close()                //nolint:errcheck // the peer sees it closed, however that goes
			inner, err := net.Dial("tcp4", to) //nolint:noctx // it ends with the process
			if err != nil {
				return
			}
			go func() {
				defer inner.Close()          //nolint:errcheck // as above
				_, _ = io.Copy(inner, outer) // an error is an end
			}()
			_, _ = io.Copy(outer, inner)
		}()
	}
}

// tb is what tritontest asks of a test, for a process of its own.
type tb struct {
	testing.TB // nil: nothing else is called

	ctx   context.Context //nolint:containedctx // a test has one
	log   io.Writer
	later []func()
}

// Helper does nothing.
func (*tb) Helper() {}

// Context ends with the process.
func (t *tb) Context() context.Context { return t.ctx }

// Cleanup calls f at the end.
func (t *tb) Cleanup(f func()) { t.later = append(t.later, f) }

// Errorf writes to the server's log.
func (t *tb) Errorf(format string, args ...any) { fmt.Fprintf(t.log, format+"\n", args...) }

// Fatalf ends the process.
func (*tb) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (t *tb) cleanup() {
	for _, f := range slices.Backward(t.later) {
		f()
	}
}

// lockedWriter keeps the lines of several loads apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
