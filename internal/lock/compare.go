package lock

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Change is a fact that differs between two locks.
type Change struct {
	Fact string `json:"fact"`          // what stands before the value in its line
	Was  string `json:"was,omitempty"` // empty if the first lock has no such fact
	Is   string `json:"is,omitempty"`  // empty if the second has none
}

// String is the difference of a run from its lock for people, with short digests.
func (c Change) String() string {
	switch {
	case c.Was == "":
		return c.Fact + ": " + Short(c.Is) + ", which is not in the lock"
	case c.Is == "":
		return c.Fact + ": " + Short(c.Was) + ", which is not there"
	default:
		return c.Fact + ": " + Short(c.Was) + " → " + Short(c.Is)
	}
}

// Update is the change of a lock that is written anew for people, with short digests.
func (c Change) Update() string {
	switch {
	case c.Was == "":
		return c.Fact + ": " + Short(c.Is) + " is new"
	case c.Is == "":
		return c.Fact + ": " + Short(c.Was) + " is gone"
	default:
		return c.String()
	}
}

// Diff returns all facts that differ between two locks, sorted by fact.
func Diff(was, is Lock) []Change {
	before, after := was.facts(), is.facts()
	var changes []Change
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, fact := range slices.Sorted(maps.Keys(names)) {
		if before[fact] != after[fact] {
			changes = append(changes, Change{Fact: fact, Was: before[fact], Is: after[fact]})
		}
	}
	return changes
}

// Compare returns the facts in which a run differs from the lock, sorted by fact. Of the run they are those that are
// known so far: what it does not know yet is no difference, as the packages of an image that is not built.
func Compare(locked, run Lock) []Change {
	if locked.Source != run.Source && run.Source != "" { // all else follows from it
		return []Change{{Fact: "source", Was: locked.Source, Is: run.Source}}
	}
	var changes []Change
	for name, build := range run.Builds {
		for platform, packages := range build.Packages {
			if len(locked.Builds[name].Packages[platform]) == 0 { // one difference, and not one for each package
				changes = append(changes, Change{
					Fact: "package " + name + " " + platform, Is: fmt.Sprintf("a list of %d", len(packages)),
				})
			}
		}
	}
	for _, c := range Diff(locked, run) {
		words := strings.Split(c.Fact, " ")
		switch {
		case words[0] == "image" && strings.HasPrefix(words[2], "linux/"): // the digest says it for all platforms
		case words[0] == "package" && len(locked.Builds[words[1]].Packages[words[2]]) == 0:
		case c.Is == "" && !run.says(words):
		default:
			changes = append(changes, c)
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Fact, b.Fact) })
	return changes
}

// says reports whether the run would have a fact of these words, if it were so.
func (l Lock) says(words []string) bool {
	switch words[0] {
	case "source", "release":
		return l.Source != ""
	case "image":
		image, known := l.Images[words[1]]
		return known && (words[2] == "ref" || image.Pulled() != "")
	case "build":
		return l.Builds[words[1]].Hash != ""
	case "package":
		return l.Builds[words[1]].Packages[words[2]] != nil
	case "weights":
		return l.Weights.Kind != ""
	case "script":
		return len(l.Scripts) > 0
	case "labels":
		return l.Labels != ""
	default:
		return l.Picture != ""
	}
}
