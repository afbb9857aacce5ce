package ui

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dalirun/dalirun/pipeline"
)

// view draws events into the buffer that it was made with. Its methods are called from one goroutine.
type view interface {
	draw(e pipeline.Event)
	// refresh is called after each batch of events, and at a steady rate if the view has one.
	refresh(now time.Time)
	// end draws the final state.
	end()
}

const (
	// closing bounds how long Close waits for an output that takes nothing, such as a terminal that was stopped with
	// Ctrl-S.
	closing = 5 * time.Second
	// most is how many events may wait for the output. A server that is followed for days must not fill the memory
	// because someone pressed Ctrl-S, and must not stop either.
	most = 1 << 16
	// chunk is how many events are drawn before they are written.
	chunk = 256
)

// queue is a Renderer that feeds a view from a goroutine of its own. If the output is far too slow, lines and progress
// are left out, with a warning; other events never are.
type queue struct {
	view view
	buf  *bytes.Buffer
	out  io.Writer
	err  error // of out; read after done

	mu      sync.Mutex
	waiting []pipeline.Event
	dropped int
	closed  bool

	writes atomic.Int64 // grows while the output takes something

	wake chan struct{} // holds one token: there are events
	stop chan struct{}
	done chan struct{}
}

func start(out io.Writer, buf *bytes.Buffer, v view, rate time.Duration) *queue {
	q := &queue{
		view: v, buf: buf, out: out,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go q.loop(rate)
	return q
}

// Emit queues e.
func (q *queue) Emit(e pipeline.Event) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	if len(q.waiting) >= most && canDrop(e) {
		q.dropped++
	} else {
		q.waiting = append(q.waiting, e)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func canDrop(e pipeline.Event) bool {
	switch e.Payload.(type) {
	case pipeline.Line, pipeline.Progress:
		return true
	default:
		return false
	}
}

// Close waits until all is written.
func (q *queue) Close() error {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	if first {
		close(q.stop)
	}
	t := time.NewTicker(closing)
	defer t.Stop()
	for before := q.writes.Load(); ; {
		select {
		case <-q.done:
			if q.err != nil {
				return fmt.Errorf("write progress: %w", q.err)
			}
			return nil
		case <-t.C:
			now := q.writes.Load()
			if now == before {
				return fmt.Errorf("write progress: the output took nothing for %s", closing)
			}
			before = now
		}
	}
}

func (q *queue) loop(rate time.Duration) {
	defer close(q.done)
	var tick <-chan time.Time
	if rate > 0 {
		t := time.NewTicker(rate)
		defer t.Stop()
		tick = t.C
	}
	var spare []pipeline.Event
	for stopping := false; !stopping; {
		select {
		case <-q.wake:
		case <-tick:
		case <-q.stop:
			stopping = true
		}
		batch := q.take(spare)
		for c := range slices.Chunk(batch, chunk) {
			for _, e := range c {
				q.view.draw(e)
			}
			q.view.refresh(time.Now())
			q.write()
		}
		q.view.refresh(time.Now())
		if stopping {
			q.view.end()
		}
		q.write()
		clear(batch)
		spare = batch[:0]
	}
}

// take returns what waits and leaves spare in its place.
func (q *queue) take(spare []pipeline.Event) []pipeline.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.waiting
	q.waiting = spare
	if q.dropped > 0 {
		last := batch[len(batch)-1]
		batch = append(batch, pipeline.Event{Run: last.Run, Time: last.Time, Payload: pipeline.Warning{
			Text: fmt.Sprintf("the output is slow: %d lines and progress reports are not shown here; all are in the "+
				"log files", q.dropped),
		}})
		q.dropped = 0
	}
	return batch
}

// write hands the buffer to out in one call, so that a status line is never seen half erased. After an error it writes
// no more.
func (q *queue) write() {
	if q.buf.Len() > 0 && q.err == nil {
		_, q.err = q.out.Write(q.buf.Bytes())
	}
	q.buf.Reset()
	q.writes.Add(1)
}
