// Package version says which build of dalirun this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Build is what the Go command noted in the binary: the commit in a clone alone, the version of a tag or a module
// alone.
type Build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`     // of the commit, as RFC 3339
	Modified bool   `json:"modified,omitempty"` // files differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// This is the build of the running program.
func This() Build {
	b := Build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is a line for people.
func (b Build) String() string {
	var known []string
	if b.Commit != "" {
		commit := "commit " + b.Commit[:min(len(b.Commit), 12)]
		if b.Modified {
			commit += " with changes"
		}
		known = append(known, commit)
	}
	if b.Date != "" {
		known = append(known, b.Date)
	}
	return fmt.Sprintf("dalirun %s (%s)", b.Version, strings.Join(append(known, b.Go, b.Platform), ", "))
}
