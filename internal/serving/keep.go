package serving

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/runlog"
)

const (
	// keptLines and keptBytes bound what is kept of the log of a server that nobody attended.
	keptLines = 10_000
	keptBytes = 4 << 20
	// keepWithin bounds the reading of it. Of a full log of 100 MB, all of a stop took 3 s.
	keepWithin = 10 * time.Second
)

// remove removes a container, and keeps before what a server said. That this cannot be done is told of, and stops
// nothing.
func (s Servers) remove(ctx context.Context, c Container) error {
	for _, err := range s.keep(ctx, c) {
		if ctx.Err() == nil {
			s.warn(err.Error())
		}
	}
	return s.Runtime.Remove(ctx, c.ID)
}

// keep writes the last lines of a server's log, and when the server ended, into the folder of its run, for
// [Servers.Logs]. They replace what the run itself wrote there: the container engine's log has the same lines with
// other times, and each line is to be there once. A run that was killed may have written more, which is lost then. A
// run that lives follows its server to the end and writes all of it. Nothing is written into the folder of another
// user, also by root. It returns what failed.
func (s Servers) keep(ctx context.Context, c Container) []error {
	dir := owner.EndedRunDir(c.Workspace(), c.Run())
	if dir == "" || !s.RunsTriton(c) || c.Labels[container.LabelHost] != s.Me.Host || !owner.IsOwn(dir) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, keepWithin,
		fmt.Errorf("the container engine did not give its log within %s", keepWithin))
	defer cancel()
	opened, err := s.Runtime.Open(ctx, c.ID)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return []error{fmt.Errorf("the last output of %s is not kept: %w", c.Name, err)}
	}
	var undone []error
	if err := keepOutput(ctx, opened, runlog.Path(dir, s.Step)); err != nil {
		undone = append(undone, fmt.Errorf("the last output of %s is not kept: %w", c.Name, err))
	}
	if err := noteEnd(ctx, c, opened); err != nil {
		undone = append(undone, fmt.Errorf("when %s ended is not noted: %w", c.Name, err))
	}
	return undone
}

// keepOutput puts the end of a container's log in the place of the log at path, unless it is empty.
func keepOutput(ctx context.Context, opened container.Container, path string) error {
	var last end
	err := opened.Logs(ctx, container.LogOptions{Tail: keptLines}, func(l container.LogLine) error {
		last.add(runlog.Line(l.Time.UTC(), l.Text))
		return nil
	})
	if err != nil || len(last.lines) == 0 {
		return err
	}
	return runlog.Replace(path, last.text())
}

// noteEnd notes when a server ended that was ready once.
func noteEnd(ctx context.Context, c Container, opened container.Container) error {
	file, err := c.File()
	if errors.Is(err, owner.ErrNoServer) {
		return nil
	}
	if err != nil {
		return err
	}
	file.Ended = time.Now().UTC() // by this process, just now or in a moment
	if !c.Running {
		exit, err := opened.Wait(ctx)
		if err != nil {
			return err
		}
		file.Ended = exit.At.UTC()
	}
	return owner.NoteServer(c.Workspace(), file)
}

// end is the last lines of a log, of keptBytes at most.
type end struct {
	lines [][]byte
	size  int
}

func (e *end) add(line []byte) {
	e.lines = append(e.lines, line)
	e.size += len(line)
	for e.size > keptBytes && len(e.lines) > 1 {
		e.size -= len(e.lines[0])
		e.lines = e.lines[1:]
	}
}

func (e *end) text() []byte {
	text := make([]byte, 0, e.size)
	for _, line := range e.lines {
		text = append(text, line...)
	}
	return text
}
