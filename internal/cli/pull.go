package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) pullCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	cmd := &cobra.Command{
		Use:   "pull",
		Short: "Get the images and the weights that a run needs first",
		Long: `pull gets what a run with the same flags would get first, by the same steps, so that the run finds it: it pulls
NVIDIA's images of the release, or builds the local ones, and gets the weights. It is for the night before: a job then
waits for no download. It gets both images, also where a run would go on with stored results and read only one.

What is here already stays as it is: an image whose tag was moved in the registry is not pulled again. It prints a line
for each image and for the weights, with the digest by which results are found, and what it takes on the disk. With a
lock it pulls by the lock's digests; --locked, which is --frozen by another name, refuses to pull anything else.`,
		Example: `  # each night, before the jobs
  dalirun pull

  # what the lock of this repository names, and nothing else
  dalirun pull --locked

  # the next release, before anybody asks for it
  dalirun pull --release 25.03 --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x, err := a.prepare(cmd.Context(), &r, o)
			if err != nil {
				return a.refused(err, o, report.Files{})
			}
			if err := x.start(cmd.Context()); err != nil {
				return a.refused(errors.Join(err, x.close()), o, report.Files{})
			}
			err = x.runner(nil).Run(cmd.Context(), steps.ForPull(x.target, x.tools()))
			return x.finish(err, x.print(err, o, func(out io.Writer) error { return x.collector.Report().WritePulled(out) }))
		},
	}
	r.flags(a, cmd)
	r.record.flags(cmd.Flags())
	o.flags(cmd)
	addAlias(cmd.Flags(), "locked", "frozen") // what a pull does is to get what is locked
	return cmd
}
