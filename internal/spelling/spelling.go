// Package spelling suggests what a misspelt word was perhaps meant to be.
package spelling

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// Nearest suggests the known word that word was perhaps meant to be, as in `did you mean "x"?`. It is empty if none is
// near.
func Nearest(word string, known []string) string {
	best, distance := "", len(word)/3+2
	for _, k := range known {
		if d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(k), nil); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}
