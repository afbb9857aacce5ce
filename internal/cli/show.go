package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/record"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// history says where the runs are that a command can show.
type history struct {
	workspaceFlag
	dir string
}

func (h *history) flags(cmd *cobra.Command) {
	h.workspaceFlag.flags(cmd)
	cmd.Flags().StringVar(&h.dir, "runs-dir", "", "folder of records, as runs keep them with the same flag")
	noCacheFlag(cmd)
}

// paths returns the records and the folders of runs by run, of which a record has more.
func (h *history) paths(ctx context.Context) (map[string]string, error) {
	workspace, err := h.find(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	folders, err := os.ReadDir(owner.RunsDir(workspace))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range folders {
		dir := filepath.Join(owner.RunsDir(workspace), f.Name())
		if _, err := os.Lstat(filepath.Join(dir, record.EventsFile)); err == nil {
			all[f.Name()] = dir
		}
	}
	if h.dir == "" {
		return all, nil
	}
	records, err := os.ReadDir(h.dir)
	if err != nil {
		return nil, pipeline.Usagef("name a folder that runs keep their records in", "--runs-dir: %w", err)
	}
	for _, f := range records {
		if run, ok := strings.CutSuffix(f.Name(), record.Suffix); ok && f.Type().IsRegular() {
			all[run] = filepath.Join(h.dir, f.Name())
		}
	}
	return all, nil
}

// last reads the record of the last run.
func (h *history) last(ctx context.Context) (*record.Record, error) {
	all, err := h.paths(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, pipeline.Usagef("name a record that a run left with --record FILE", "there is no run to show")
	}
	return readRecord(all[byTime(all)[0]])
}

// one reads the record that the argument of a command names, or that of the last run.
func (h *history) one(ctx context.Context, args []string) (*record.Record, error) {
	if len(args) == 0 {
		return h.last(ctx)
	}
	return h.open(ctx, args[0])
}

// open reads the record that an argument names: a file, the folder of a run, or the ID of one.
func (h *history) open(ctx context.Context, name string) (*record.Record, error) {
	if name == "" { // a variable that is not set
		return nil, pipeline.Usagef("name a record, or nothing for the last run", "the name of the record is empty")
	}
	if _, err := os.Stat(name); err == nil {
		return readRecord(name)
	}
	all, err := h.paths(ctx)
	if err != nil {
		return nil, err
	}
	if path, ok := all[name]; ok {
		return readRecord(path)
	}
	return nil, pipeline.Usagef("`dalirun runs` lists the runs; a record is a file that a run left with --record FILE",
		"%s is no file, no folder and no run of this workspace", printable.Name(name))
}

// byTime returns the IDs of runs, the newest first. An ID begins with the second in which its run began; of several in
// one second the file that was written last is of the newest.
func byTime(paths map[string]string) []string {
	const second = len("20260102T030405Z")
	written := map[string]time.Time{}
	for id, path := range paths {
		if about, err := os.Stat(path); err == nil {
			written[id] = about.ModTime()
		}
	}
	return slices.SortedFunc(maps.Keys(paths), func(a, b string) int {
		return cmp.Or(cmp.Compare(b[:min(second, len(b))], a[:min(second, len(a))]), written[b].Compare(written[a]))
	})
}

func readRecord(path string) (*record.Record, error) {
	r, err := record.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, pipeline.Faultf(pipeline.Environment, "", "read the record: %w", err)
	}
	if err != nil {
		return nil, pipeline.Usagef("name a record, as a run leaves it with --record FILE, or the folder of a run",
			"read the record: %w", err)
	}
	return r, nil
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return pipeline.Usagef("`"+cmd.CommandPath()+" --help` has examples", "`%s` takes %d at most, and %q is one more",
				cmd.CommandPath(), n, args[n])
		}
		return nil
	}
}

