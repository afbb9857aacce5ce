package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/stdout"
)

// build is what the Go command noted in the binary: of the commit only in a clone, of the version only of a tag or a module.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`     // of the commit, as RFC 3339
	Modified bool   `json:"modified,omitempty"` // files differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
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
func (b build) String() string {
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

func (a *App) versionCommand() *cobra.Command {
	var form format
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and the commit of the build",
		Example: "  dalirun version --format json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if form == asJSON {
				return stdout.WriteJSON(a.Stdout, thisBuild())
			}
			_, err := fmt.Fprintln(a.Stdout, thisBuild())
			return err
		},
	}
	formatFlag(cmd, &form)
	return cmd
}
