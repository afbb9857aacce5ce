package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Facts are the named values that a step's result depends on.
type Facts map[string]string

// Fingerprint is the hex SHA-256 of a step's ID and facts, its inputs' digests among them.
type Fingerprint string

// Change is one fact that differs from the last time. Was is empty for a new fact, Is for one that is gone, and both
// where Fact says it all. A value that is itself empty is given as two quotes.
type Change struct {
	Fact string `json:"fact"`
	Was  string `json:"was,omitempty"`
	Is   string `json:"is,omitempty"`
}

// String returns "fact: was → is" with long values cut.
func (c Change) String() string {
	switch {
	case c.Was == "" && c.Is == "":
		return c.Fact
	case c.Was == "":
		return fmt.Sprintf("%s is new: %s", c.Fact, Short(c.Is))
	case c.Is == "":
		return c.Fact + " is gone"
	default:
		was, is := Short(c.Was), Short(c.Is)
		if was == is { // the difference is in what was cut
			was, is = fromDifference(c.Was, c.Is)
		}
		return fmt.Sprintf("%s: %s → %s", c.Fact, was, is)
	}
}

// fromDifference cuts what a and b begin with, but for a few letters, and what is too long.
func fromDifference(a, b string) (shortA, shortB string) {
	const lead = 8
	x, y := []rune(a), []rune(b)
	same := 0
	for same < min(len(x), len(y)) && x[same] == y[same] {
		same++
	}
	from := max(0, same-lead)
	return Short("…" + string(x[from:])), Short("…" + string(y[from:]))
}

// Short cuts a value to what a person can compare at a glance: a digest to the 12 digits that container engines show.
func Short(s string) string {
	const most, digits = 40, 12
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok && len(hex) > digits {
		return hex[:digits]
	}
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// fingerprint hashes id and facts. Names and values are quoted, so no two different sets run together.
func fingerprint(id ID, facts Facts) Fingerprint {
	h := sha256.New()
	fmt.Fprintf(h, "dalirun step 1\n%q\n", id)
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		fmt.Fprintf(h, "%q=%q\n", name, facts[name])
	}
	return Fingerprint(hex.EncodeToString(h.Sum(nil)))
}

// with returns facts, the names of the outputs and, under "input step/name", the digest of each input. An entry of an
// older version of the step, which made fewer outputs, is not taken for one of this.
func (f Facts) with(in Inputs, outputs []Output) Facts {
	all := maps.Clone(f)
	if all == nil {
		all = Facts{}
	}
	names := make([]string, len(outputs))
	for i, o := range outputs {
		names[i] = o.Name
	}
	all["outputs"] = strings.Join(names, ", ")
	for o, v := range in {
		all["input "+o.String()] = v.Digest
	}
	return all
}

// changes lists in name order how is differs from was.
func changes(was, is Facts) []Change {
	names := map[string]bool{}
	for n := range was {
		names[n] = true
	}
	for n := range is {
		names[n] = true
	}
	var out []Change
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if w, i := was.display(n), is.display(n); w != i {
			out = append(out, Change{Fact: n, Was: w, Is: i})
		}
	}
	return out
}

// display returns the value of a fact. It quotes an empty one, since an empty string in a Change is a fact that is not
// set.
func (f Facts) display(name string) string {
	if value, ok := f[name]; !ok || value != "" {
		return value
	}
	return `""`
}
