package cli

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) e2eCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
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
			if err := files.check(r.reads()); err != nil {
				return err // before minutes of work, not after
			}
			x, err := a.open(cmd.Context(), &r, o)
			if err != nil {
				return errors.Join(a.refused(err, o), files.write(a.notBegun(err)))
			}
			err = x.runner(nil).Run(cmd.Context(), x.steps(steps.IDVerify))
			result := x.collector.Report()
			return x.finish(errors.Join(err, x.print(err, o, result.WriteText), files.write(result))) // first what the work came to
		},
	}
	r.flags(a, cmd)
	o.flags(cmd)
	cmd.Flags().StringVar(&junit, "junit", "", "write a JUnit report to this file")
	cmd.Flags().StringVar(&html, "html", "", "write an HTML report to this file")
	return cmd
}

// reportFiles are the files that a report is written to; no name is no file.
type reportFiles struct{ junit, html string }

// check makes the files, so that one that cannot be written is told of before the run, and empties them: what an older run wrote is not
// taken for this one's. It refuses one that is both reports, or that the run reads.
func (f reportFiles) check(reads map[string]string) (err error) {
	var files, made []string
	defer func() {
		for _, name := range made {
			if err != nil {
				err = errors.Join(err, os.Remove(name))
			}
		}
	}()
	for _, r := range []struct{ flag, name string }{{"--junit", f.junit}, {"--html", f.html}} {
		if r.name == "" {
			continue
		}
		_, missing := os.Stat(r.name)
		opened, err := os.OpenFile(r.name, os.O_WRONLY|os.O_CREATE, 0o666) //nolint:gosec // as os.Create; a file that the run reads keeps what it holds
		if err != nil {
			return userfile.MakeFault("write the report", err)
		}
		if errors.Is(missing, fs.ErrNotExist) {
			made = append(made, r.name)
		}
		err = distinct(opened, r.flag, r.name, reads)
		if err = errors.Join(err, opened.Close()); err != nil {
			return err
		}
		reads[r.flag] = r.name
		files = append(files, r.name)
	}
	for _, name := range files {
		if err := writeFile(name, func(io.Writer) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// distinct refuses a report on what another flag names, whatever it is called there. Devices and pipes keep nothing, so both reports may go
// to one.
func distinct(report *os.File, flag, name string, others map[string]string) error {
	about, err := report.Stat()
	if err != nil || !about.Mode().IsRegular() {
		return err
	}
	for _, other := range slices.Sorted(maps.Keys(others)) {
		if there, err := os.Stat(others[other]); err == nil && os.SameFile(about, there) {
			return usagef("name another file with "+flag, "%s and %s are the same file: %s", other, flag, name)
		}
	}
	return nil
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
		return userfile.MakeFault("write the report", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return pipeline.Faultf(pipeline.Environment, "", "write the report %s: %w", name, err)
	}
	return nil
}
