// Package shell writes what people paste into a POSIX shell.
package shell

import (
	"regexp"
	"strings"
)

// Quote quotes an argument where a shell would read it as something else.
func Quote(s string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Line is the command line of a program with arguments.
func Line(argv ...string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = Quote(a)
	}
	return strings.Join(quoted, " ")
}
