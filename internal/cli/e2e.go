package cli

import (
	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) e2eCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	var files report.Files
	cmd := &cobra.Command{
		Use:   "e2e",
		Short: "Set up, serve, verify and tear down; the exit code is the verdict",
		Long: `e2e does what setup and serve do, classifies a picture through the ensemble, compares the answer
with PyTorch's own, and removes the server. It ends with 0 only if all three comparisons hold: DALI's tensor with
PyTorch's, the model's answer to PyTorch's tensor with PyTorch's answer, and the ensemble's answer to the picture with
PyTorch's answer.`,
		Example: `  # what CI runs on a machine with a GPU
  dalirun e2e --require-gpu --format json

  # the same without a GPU, and without NVIDIA's images
  dalirun e2e --accel cpu --weights auto

  # a report for the CI's test tab
  dalirun e2e --junit report.xml --html report.html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := files.Make(r.reads()); err != nil {
				return err // before minutes of work, not after
			}
			x, err := a.open(cmd.Context(), &r, o)
			if err != nil {
				return a.refused(err, o, files)
			}
			err = x.runner(nil).Run(cmd.Context(), x.steps(steps.IDVerify))
			result := x.collector.Report()
			// First what the work came to.
			return x.finish(err, x.print(err, o, result.WriteText), files.Write(result))
		},
	}
	r.flags(a, cmd)
	r.record.flags(cmd.Flags())
	o.flags(cmd)
	cmd.Flags().StringVar(&files.JUnit, "junit", "", "write a JUnit report to this file")
	cmd.Flags().StringVar(&files.HTML, "html", "", "write an HTML report to this file")
	return cmd
}
