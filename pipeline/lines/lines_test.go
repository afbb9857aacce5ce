package lines_test

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/pipeline/lines"
)

// split returns the lines of what is written by and by.
func split(t *testing.T, writes ...string) []string {
	t.Helper()
	var got []string
	w := lines.NewWriter(func(line string) { got = append(got, line) })
	for _, text := range writes {
		if n, err := io.WriteString(w, text); n != len(text) || err != nil {
			t.Errorf("write %q: got %d, %v", text, n, err)
		}
	}
	w.Flush()
	return got
}

func TestLines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ writes, want []string }{
		"nothing":         {nil, nil},
		"empty write":     {[]string{""}, nil},
		"one":             {[]string{"a\n"}, []string{"a"}},
		"many at once":    {[]string{"a\nb\n\nc\n"}, []string{"a", "b", "", "c"}},
		"in pieces":       {[]string{"a", "b", "\nc", "\n"}, []string{"ab", "c"}},
		"unfinished":      {[]string{"a\nlast words"}, []string{"a", "last words"}},
		"windows":         {[]string{"a\r\nb\r", "\n", "\r\n"}, []string{"a", "b", ""}},
		"progress bar":    {[]string{"10%\r", "20%\r\n"}, []string{"10%\r20%"}},
		"unfinished bar":  {[]string{"10%\r"}, []string{"10%"}},
		"split letter":    {[]string{"\xc3", "\xbc\n"}, []string{"ü"}},
		"escape sequence": {[]string{"\x1b[31mred\x1b[0m\n"}, []string{"\x1b[31mred\x1b[0m"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, split(t, c.writes...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is written after a flush begins a line, and a second flush has nothing to hand on.
func TestFlush(t *testing.T) {
	t.Parallel()
	var got []string
	w := lines.NewWriter(func(line string) { got = append(got, line) })
	for _, text := range []string{"a", "b\n"} {
		_, _ = io.WriteString(w, text)
		w.Flush()
		w.Flush()
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A line without an end, or of any length, comes in parts of at most [lines.Max] bytes, and nothing of it is lost or torn.
func TestLongLines(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"letters of one byte":    strings.Repeat("x", 5*lines.Max+7),
		"letters of three bytes": strings.Repeat("模", lines.Max) + "\nend",
		"off by one":             "a" + strings.Repeat("é", lines.Max),
		"just as long":           strings.Repeat("x", lines.Max) + "\nend",
		"one more":               strings.Repeat("x", lines.Max+1) + "\nend",
		"no text":                strings.Repeat("\xff", 2*lines.Max),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1000, lines.Max, len(text)} {
				var writes []string
				for rest := text; rest != ""; {
					n := min(size, len(rest))
					writes = append(writes, rest[:n])
					rest = rest[n:]
				}
				got := split(t, writes...)
				if joined := strings.Join(got, ""); joined != strings.ReplaceAll(text, "\n", "") {
					t.Errorf("written by %d: something is lost: %d bytes became %d", size, len(text), len(joined))
				}
				for i, l := range got {
					if utf8.ValidString(text) && !utf8.ValidString(l) {
						t.Errorf("written by %d: line %d tears a letter", size, i)
					}
					if len(l) > lines.Max || l == "" {
						t.Errorf("written by %d: line %d has %d bytes", size, i, len(l))
					}
				}
			}
		})
	}
}

// What has no end is held back up to [lines.Max] bytes, and no further.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	handed := 0
	w := lines.NewWriter(func(line string) { handed += len(line) })
	const piece = 1000
	for written := piece; written < 3*lines.Max; written += piece {
		_, _ = io.WriteString(w, strings.Repeat("x", piece))
		if held := written - handed; held > lines.Max {
			t.Fatalf("%d of %d bytes are held back", held, written)
		}
	}
}

// Several who write whole lines to one Writer do not mix them.
func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	count := map[string]int{} // nobody else guards it
	w := lines.NewWriter(func(line string) { count[line]++ })
	const writers, each = 4, 100
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for range each {
				_, _ = io.WriteString(w, "w"+strconv.Itoa(i)+"\n")
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(map[string]int{"w0": each, "w1": each, "w2": each, "w3": each}, count); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
