package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// everyLevel is the value of --level for all that needs no container engine.
const everyLevel record.Level = "all"

func (a *App) reproduceCommand() *cobra.Command {
	var h history
	var o outputFlags
	r := runFlags{memory: steps.DefaultMemory, shm: steps.DefaultShm}
	level := everyLevel
	cmd := &cobra.Command{
		Use:   "reproduce [RECORD]",
		Short: "Do again what a run did, as far as is asked, and say whether it comes to the same",
		Long: `reproduce takes the record of a run, as show does, and does a part of the run again:

  decision    decides again what the run is, from what host, container engine and registries answered then. It shows
              whether this dalirun decides as that one did, and in which line not; nothing of this machine.
  diagnosis   explains the recorded error, output and logs again. A newer dalirun may know more.
  arithmetic  compares the recorded tensors again. It shows that the verdict follows from them, to the last digit and on
              any machine; not who made them wrong. A run keeps tensors if its answers are not PyTorch's.

Without --level it does these three, as far as the record has what they need. None needs a container engine or a
network.

  rerun       runs the same request here, with the images of the recorded lock, and compares what both came to. Without
              a GPU, a run of the gpu lane whose answers were not PyTorch's is run on the CPU lane, from the recorded
              model (--record-model) and PyTorch's recorded tensors: it needs the server image alone.

It ends with 0 if what was done came to the same, with 7 if it did not, and with 3 if it cannot be done. Where the
recorded answers are not PyTorch's, and the same figures come of them, it ends with 6 as that run did; a rerun that
comes to the same ends with 0.`,
		Example: `  dalirun reproduce run.tar.zst
  dalirun reproduce run.tar.zst --level arithmetic

  # everything again, on this machine
  dalirun reproduce run.tar.zst --level rerun`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h.workspaceFlag = r.workspaceFlag
			red, err := h.one(cmd.Context(), args)
			if err != nil {
				return err
			}
			if level != record.Rerun {
				return a.reproduce(cmd.Context(), red, level, o.format)
			}
			if r.folders, err = r.find(cmd.Context()); err != nil {
				return err
			}
			done, err := a.rerun(cmd.Context(), red, &r, o)
			if err != nil {
				return err
			}
			return a.tellReproduced(o.format, []record.Reproduction{done})
		},
	}
	r.folderFlags.flags(a, cmd)
	cmd.Flags().StringVar(&h.dir, "runs-dir", "", "folder of records, as runs keep them with the same flag")
	o.flags(cmd)
	gpuWaitFlag(cmd, &r.gpuWait)
	levels := append([]record.Level{everyLevel}, record.Levels()...)
	cmd.Flags().Var(flagvalue.Choice(&level, levels...), "level", "how much of the run is done again")
	return cmd
}

func (a *App) reproduce(ctx context.Context, r *record.Record, level record.Level, form format) error {
	var all []record.Reproduction
	for _, l := range []struct {
		level record.Level
		do    func() (record.Reproduction, error)
	}{
		{record.Decision, func() (record.Reproduction, error) { return r.Decide(ctx) }},
		{record.Diagnosis, r.Diagnose},
		{record.Arithmetic, r.Compare},
	} {
		if level != everyLevel && level != l.level {
			continue
		}
		done, err := l.do()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // what one level cannot read is no reason against another
			done.Missing = err.Error()
		}
		all = append(all, done)
	}
	return a.tellReproduced(form, all)
}

// tellReproduced writes what was done again, and ends as it came out.
func (a *App) tellReproduced(form format, all []record.Reproduction) error {
	err := form.write(a.Stdout, all, func(out io.Writer) error {
		for _, r := range all {
			if _, err := io.WriteString(out, a.asCalled(r.Text())); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, reproduced(all))
}

// reproduced is nil if what could be done came to the same, and was right.
func reproduced(all []record.Reproduction) error {
	var missing, other []string
	var off error
	for _, r := range all {
		switch {
		case r.Missing != "":
			missing = append(missing, string(r.Level)+": "+r.Missing)
		case !r.Reproduced:
			other = append(other, string(r.Level))
		case r.Parity != nil && r.Level == record.Arithmetic:
			off = r.Parity.Err()
		}
	}
	switch {
	case len(other) > 0:
		return pipeline.Faultf(pipeline.GateFailed, "the lines above say in what", "not reproduced: %s",
			strings.Join(other, ", "))
	case off != nil:
		return pipeline.Faultf(pipeline.NotVerified, "`dalirun diff GREEN RED` says what differs from a run that passed",
			"reproduced: %w", off)
	case len(missing) == len(all):
		return pipeline.Faultf(pipeline.Environment, "", "cannot be reproduced: %s", strings.Join(missing, "; "))
	default:
		return nil
	}
}
