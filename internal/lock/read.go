package lock

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/pipeline"
)

// The kinds of weights.
const (
	kindPretrained = "pretrained"
	kindRandom     = "random"
	kindFile       = "file"
)

// MaxBytes is the most that a lock has: those of local images have some three hundred lines for each platform.
const MaxBytes = 1 << 20

// writeAnew is what to do about a lock that cannot be used.
const writeAnew = "remove it, and `dalirun lock` writes it anew"

// Parse reads a lock; file is its name for people. A line that is unknown, that stands twice or whose value is none is
// a usage fault which names the line, as is a lock that lacks something.
func Parse(file string, text []byte) (Lock, error) {
	p := parser{file: file, forms: forms(), lines: map[string]int{}}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := p.line(number, line); err != nil {
			return Lock{}, err
		}
	}
	if len(p.lines) == 0 {
		return Lock{}, pipeline.Usagef(writeAnew, "%s: it is empty", file)
	}
	if lacking := p.lock.lacking(); lacking != "" {
		return Lock{}, pipeline.Usagef(writeAnew, "%s: it lacks the line %q", file, lacking)
	}
	kept := p.lock.facts()
	for fact, number := range p.lines {
		if _, ok := kept[fact]; !ok && fact != "version" {
			return Lock{}, pipeline.Usagef(writeAnew, "%s:%d: %q says nothing of %s weights", file, number, fact,
				p.lock.Weights.Kind)
		}
	}
	return p.lock, nil
}

// parser reads the lines of one file.
type parser struct {
	file  string
	forms []form
	lines map[string]int // where each fact stands
	lock  Lock
}

func (p *parser) line(number int, line string) error {
	wrong := func(hint, format string, args ...any) error {
		return pipeline.Usagef(hint, "%s:%d: %s", p.file, number, fmt.Sprintf(format, args...))
	}
	fact, value := "", line
	if i := strings.LastIndexByte(line, ' '); i >= 0 {
		fact, value = line[:i], line[i+1:]
	}
	if len(p.lines) == 0 && fact != "version" {
		return wrong(writeAnew, "it does not begin with the line %q", "version "+strconv.Itoa(Version))
	}
	if first := p.lines[fact]; first > 0 {
		return wrong("keep one of them", "%q stands twice, first in line %d", fact, first)
	}
	p.lines[fact] = number
	if fact == "version" {
		if value != strconv.Itoa(Version) {
			return wrong("use the dalirun that wrote it, or "+writeAnew,
				"it is of version %q, and this dalirun reads version %d", value, Version)
		}
		return nil
	}
	words := strings.Split(fact, " ")
	for _, form := range p.forms {
		if !form.matches(words) {
			continue
		}
		if !form.value.MatchString(value) {
			return wrong(writeAnew, "%s: %q is not %s", fact, value, form.means)
		}
		form.set(&p.lock, words, value)
		return nil
	}
	return wrong("remove the line if nobody needs it; or "+writeAnew, "unknown line %q", line)
}

// form is one kind of line.
type form struct {
	words []*regexp.Regexp // of the fact
	value *regexp.Regexp
	means string // what the value is, for people
	set   func(l *Lock, words []string, value string)
}

func (f form) matches(words []string) bool {
	if len(words) != len(f.words) {
		return false
	}
	for i, w := range f.words {
		if !w.MatchString(words[i]) {
			return false
		}
	}
	return true
}

// newForm is a form whose words are separated by blanks, each a regular expression for a whole word.
func newForm(words, value, means string, set func(l *Lock, words []string, value string)) form {
	f := form{value: whole(value), means: means, set: set}
	for word := range strings.SplitSeq(words, " ") {
		f.words = append(f.words, whole(word))
	}
	return f
}

func whole(expression string) *regexp.Regexp { return regexp.MustCompile("^(?:" + expression + ")$") }

