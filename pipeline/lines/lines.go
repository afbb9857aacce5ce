// Package lines splits the output of programs into lines as it arrives.
package lines

import (
	"bytes"
	"sync"
	"unicode/utf8"
)

// Max is the length of a line in bytes, from which on it is handed on in parts: it bounds what a program without line
// breaks can make anybody hold. The longest lines that mean something are single values of JSON.
const Max = 64 << 10

// A Writer hands on each line that is written to it, without its end. One Writer is for one stream: standard output and
// standard error, which a container engine delivers in pieces of any size, have one each and so do not mix in a line.
// It is safe for concurrent use; lines are handed on one at a time.
type Writer struct {
	each func(line string)

	mu   sync.Mutex
	rest []byte // that has no end yet
}

// NewWriter returns a Writer that hands each line to each. A line is what a line feed ends, without carriage returns
// before that; what other carriage returns have overwritten is part of it.
func NewWriter(each func(line string)) *Writer { return &Writer{each: each} }

// Write takes p. It never fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	rest := w.rest
	for {
		end := bytes.IndexByte(rest, '\n')
		switch {
		case 0 <= end && end <= Max:
			w.hand(rest[:end])
			rest = rest[end+1:]
		case len(rest) > Max:
			end = wholeLetters(rest[:Max])
			w.each(string(rest[:end]))
			rest = rest[end:]
		default:
			w.rest = append(w.rest[:0], rest...)
			return len(p), nil
		}
	}
}

// Flush hands on a last line that has no end. What is written after it begins a line.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.hand(w.rest)
		w.rest = w.rest[:0]
	}
}

func (w *Writer) hand(line []byte) { w.each(string(bytes.TrimRight(line, "\r"))) }

// wholeLetters returns the length of text without a UTF-8 sequence at its end that goes on in what follows.
func wholeLetters(text []byte) int {
	for i := len(text) - 1; i >= max(0, len(text)-utf8.UTFMax); i-- {
		if utf8.RuneStart(text[i]) && !utf8.FullRune(text[i:]) {
			return i
		}
	}
	return len(text)
}
