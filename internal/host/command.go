package host

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/dalirun/dalirun/internal/bytesize"
)

// mostOutput bounds what is read of a program. All that nvidia-smi tells of sixteen GPUs, as XML, is below 1 MiB.
const mostOutput = 4 << 20

// Command runs a program of this host. It is a [Runner]. A program that prints more than [mostOutput] is ended.
func Command(ctx context.Context, argv ...string) ([]byte, error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	//nolint:gosec // the programs are named in this package, not by a user
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	killChildren(cmd)
	// A child that inherited the pipe would keep it open after the program was killed.
	cmd.WaitDelay = time.Second
	out := &output{end: end}
	cmd.Stdout, cmd.Stderr = out, out // one writer is written to by one goroutine: see [exec.Cmd]
	err := cmd.Run()
	if out.err != nil {
		return nil, out.err
	}
	return out.text.Bytes(), err
}

// output keeps what a program prints, and ends the program at mostOutput.
type output struct {
	end  func()
	text bytes.Buffer
	err  error // why the program was ended
}

// Write implements [io.Writer].
func (o *output) Write(p []byte) (int, error) {
	if o.text.Len()+len(p) > mostOutput {
		o.err = fmt.Errorf("it printed more than %s, and was ended", bytesize.Format(mostOutput))
		o.end()
		return 0, o.err
	}
	return o.text.Write(p)
}
