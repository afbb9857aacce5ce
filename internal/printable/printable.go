// Package printable makes text that others chose harmless for a terminal, a log and a reader: the names of files,
// labels, what a server or a container says. It also writes lists and counts for people.
package printable

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Line returns s as one line without escape sequences, control characters and the marks that turn the direction of
// text. What a carriage return would overwrite is gone, and bytes that are no UTF-8 are U+FFFD.
func Line(s string) string {
	if isPlain(s) {
		return s
	}
	s = ansi.Strip(strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.TrimRight(s, "\r\n")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 && !strings.Contains(s, "\n") {
		s = s[i+1:]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029':
			return ' '
		case steers(r):
			return -1
		default:
			return r
		}
	}, s)
}

// Text returns s, of any number of lines, without control characters other than line feeds and tabs, and without the
// marks that turn the direction of text. What is left of an escape sequence stays: where one ends in a page or a table
// cannot be told.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && steers(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// Name returns the name of a file as it is, or quoted with its escapes spelled out where it could not be told from
// another one otherwise.
func Name(s string) string {
	if s != "" && Line(s) == s && strings.TrimSpace(s) == s {
		return s
	}
	return strconv.Quote(s)
}

// JSON returns a JSON text as it is shown to people and programs. It means the same: what encoding/json leaves as it is
// although a terminal obeys it has \u escapes, and what it escapes for the sake of pages in HTML, as the & of a
// command, has none, whichever marshaler wrote it.
func JSON(text []byte) []byte {
	var out bytes.Buffer
	for rest := text; len(rest) > 0; {
		if len(rest) > 1 && rest[0] == '\\' {
			if c, ok := forPages()[string(rest[:min(len(rest), 6)])]; ok {
				out.WriteByte(c)
				rest = rest[6:]
				continue
			}
			out.Write(rest[:2]) // of two backslashes the second begins no escape
			rest = rest[2:]
			continue
		}
		r, size := utf8.DecodeRune(rest)
		// Line feeds and the like are between values here: in strings encoding/json has escaped them.
		if r >= 0x7f && steers(r) {
			fmt.Fprintf(&out, `\u%04x`, r) // all of them are below U+10000
		} else {
			out.Write(rest[:size])
		}
		rest = rest[size:]
	}
	return out.Bytes()
}

// forPages are the escapes that encoding/json writes for pages in HTML alone.
func forPages() map[string]byte {
	return map[string]byte{`\u0026`: '&', `\u003c`: '<', `\u003e`: '>'}
}

// steers says whether a terminal or a reader's eye obeys r rather than shows it.
func steers(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// Count is "1 image" or "2 images".
func Count[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
