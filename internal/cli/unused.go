package cli

import (
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/target"
)

// hideUnused leaves the flags out of a command's help that it never has a use for. A script may still give them to all
// commands; that they are not used is told.
func hideUnused(cmd *cobra.Command) {
	for _, flag := range target.NeverUsed(cmd.Name()) {
		if f := cmd.Flags().Lookup(flag); f != nil {
			f.Hidden = true
		}
	}
}

// warnUnused warns of flags that a command without steps has no use for: none of its flags must be an error.
func (a *App) warnUnused(cmd *cobra.Command) {
	warnings, _ := target.Situation{Command: cmd.Name(), Settings: settingsOf(cmd.Flags())}.Unused()
	for _, text := range warnings {
		warn(a.Stderr, text)
	}
}
