package printable_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/dalirun/dalirun/internal/printable"
)

// What others chose, and how it is shown: as one line, as text, and as the name of a file.
func TestShown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct{ line, text, name string }{
		"cat.jpg":                {"cat.jpg", "cat.jpg", "cat.jpg"},
		"Käsekuchen 猫.jpg":       {"Käsekuchen 猫.jpg", "Käsekuchen 猫.jpg", "Käsekuchen 猫.jpg"},
		"":                       {"", "", `""`},
		" ":                      {" ", " ", `" "`},
		"\x1b[31mred\x1b[0m.jpg": {"red.jpg", "[31mred[0m.jpg", `"\x1b[31mred\x1b[0m.jpg"`},
		"\x1b]0;title\acat":      {"cat", "]0;titlecat", `"\x1b]0;title\acat"`},
		"a\nb":                   {"a b", "a\nb", `"a\nb"`},
		"a\tb":                   {"a b", "a\tb", `"a\tb"`},
		"old\rnew":               {"new", "oldnew", `"old\rnew"`},
		"a\u009b31mb":            {"a31mb", "a31mb", `"a\u009b31mb"`},
		"\u202egpj.tac":          {"gpj.tac", "gpj.tac", `"\u202egpj.tac"`},
		"Gr\xfc\xdfe":            {"Gr\uFFFDe", "Gr\uFFFDe", `"Gr\xfc\xdfe"`},
		"bell\a and delete\x7f":  {"bell and delete", "bell and delete", `"bell\a and delete\x7f"`},
		"line\u2028separator":    {"line separator", "line\u2028separator", `"line\u2028separator"`},
		"open \x1b[31":           {"open ", "open [31", `"open \x1b[31"`},
	} {
		if got := printable.Line(in); got != want.line {
			t.Errorf("Line(%q) = %q, want %q", in, got, want.line)
		}
		if got := printable.Text(in); got != want.text {
			t.Errorf("Text(%q) = %q, want %q", in, got, want.text)
		}
		if got := printable.Name(in); got != want.name {
			t.Errorf("Name(%q) = %q, want %q", in, got, want.name)
		}
	}
}

// What programs print to draw bars, set titles and clear screens.
func TestLineOfOutput(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                            "plain",
		"10%\r50%\r100%\r":                 "100%",
		"windows\r\n":                      "windows",
		"a\tb\nc":                          "a b c",
		"\x1b[2J\x1b[31mred\x1b[0m":        "red",
		"\x1b]0;title\x07text":             "text",
		"\x1b]52;c;ZXZpbA==\x1b\\text":     "text",
		"bell\x07 back\x08space\x7f\x00":   "bell backspace",
		"bad \xff\x9b2J utf-8":             "bad �2J utf-8",
		"c1 \u009b2J":                      "c1 2J",
		"evil \u202egnp.exe":               "evil gnp.exe",
		"naïve 模型 …":                       "naïve 模型 …",
		"line\u2028separator":              "line separator",
		"cut off \x1b[":                    "cut off ",
		"\x1b[?1049h\x1b[?25lfull screen!": "full screen!",
	} {
		if got := printable.Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

// A JSON text means the same and holds nothing that a terminal obeys but its own line feeds.
func TestJSON(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"cat", "a\x1b[31mb", "a\u009b31mb", "\u202egpj", "del\x7f", "Gr\xfc\xdfe", "line\nfeed\ttab", `back\slash "quote"`, "a && b < c > d", `\u0026 \\u003c`, `ends in a \`} {
		text, err := json.MarshalIndent(map[string]string{"name": in}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got := printable.JSON(text)
		if !utf8.Valid(got) {
			t.Errorf("JSON of %q is no UTF-8: %q", in, got)
		}
		if i := strings.IndexFunc(string(got), func(r rune) bool {
			return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
		}); i >= 0 {
			t.Errorf("JSON of %q has a character that a terminal obeys at %d: %q", in, i, got)
		}
		if n := strings.Count(string(got), "&") - strings.Count(in, "&"); n != 0 {
			t.Errorf("JSON of %q has %d & more: %s", in, n, got)
		}
		var back map[string]string
		if err := json.Unmarshal(got, &back); err != nil || back["name"] != strings.ToValidUTF8(in, "\uFFFD\uFFFD") {
			t.Errorf("JSON of %q reads as %q: %v", in, back["name"], err)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x1b[31mb\u202ec\r\n")
	f.Add("\x9b\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{printable.Line(s), printable.Name(s)} {
			if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
				t.Errorf("%q is shown as %q", s, got)
			}
		}
	})
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0 images", 1: "1 image", 2: "2 images"} {
		if got := printable.Count(n, "image"); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