// forms are all kinds of lines but the version.
func forms() []form {
	const (
		digest, aDigest = `sha256:[0-9a-f]{64}`, "a digest, sha256: and 64 hexadecimal digits"
		role, name      = "exporter|server|base", "exporter|server"
		platform        = `linux/[a-z0-9]+`
		text            = `[^\s\x00-\x1f\x7f]+`
	)
	image := func(set func(i *Image, words []string, value string)) func(*Lock, []string, string) {
		return func(l *Lock, words []string, value string) {
			i := l.Images[words[1]]
			set(&i, words, value)
			l.Images = put(l.Images, words[1], i)
		}
	}
	return []form{
		newForm("source", "ngc|local", "ngc or local", func(l *Lock, _ []string, v string) { l.Source = v }),
		newForm("release", `\d\d\.\d\d`, "a release, as 25.03", func(l *Lock, _ []string, v string) { l.Release = v }),
		newForm("model", `[a-z0-9_]+`, "a model", func(l *Lock, _ []string, v string) { l.Model = v }),
		newForm("image "+role+" ref", text, "an image", image(func(i *Image, _ []string, v string) { i.Ref = v })),
		newForm("image "+role+" digest", digest, aDigest,
			image(func(i *Image, _ []string, v string) { i.Digest = Digest(v) })),
		newForm("image "+role+" id", digest, aDigest, image(func(i *Image, _ []string, v string) { i.ID = Digest(v) })),
		newForm("image "+role+" "+platform, digest, aDigest, image(func(i *Image, words []string, v string) {
			i.Platforms = put(i.Platforms, words[2], Digest(v))
		})),
		newForm("build "+name, digest, aDigest, func(l *Lock, words []string, v string) {
			b := l.Builds[words[1]]
			b.Hash = Digest(v)
			l.Builds = put(l.Builds, words[1], b)
		}),
		newForm("package "+name+" "+platform+" "+text, text, "a version", func(l *Lock, words []string, v string) {
			b := l.Builds[words[1]]
			b.Packages = put(b.Packages, words[2], put(b.Packages[words[2]], words[3], v))
			l.Builds = put(l.Builds, words[1], b)
		}),
		newForm("weights kind", kindPretrained+"|"+kindRandom+"|"+kindFile, "pretrained, random or file",
			func(l *Lock, _ []string, v string) { l.Weights.Kind = v }),
		newForm("weights url", "https?://"+text, "a URL", func(l *Lock, _ []string, v string) { l.Weights.URL = v }),
		newForm("weights sha256", digest, aDigest, func(l *Lock, _ []string, v string) { l.Weights.SHA256 = Digest(v) }),
		newForm("weights seed", `0|[1-9]\d{0,9}`, "a seed", func(l *Lock, _ []string, v string) {
			l.Weights.Seed, _ = strconv.ParseInt(v, 10, 64) // ten digits fit
		}),
		newForm("script "+`[A-Za-z0-9_.-]+`, digest, aDigest, func(l *Lock, words []string, v string) {
			l.Scripts = put(l.Scripts, words[1], Digest(v))
		}),
		newForm("labels", digest, aDigest, func(l *Lock, _ []string, v string) { l.Labels = Digest(v) }),
		newForm("picture", digest, aDigest, func(l *Lock, _ []string, v string) { l.Picture = Digest(v) }),
	}
}

// put adds an entry to a map, which may be nil.
func put[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}

// lacking returns the beginning of a line that the lock must have and has not; empty if it is complete.
func (l Lock) lacking() string {
	if l.Source == "" {
		return "source"
	}
	roles, needed := []string{Exporter, Server}, []string{"weights kind", "labels", "picture"}
	switch l.Source {
	case Local:
		roles = []string{Base}
		needed = append(needed, "build "+Exporter, "build "+Server)
	case NGC:
	}
	switch l.Weights.Kind {
	case kindPretrained:
		needed = append(needed, "weights url", "weights sha256")
	case kindFile:
		needed = append(needed, "weights sha256")
	}
	for _, role := range roles {
		needed = append(needed, "image "+role+" ref")
		if l.Images[role].ID == "" {
			needed = append(needed, "image "+role+" digest")
		}
	}
	facts := l.facts()
	i := slices.IndexFunc(needed, func(fact string) bool { return facts[fact] == "" })
	if i < 0 {
		return ""
	}
	return needed[i]
}
