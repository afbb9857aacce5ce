package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	dcontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline/lines"
)

// stepBack is how much earlier than a line another one may be stamped that stands after it in the log: standard output
// and standard error are stamped before they are written.
const stepBack = time.Second

// Logs hands each the lines of the engine's log.
//
// A followed log ends too early on Docker Engine 20.10: see [output]. So after the container's end what came last is
// read once more, without the lines that each has.
func (h *handle) Logs(ctx context.Context, o container.LogOptions, each func(container.LogLine) error) error {
	r := &logReader{each: each}
	if err := h.readLog(ctx, o, r); err != nil || !o.Follow {
		return err
	}
	o.Follow = false
	if r.ends != nil {
		o.Tail, o.Since = container.AllLines, r.last.Add(-stepBack)
	}
	r.again()
	err := h.readLog(ctx, o, r)
	if errors.Is(err, container.ErrNotFound) {
		return nil // it was removed at its end
	}
	return err
}

// readLog reads the log once. Unless it is followed, each wait for the engine is bounded; what each waits for, as for
// the reader of a pipe, does not count.
func (h *handle) readLog(ctx context.Context, o container.LogOptions, r *logReader) error {
	what := "read the log of " + h.name
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := h.runtime.options.AnswerWithin
	late := time.AfterFunc(limit, func() { cancel(fmt.Errorf("%w within %s", errNoReply, limit)) })
	defer late.Stop()
	options := dcontainer.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: o.Follow}
	if o.Tail >= 0 {
		options.Tail = strconv.Itoa(o.Tail)
	}
	if !o.Since.IsZero() {
		options.Since = o.Since.Format(time.RFC3339Nano)
	}
	logs, err := h.runtime.api.ContainerLogs(within, h.id, options)
	if err != nil && containsAny(message(err), "dead or marked for removal") {
		return &runtimeError{kind: container.ErrNotFound, cause: err, text: what + ": " + message(err)}
	}
	if err != nil {
		return h.runtime.explain(within, what, err)
	}
	stdout, stderr := newLogStream(r, false), newLogStream(r, true)
	r.arrived, r.awaited = func() { late.Stop() }, func() { late.Reset(limit) }
	if o.Follow {
		late.Stop() // a server may be silent for days
		r.awaited = func() {}
	}
	_, err = stdcopy.StdCopy(stdout, stderr, logs)
	late.Stop()
	stdout.lines.Flush()
	stderr.lines.Flush()
	err = errors.Join(err, logs.Close())
	switch {
	case r.err != nil:
		return r.err
	case err == nil:
		return nil
	}
	// Podman writes the error of a container that is removed meanwhile in place of the next line.
	late.Reset(limit)
	if _, gone := h.runtime.api.ContainerInspect(within, h.id); cerrdefs.IsNotFound(gone) {
		err = gone
	}
	return h.runtime.explain(within, what, err)
}

// logReader hands on the lines of a log, and when it is read again those that each has not got.
type logReader struct {
	each    func(container.LogLine) error
	err     error  // of each
	arrived func() // called for all that arrives, before each has it
	awaited func() // called after it: the engine's turn again

	first, last time.Time         // of the lines that each has; zero if there is none
	ends        map[bool]position // where each stream was read to, by LogLine.Stderr
	skip        map[bool]int      // how many lines of the very time of the end each has; nil in the first reading
}

// position is the last line that was read of a stream, whose lines are in the order of their times.
type position struct {
	at time.Time
	of int // how many lines of that very time were read: an engine may stamp all that it reads at once alike
}

// again begins the second reading.
func (r *logReader) again() {
	r.skip = map[bool]int{}
	for stderr, p := range r.ends {
		r.skip[stderr] = p.of
	}
}

// take hands on a line unless each has it.
func (r *logReader) take(l container.LogLine) {
	if r.err != nil || r.skip != nil && r.has(l) {
		return
	}
	if r.ends == nil {
		r.first, r.ends = l.Time, map[bool]position{}
	}
	r.last = l.Time
	p := r.ends[l.Stderr]
	if !p.at.Equal(l.Time) {
		p = position{at: l.Time}
	}
	p.of++
	r.ends[l.Stderr] = p
	r.err = r.each(l)
}

// has reports whether each has a line of the second reading.
func (r *logReader) has(l container.LogLine) bool {
	p, known := r.ends[l.Stderr]
	switch {
	case !known:
		return l.Time.Before(r.first) // it stands before what was wanted
	case l.Time.Equal(p.at) && r.skip[l.Stderr] > 0:
		r.skip[l.Stderr]--
		return true
	default:
		return l.Time.Before(p.at)
	}
}

// logStream makes lines of one stream of a log. Each write is an entry of the log: its time, a blank, and a line or, of
// a long one, a piece.
type logStream struct {
	reader *logReader
	lines  *lines.Writer
	at     time.Time // of the line that is being written
	open   bool      // the last entry was no whole line
}

func newLogStream(r *logReader, stderr bool) *logStream {
	s := &logStream{reader: r}
	s.lines = lines.NewWriter(func(text string) { r.take(container.LogLine{Time: s.at, Stderr: stderr, Text: text}) })
	return s
}

// Write takes an entry. Its error is that of the reader's each.
func (s *logStream) Write(entry []byte) (int, error) {
	s.reader.arrived()
	defer s.reader.awaited()
	stamp, text, _ := bytes.Cut(entry, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	switch {
	case err != nil:
		text = entry // an engine that stamps the begin of a line alone
	case !s.open:
		s.at = at
	}
	s.open = !bytes.HasSuffix(text, []byte("\n"))
	_, _ = s.lines.Write(text) // never fails
	return len(entry), s.reader.err
}
