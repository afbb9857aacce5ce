package cli

import (
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) planCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Say what e2e would do, and why",
		Long: `plan prints for each step whether its result is cached, whether it will run and because of which change, or
what that depends on. With NVIDIA's images it first says where each was found, what it holds and whether they fit this
host; an image that is not here is looked up in its registry. It pulls, builds and starts nothing, and writes nothing
but notes in the cache.`,
		Example: `  dalirun plan
  dalirun plan --opt-batch 128 --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x, err := a.prepare(cmd.Context(), &r, o)
			if err != nil {
				return err
			}
			for _, text := range a.takeUnread() {
				x.warn(text)
			}
			if x.target.Source == target.Local { // of NVIDIA's, the plan itself has them
				for _, doubt := range x.doubts {
					x.warn(doubt)
				}
			}
			for _, doubt := range x.weightsDoubts {
				x.warn(doubt)
			}
			x.planFirstRun(cmd.Context())
			plan, err := x.runner(nil).Plan(cmd.Context(), x.steps(steps.IDVerify))
			if err == nil {
				planned := report.NewPlan(x.target, x.doubts, x.facts(), plan)
				err = o.format.write(a.Stdout, planned, planned.WriteText)
			}
			return x.finish(err)
		},
	}
	r.flags(a, cmd)
	o.flags(cmd)
	return cmd
}
