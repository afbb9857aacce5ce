// Command dalirun turns a machine with a container engine into a verified NVIDIA Triton server.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dalirun/dalirun/internal/cli"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signal.Ignore(syscall.SIGPIPE) // a closed pipe is a write error, not the end of a run that has containers to remove
	signals := make(chan os.Signal, 1)
	watched := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		watched = append(watched, syscall.SIGHUP)
	}
	signal.Notify(signals, watched...)
	go func() {
		first := <-signals
		cancel(&cli.SignalError{Signal: first})
		<-time.After(100 * time.Millisecond) // timeout(1) signals its child and then the child's group: one request
		signal.Reset(watched...)             // the second one ends the process at once
	}()
	app := cli.App{
		Program: os.Args[0], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		LookupEnv: os.LookupEnv, Environ: os.Environ,
	}
	os.Exit(int(app.Run(ctx, os.Args[1:])))
}
