package classify

import (
	"context"
	"errors"
	"iter"
	"sync"
)

// reorder is how many records may wait for an earlier one, for each job: one that takes 30 s should not hold up a
// server that answers in 50 ms for long, and records without end would fill the memory.
const reorder = 64

// answer is what became of a picture.
type answer struct {
	record Record
	err    error
}

// All asks about all pictures, with at most as many at the server at a time as the request has jobs, and yields a
// record and its error for each, in their order, as soon as those before it are there. With one job each picture is
// read when the one before is done with. With more, as many as there are CPUs are read ahead: there are no more
// pictures than jobs and CPUs together in memory. What stops all ([Asker.Err]) is the error of each from the first on
// that met it. Who leaves the loop early stops the Asker. After the loop nothing of it goes on but what no context
// interrupts.
func (a *Asker) All(ctx context.Context, pictures []Picture) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		gone := make(chan struct{})
		defer close(gone)
		waiting := make(chan chan answer, reorder*cap(a.sent))
		stopped := a.Err()
		work.Go(func() { a.start(ctx, pictures, waiting, gone) })
		for next := range waiting {
			it := <-next
			// Those behind a picture that stops all may have met something else before they saw that. What a signal
			// stopped leaves them what they met.
			if stopped != nil && it.err != nil && ctx.Err() == nil {
				it.err = stopped
			}
			if stop := a.Err(); stop != nil && errors.Is(it.err, stop) {
				stopped = stop
			}
			if !yield(it.record, it.err) {
				return
			}
		}
	}
}

// start asks about each picture in a goroutine of its own, which it starts in their order, and hands on where the
// answer comes. It returns when all are done, or gone is closed.
func (a *Asker) start(ctx context.Context, pictures []Picture, waiting chan<- chan answer, gone <-chan struct{}) {
	defer close(waiting)
	var work sync.WaitGroup
	defer work.Wait()
	jobs := cap(a.sent)
	held := make(chan struct{}, jobs+min(jobs-1, cap(a.checks))) // holds one for each picture in memory
	for _, p := range pictures {
		next := make(chan answer, 1)
		select {
		case waiting <- next:
		case <-gone:
			return
		}
		if p.Err != nil {
			next <- answer{a.record(p.Name), p.Err}
			continue
		}
		file := a.files.File(p.Name) // here, as standard input is whose who asks for it first
		select {
		case held <- struct{}{}:
			work.Go(func() {
				defer func() { <-held }()
				record, err := a.ask(ctx, p.Name, file)
				next <- answer{record, err}
			})
		case <-ctx.Done():
			record, err := a.ask(ctx, p.Name, file) // which it is not
			next <- answer{record, err}
		}
	}
}
