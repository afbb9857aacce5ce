package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/version"
)

func (a *App) versionCommand() *cobra.Command {
	var form format
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and the commit of the build",
		Example: "  dalirun version --format json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			build := version.This()
			return form.write(a.Stdout, build, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, build)
				return err
			})
		},
	}
	formatFlag(cmd, &form)
	return cmd
}
