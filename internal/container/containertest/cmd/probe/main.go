// Command probe is the process inside the contract suite's containers; see package probe.
package main

import (
	"context"
	"os"
	"time"

	"github.com/dalirun/dalirun/internal/container/containertest/probe"
)

// lifetime ends a probe that a dead test left behind.
const lifetime = 10 * time.Minute

func main() {
	//nolint:forbidigo // a main package is where contexts begin and the process's surroundings are read
	ctx, system := context.Background(), probe.OS{Environ: os.Environ()}
	ctx, cancel := context.WithTimeout(ctx, lifetime)
	code := probe.Run(ctx, system, os.Args[1:], os.Stdout, os.Stderr) //nolint:forbidigo // see above
	cancel()
	os.Exit(code) //nolint:forbidigo // this is main
}
