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
	ctx, cancel := context.WithTimeout(context.Background(), lifetime) //nolint:forbidigo // a main package is where contexts begin
	code := probe.Run(ctx, probe.OS{Environ: os.Environ()}, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}
