// Command probe is the process inside the contract suite's containers; see package probe.
package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/dalirun/dalirun/internal/container/containertest/probe"
)

// lifetime ends a probe that a dead test left behind.
const lifetime = 10 * time.Minute

func main() {
	//nolint:forbidigo // a main package is where contexts begin and the process's surroundings are read
	ctx, system := context.Background(), probe.OS{Environ: os.Environ()}
	ctx, cancel := context.WithTimeout(ctx, lifetime)
	//nolint:forbidigo // see above
	args, stdin, stdout, stderr := os.Args[1:], os.Stdin, os.Stdout, os.Stderr
	var code int
	if filepath.Base(os.Args[0]) == "python3" {
		code = probe.Python(ctx, args, stdin, stdout, stderr)
	} else {
		code = probe.Run(ctx, system, args, stdout, stderr)
	}
	cancel()
	os.Exit(code) //nolint:forbidigo // this is main
}
