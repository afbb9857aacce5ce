package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) planCommand() *cobra.Command {
	var w wishes
	var s shown
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Say what e2e would do, and why",
		Long: `plan prints for each step whether its result is cached, whether it will run and because of which change, or what that
depends on. It pulls, builds and starts nothing, and writes nothing but notes in the cache.`,
		Example: `  dalirun plan
  dalirun plan --opt-batch 128 --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x, err := a.prepare(cmd.Context(), &w, s)
			if err != nil {
				return err
			}
			x.resolveWeights(cmd.Context())
			plan, err := x.runner(nil).Plan(cmd.Context(), steps.For(x.options.Options, x.machine(), steps.IDVerify))
			if err == nil {
				err = x.writePlan(plan, s.format.value)
			}
			return x.finish(err)
		},
	}
	w.flags(a, cmd)
	s.flags(cmd)
	return cmd
}

func (x *session) writePlan(plan []pipeline.Planned, format string) error {
	if format == "json" {
		return writeJSON(x.app.Stdout, struct {
			Facts map[string]string  `json:"facts"`
			Steps []pipeline.Planned `json:"steps"`
		}{x.options.facts(), plan})
	}
	fmt.Fprintf(x.app.Stdout, "lane %s (%s), images %s, weights %s\n\n", x.options.Lane, x.options.LaneReason, x.options.Images, weightsName(x.options.Weights))
	t := tabwriter.NewWriter(x.app.Stdout, 0, 0, 2, ' ', 0)
	for _, p := range plan {
		fmt.Fprintf(t, "%s\t%s\n", p.Step, p.Verdict)
	}
	return t.Flush()
}
