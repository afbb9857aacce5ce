package cause

import (
	"regexp"
	"slices"
)

// Notices returns what the warnings of a run tell of machine and infrastructure, whatever the run came to: a run that
// passed may have had to make something again. Each is told once. Seen is the warning.
func Notices(warnings []string) []Cause {
	var all []Cause
	for _, text := range warnings {
		for _, n := range notices() {
			if !n.says.MatchString(text) {
				continue
			}
			if !slices.ContainsFunc(all, func(c Cause) bool { return c.ID == n.cause.ID }) {
				found := n.cause
				found.Seen = text
				all = append(all, found)
			}
			break
		}
	}
	return all
}

// notice is one row of the table: a warning that begins with words of a step or of the run.
type notice struct {
	cause Cause
	says  *regexp.Regexp
}

func notices() []notice {
	re := regexp.MustCompile
	return []notice{
		{
			Cause{
				ID: "cache-damaged", Turn: Environment,
				Text: "a result in the cache was not what had been stored, so it was made again: look at the disk of the cache",
			},
			re(`cache entry is damaged`),
		},
		{
			Cause{
				ID: "gpu-shared", Turn: Infrastructure,
				Text: "other programs computed on the GPU beside the run: what was measured there is not kept",
			},
			re(`^others (came to )?compute where the engine `),
		},
		{
			Cause{ID: "gpu-waited", Turn: Infrastructure, Text: "another job had the GPU, and the run waited for it"},
			re(`^waits for .*, on which `),
		},
		{
			Cause{
				ID: "weights-unreachable", Turn: Infrastructure,
				Text: "the pretrained weights could not be had, and seeded ones were taken",
			},
			re(`the pretrained weights cannot be had`),
		},
		{
			Cause{ID: "lock-differs", Turn: Environment, Text: "the run is not the one that its lock says"},
			re(`^the run is not that of `),
		},
	}
}
