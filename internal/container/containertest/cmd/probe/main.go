// Command probe is the process inside the contract suite's containers; see package probe.
package main

import (
	"context"
	"errors"
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
	if len(args) == 2 && args[0] == "open" { // while the image is built
		//nolint:gosec // everybody is to write into it
		if err := errors.Join(os.Mkdir(args[1], 0o700), os.Chmod(args[1], 0o777)); err != nil {
			panic(err)
		}
		return
	}
	var code int
	if filepath.Base(os.Args[0]) == "python3" {
		code = probe.Python(ctx, args, stdin, stdout, stderr)
	} else {
		code = probe.Run(ctx, system, args, stdout, stderr)
	}
	cancel()
	os.Exit(code) //nolint:forbidigo // this is main
}
