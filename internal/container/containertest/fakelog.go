package containertest

import (
	"context"
	"sync"
	"time"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/pipeline/lines"
)

// fakeLog keeps what a container writes.
type fakeLog struct {
	stdout, stderr *lines.Writer

	mu      sync.Mutex
	kept    []container.LogLine
	over    bool
	changed chan struct{} // closed and replaced by each change
}

func newFakeLog() *fakeLog {
	l := &fakeLog{changed: make(chan struct{})}
	writer := func(stderr bool) *lines.Writer {
		return lines.NewWriter(func(text string) {
			l.change(func() {
				l.kept = append(l.kept, container.LogLine{Time: time.Now(), Stderr: stderr, Text: text})
			})
		})
	}
	l.stdout, l.stderr = writer(false), writer(true)
	return l
}

func (l *fakeLog) change(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
	close(l.changed)
	l.changed = make(chan struct{})
}

// end says that nothing is written any more.
func (l *fakeLog) end() {
	l.stdout.Flush()
	l.stderr.Flush()
	l.change(func() { l.over = true })
}

// after returns the lines from n on, whether there can be more, and what tells of them.
func (l *fakeLog) after(n int) ([]container.LogLine, bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept[n:], !l.over, l.changed
}

func (l *fakeLog) read(ctx context.Context, o container.LogOptions, each func(container.LogLine) error) error {
	all, _, _ := l.after(0)
	n := 0
	if o.Tail >= 0 {
		n = max(0, len(all)-o.Tail)
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		found, more, changed := l.after(n)
		for _, line := range found {
			if line.Time.Before(o.Since) {
				continue
			}
			if err := each(line); err != nil {
				return err
			}
		}
		n += len(found)
		if !o.Follow || !more {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