func (a *App) showCommand() *cobra.Command {
	var h history
	var form format
	cmd := &cobra.Command{
		Use:   "show [RECORD]",
		Short: "Say what a run came to, why, and whose turn it is",
		Long: `show reads the record of a run, a file that a run left with --record, and says how it ended. For one that
failed it names the cause and whose turn it is: product (model, weights, flags, dalirun itself), environment (the
machine: driver, disk, credentials) or infrastructure (what comes and goes: a registry, a network, a killed runner), and
whether the same run may pass if it is run again.

RECORD is a file, the folder of a run, or the ID of a run; without one it is the last run of the workspace. The folder
of a run has events and logs alone, so less can be said of it. It needs no container engine.`,
		Example: `  dalirun e2e --record run.tar.zst
  dalirun show run.tar.zst

  # for a program: .cause.turn, .cause.retryable
  dalirun show run.tar.zst --format json`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.warnUnused(cmd)
			r, err := h.one(cmd.Context(), args)
			if err != nil {
				return err
			}
			summary := record.Summarize(r)
			return form.write(a.Stdout, summary, summary.WriteText)
		},
	}
	h.flags(cmd)
	formatFlag(cmd, &form)
	return cmd
}

func (a *App) diffCommand() *cobra.Command {
	var h history
	var form format
	cmd := &cobra.Command{
		Use:   "diff GREEN RED",
		Short: "Say what differs between two runs, causes before consequences",
		Long: `diff compares the records of two runs: what was asked for, the machine, images, what the results of steps
depend on, the results, and what the runs came to, in this order. GREEN and RED are as RECORD of show. It ends with 0
whatever differs.`,
		Example: `  dalirun diff green.tar.zst red.tar.zst`,
		Args: func(cmd *cobra.Command, args []string) error {
			const two = 2
			if len(args) < two {
				return pipeline.Usagef("name both records", "`%s` compares two", cmd.CommandPath())
			}
			return atMost(two)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.warnUnused(cmd)
			green, err := h.open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			red, err := h.open(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			c := record.Diff(green, red, steps.Reasons)
			return form.write(a.Stdout, c, c.WriteText)
		},
	}
	h.flags(cmd)
	formatFlag(cmd, &form)
	return cmd
}

// listed is one run in a list of them.
type listed struct {
	Run     string         `json:"run"`
	Path    string         `json:"path"`
	Command string         `json:"command,omitempty"`
	Outcome record.Outcome `json:"outcome"`
	Seconds float64        `json:"duration_seconds,omitempty"`
	Cause   string         `json:"cause,omitempty"`
	Turn    string         `json:"turn,omitempty"`
	Error   string         `json:"error,omitempty"`
}

func (a *App) runsCommand() *cobra.Command {
	var h history
	var form format
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of the workspace and of a folder of records",
		Long: `runs lists what is known of runs, the newest first: those of the workspace, and with --runs-dir those whose
records are in a folder. A record takes the place of the run's folder, of which less is known.`,
		Example: `  dalirun runs
  dalirun runs --runs-dir /var/lib/dalirun/runs --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.warnUnused(cmd)
			paths, err := h.paths(cmd.Context())
			if err != nil {
				return err
			}
			all := []listed{}
			for _, id := range byTime(paths) {
				l := listed{Run: id, Path: paths[id], Outcome: record.Unknown}
				if r, err := record.Open(paths[id]); err != nil {
					l.Error = err.Error()
				} else {
					l.take(record.Summarize(r))
				}
				all = append(all, l)
			}
			return form.write(a.Stdout, all, func(out io.Writer) error { return writeRuns(out, all) })
		},
	}
	h.flags(cmd)
	formatFlag(cmd, &form)
	return cmd
}

func (l *listed) take(s record.Summary) {
	l.Command, l.Outcome, l.Seconds, l.Error = s.Command, s.Outcome, s.Seconds, s.Error
	if s.Cause != nil {
		l.Cause, l.Turn = s.Cause.ID, string(s.Cause.Turn)
	}
}

func writeRuns(out io.Writer, all []listed) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "there are no runs")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) //nolint:mnd // two spaces between columns
	for _, l := range all {
		why := l.Cause
		if l.Turn != "" {
			why += " (" + l.Turn + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.1f s\t%s\n", printable.Line(l.Run), printable.Line(cmp.Or(l.Command, "-")),
			l.Outcome, l.Seconds, printable.Line(why))
	}
	return table.Flush()
}
