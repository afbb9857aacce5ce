package dockertest

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"sync"
)

// frames are a container's output in the engine's form: eight bytes, which say the stream and the length, before each
// piece.
type frames struct {
	mu      sync.Mutex
	pieces  []piece
	over    bool
	changed chan struct{} // closed and replaced by each change
}

type piece struct {
	stream byte
	data   []byte
}

func newFrames() *frames { return &frames{changed: make(chan struct{})} }

func (f *frames) stream(number byte) io.Writer { return frameWriter{f, number} }

type frameWriter struct {
	frames *frames
	stream byte
}

// Write keeps a copy of p.
func (w frameWriter) Write(p []byte) (int, error) {
	w.frames.change(func() {
		w.frames.pieces = append(w.frames.pieces, piece{w.stream, framed(w.stream, p)})
	})
	return len(p), nil
}

func framed(stream byte, p []byte) []byte {
	frame := make([]byte, 8, 8+len(p))
	frame[0] = stream
	binary.BigEndian.PutUint32(frame[4:], uint32(len(p))) //nolint:gosec // a test's own output
	return append(frame, p...)
}

func (f *frames) end() { f.change(func() { f.over = true }) }

func (f *frames) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// after returns the pieces from n on, whether there can be more, and what tells of them.
func (f *frames) after(n int) ([]piece, bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pieces[n:], !f.over, f.changed
}

// copyTo writes what the wanted streams said and, with follow, what they say until the container ends.
func (f *frames) copyTo(ctx context.Context, w http.ResponseWriter, wanted func(stream byte) bool, follow bool) {
	for n := 0; ; {
		pieces, more, changed := f.after(n)
		for _, p := range pieces {
			if !wanted(p.stream) {
				continue
			}
			if _, err := w.Write(p.data); err != nil {
				return // the client left
			}
		}
		n += len(pieces)
		flush(w)
		if !follow || !more {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
