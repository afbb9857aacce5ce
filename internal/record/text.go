package record

import (
	"bytes"
	"fmt"
)

const (
	// headLimit and tailLimit bound what a record has of a log, in bytes: its begin, which says what was started, and
	// its end, which says what came of it. trtexec prints 0.3 MB of an engine.
	headLimit = 1 << 20
	tailLimit = 3 << 20
)

// text is a log whose middle is left out if it becomes too large.
type text struct {
	head, tail []byte
	left       int // lines that are left out
}

// add adds whole lines.
func (t *text) add(lines []byte) {
	if len(t.tail) == 0 && t.left == 0 && len(t.head)+len(lines) <= headLimit {
		t.head = append(t.head, lines...)
		return
	}
	t.tail = append(t.tail, lines...)
	const slack = tailLimit / 2 // so that the begin is not moved for each line
	if len(t.tail) <= tailLimit+slack {
		return
	}
	cut := len(t.tail) - tailLimit
	if end := bytes.IndexByte(t.tail[cut:], '\n'); end >= 0 {
		cut += end + 1
	}
	t.left += bytes.Count(t.tail[:cut], []byte{'\n'})
	t.tail = append([]byte(nil), t.tail[cut:]...)
}

// bytes returns the text, with between says where lines are left out.
func (t *text) bytes(between func(left int) string) []byte {
	if t.left == 0 {
		return append(append([]byte(nil), t.head...), t.tail...)
	}
	return append(fmt.Append(append([]byte(nil), t.head...), between(t.left), "\n"), t.tail...)
}
