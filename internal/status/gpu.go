package status

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/serving"
)

const (
	// logLines is how many of the last lines of a server's log are looked at. Each batch for which its pool of GPU memory
	// is too small has lines in it, and a server that works says little else.
	logLines = 1000
	// logWithin bounds the reading of them.
	logWithin = 5 * time.Second
)

// GPU is a GPU that the server's container has, with its memory.
type GPU struct {
	Index int    `json:"index" jsonschema:"in the container"`
	UUID  string `json:"uuid"`
	Name  string `json:"name"`
	// What is used of the memory, in bytes, by whichever programs. Both are 0 if the driver does not tell, as of a GPU
	// that MIG splits.
	MemoryUsedBytes int64 `json:"memory_used_bytes" jsonschema:"by all programs"`
	MemoryBytes     int64 `json:"memory_bytes" jsonschema:"0 if it is not known"`
}

// addGPU adds the GPUs of a server, and that its pool of GPU memory is full.
func (p Place) addGPU(ctx context.Context, c serving.Container, s *Status) {
	opened, err := p.Servers.Runtime.Open(ctx, c.ID)
	if err != nil {
		s.GPUsMissing = err.Error()
		return
	}
	// The container has the GPUs that its run chose, and no others, on whichever host it is: the run proved that by
	// the same program.
	gpus, err := host.Probe(ctx, inside(opened))
	if err != nil {
		s.GPUsMissing = "in the server's container: " + err.Error()
	}
	for _, g := range gpus.Devices {
		const mib = 1 << 20
		gpu := GPU{Index: g.Index, UUID: g.UUID, Name: g.Name}
		if g.MemoryMiB > 0 {
			gpu.MemoryBytes, gpu.MemoryUsedBytes = int64(g.MemoryMiB)*mib, int64(g.MemoryMiB-g.FreeMiB)*mib
		}
		s.GPUs = append(s.GPUs, gpu)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, logWithin,
		fmt.Errorf("the container engine did not give the log of %s within %s", c.Name, logWithin))
	defer cancel()
	var full Finding
	err = opened.Logs(ctx, container.LogOptions{Tail: logLines}, func(l container.LogLine) error {
		if text := remedy.PoolOverflow(l.Text); text != "" {
			full = Finding{Text: text, Time: l.Time.UTC()}
		}
		return nil
	})
	if err != nil {
		s.find(err)
	}
	if full.Text != "" {
		s.Findings = append(s.Findings, full)
	}
}

// inside runs commands in a container.
func inside(c container.Container) host.Runner {
	return func(ctx context.Context, argv ...string) ([]byte, error) {
		var stdout, stderr bytes.Buffer
		code, err := c.Exec(ctx, argv, container.Streams{Stdout: &stdout, Stderr: &stderr})
		out := append(stdout.Bytes(), stderr.Bytes()...)
		switch {
		case err != nil:
			return out, err
		case container.MissingCommand(code):
			return out, fmt.Errorf("run %s: %w", argv[0], fs.ErrNotExist)
		case code != 0:
			return out, fmt.Errorf("%s exited with status %d", argv[0], code)
		}
		return out, nil
	}
}
