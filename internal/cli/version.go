package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/stdout"
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
			if form == asJSON {
				return stdout.WriteJSON(a.Stdout, version.This())
			}
			_, err := fmt.Fprintln(a.Stdout, version.This())
			return err
		},
	}
	formatFlag(cmd, &form)
	return cmd
}
