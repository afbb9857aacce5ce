package flagvalue

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/dalirun/dalirun/internal/container"
)

// LineCount returns a value with a number of lines, or [container.AllLines].
func LineCount(value *int) Value { return lineCount{value} }

type lineCount struct{ value *int }

const allLines = "all"

func (n lineCount) String() string {
	return text(n.value, func(v int) string {
		if v == container.AllLines {
			return allLines
		}
		return strconv.Itoa(v)
	})
}

func (lineCount) Type() string { return allLines + "|0.." }

func (n lineCount) Set(s string) error {
	if s == allLines {
		*n.value = container.AllLines
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 32)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no number of lines from 0 to %d, nor %q", s, math.MaxInt32, allLines)
	}
	*n.value = int(v)
	return nil
}

// Time returns a value with a time of RFC 3339, or a duration that is not negative: so long ago.
func Time(value *time.Time) Value { return &pointInTime{value: value} }

type pointInTime struct {
	value   *time.Time
	written string
}

func (p *pointInTime) String() string { return p.written }
func (*pointInTime) Type() string     { return "time|duration" }

func (p *pointInTime) Set(s string) error {
	at, err := time.Parse(time.RFC3339, s)
	if ago, agoErr := time.ParseDuration(s); agoErr == nil && ago >= 0 {
		at, err = time.Now().Add(-ago), nil
	}
	if err != nil {
		return fmt.Errorf("%q is neither a time, as in 2026-08-23T10:15:00Z, nor how long ago, as in 90s or 10m", s)
	}
	*p.value, p.written = at, s
	return nil
}
