package cli

import (
	"context"
	"flag"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dalirun/dalirun/internal/serving"
)

var update = flag.Bool("update", false, "write the golden files and the generated documents anew")

func TestMain(m *testing.M) {
	testscript.Main(m, programs())
}

// runDalirun is cmd/dalirun, which cannot be imported.
func runDalirun() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 1)
	watched := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	signal.Notify(signals, watched...)
	go func() {
		first := <-signals
		signal.Reset(watched...)
		cancel(&SignalError{Signal: first})
	}()
	var root fs.FS = fstest.MapFS{} // without what this machine has of a GPU
	if dir := os.Getenv("TEST_ROOT"); dir != "" {
		root = os.DirFS(dir)
	}
	app := App{
		Program: os.Args[0], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv, Environ: os.Environ,
		root:        root,
		leaseFolder: os.Getenv("WORK"), // a script's own GPUs
		watch: serving.Watch{
			Probe: serving.Probe{Reply: 5 * time.Second, Within: 5 * time.Second}, Every: 50 * time.Millisecond, Retry: 10 * time.Millisecond, InARow: 3,
		},
	}
	os.Exit(int(app.Run(ctx, os.Args[1:])))
}
