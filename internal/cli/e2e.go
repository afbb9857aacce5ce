package cli

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) e2eCommand() *cobra.Command {
	w := wishes{serves: true}
	var s shown
	var junit, html string
	cmd := &cobra.Command{
		Use:   "e2e",
		Short: "Set up, serve, verify and tear down; the exit code is the verdict",
		Long: `e2e does what setup and serve do, classifies a picture through the ensemble, compares the answer with PyTorch's own, and
removes the server. It ends with 0 only if all three comparisons hold: DALI's tensor with PyTorch's, the model's answer
to PyTorch's tensor with PyTorch's answer, and the ensemble's answer to the picture with PyTorch's answer.`,
		Example: `  # what CI runs on a machine with a GPU
  dalirun e2e --require-gpu --format json

  # the same without a GPU, and without NVIDIA's images
  dalirun e2e --accel cpu --weights auto

  # a report for the CI's test tab
  dalirun e2e --junit report.xml --html report.html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			files := reportFiles{junit, html}
			if err := files.check(); err != nil {
				return err // before minutes of work, not after
			}
			x, err := a.open(cmd.Context(), &w, s)
			if err != nil {
				return errors.Join(a.refused(err, s), files.write(notBegun(err)))
			}
			err = x.runner(nil).Run(cmd.Context(), steps.For(x.options.Options, x.machine(), steps.IDVerify))
			r := x.collector.Report()
			return x.result(errors.Join(err, files.write(r)), s, r.WriteText)
		},
	}
	w.flags(a, cmd)
	s.flags(cmd)
	cmd.Flags().StringVar(&junit, "junit", "", "write a JUnit report to this file")
	cmd.Flags().StringVar(&html, "html", "", "write an HTML report to this file")
	return cmd
}

// reportFiles are the files that a report is written to; no name is no file.
type reportFiles struct{ junit, html string }

// check makes the files, so that one that cannot be written is told of before the run.
func (f reportFiles) check() error {
	nothing := func(io.Writer) error { return nil }
	return errors.Join(writeFile(f.junit, nothing), writeFile(f.html, nothing))
}

func (f reportFiles) write(r report.Report) error {
	return errors.Join(writeFile(f.junit, r.WriteJUnit), writeFile(f.html, r.WriteHTML))
}

func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return usagef("name a file in a folder that exists", "write the report: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return pipeline.Faultf(pipeline.Environment, "", "write the report %s: %w", name, err)
	}
	return nil
}
