package cli

import (
	"testing"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/config"
)

// A model that is named for all commands is what is built; on the command line it is one of Triton's.
func TestAskedModel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line, variable, want string
	}{
		{"", "", ""},
		{"densenet121", "", "densenet121"},
		{"", "densenet121", "ensemble_dali_densenet121"},
		{"", "ensemble_of_mine", "ensemble_of_mine"},
		{"dali", "densenet121", "dali"},
	} {
		var got string
		cmd := &cobra.Command{Use: "classify", RunE: func(cmd *cobra.Command, _ []string) error {
			lookup := func(name string) (string, bool) {
				return tt.variable, name == config.Variable("model") && tt.variable != ""
			}
			if err := fillFlags(cmd, lookup, t.TempDir()+"/none.yaml"); err != nil {
				return err
			}
			got = askedModel(cmd.Flags())
			return nil
		}}
		cmd.Flags().String("model", "", "")
		cmd.SetArgs(nil)
		if tt.line != "" {
			cmd.SetArgs([]string{"--model", tt.line})
		} else {
			cmd.SetArgs([]string{})
		}
		if err := cmd.ExecuteContext(t.Context()); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}
