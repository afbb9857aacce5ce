package docker

import (
	"iter"
	"strings"
)

// mountinfo is the file of proc_pid_mountinfo(5). Only Linux has it.
const mountinfo = "/proc/self/mountinfo"

// mountLine is one line of mountinfo.
type mountLine struct {
	root  string // the folder or file of the file system that is mounted
	point string // where it is mounted
}

// mountsIn returns the mounts in the text of mountinfo.
func mountsIn(text string) iter.Seq[mountLine] {
	const root, point = 3, 4 // indexes of the fields
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	return func(yield func(mountLine) bool) {
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if len(fields) > point && !yield(mountLine{unescape.Replace(fields[root]), unescape.Replace(fields[point])}) {
				return
			}
		}
	}
}
