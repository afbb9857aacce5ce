package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/pipeline"
)

// status is how a check ended.
type status string

const (
	statusOK   status = "ok"
	statusWarn status = "warn" // a run works, perhaps not as wished
	statusFail status = "fail" // a run would fail
)

// finding is what a check saw, and what to do about it. The zero finding is one of a check that has nothing to look at.
type finding struct {
	Check  string `json:"check"`
	Status status `json:"status"`
	Saw    string `json:"saw"`
	Remedy string `json:"remedy,omitempty"`
}

// check looks at one thing.
type check struct {
	name string
	look func(context.Context) finding
}

// checks are all of them, in the order in which they are shown. They run side by side; what one rests on is asked once, see
// [diagnosis]. A check that rests on one that failed has nothing to say.
func (d *diagnosis) checks() []check {
	return []check{
		{checkEngine, d.engine},             // it answers, and this user may talk to it
		{"platform", d.platform},            // the system, and whether it is WSL
		{checkGPU, d.gpu},                   // those that --gpus names are there, are alike, and may be used
		{"release", d.release},              // NVIDIA's images of some release run on this driver and GPU
		{checkContainerGPU, d.containers},   // the container engine can give GPUs to containers
		{"gpu memory", d.memory},            // there is enough of it to build an engine
		{checkImages, d.images},             // they can be had, and fit each other and this host
		{"image disk", d.imageDisk},         // they fit where the container engine stores images
		{"cache disk", d.cacheDisk},         // what steps make can be kept there, and fits
		{"workspace disk", d.workspaceDisk}, // so do the logs of runs
		{checkPorts, d.ports},               // the usual ones are free, or those named
		{"weights", d.weights},              // they can be had
		{"flags", d.flags},                  // a run has a use for each that is named
	}
}

// doctorWithin bounds all checks together. The longest way through them is nvidia-smi's 6 s, or a container engine's 5 s on another host,
// and then the registry's 3 s.
const doctorWithin = 9500 * time.Millisecond

func (a *App) doctorCommand() *cobra.Command {
	var w wishes
	var format *choice
	var bundle string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether a run with these flags would work here",
		Long: `doctor looks at what a run needs: container engine, GPUs, driver, images, disk, ports and weights. Each check is ok, a
warning or a failure, and says what it saw and what to do. It asks the registry for the images without pulling them, takes
10 s at most, changes nothing but notes in the cache, and ends with 3 if a run with the same flags would fail; the last
line says so too. A container engine on
another host is a warning: setup works there, and only what serves (e2e, serve) is refused.

With --bundle it also writes one archive for a bug report. User names, home folders, credentials and serial numbers are
taken out; what is in it is listed.`,
		Example: `  dalirun doctor
  dalirun doctor --accel cpu --weights auto --format json
  dalirun doctor --gpus device=0 --bundle report.tar.gz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := w.check(); err != nil {
				return err
			}
			if err := w.readPicture(ctx, a.input()); err != nil {
				return err
			}
			var file *os.File
			if bundle != "" {
				var err error
				if file, err = newBundle(bundle); err != nil {
					return err
				}
			}
			d, end := a.newDiagnosis(ctx, &w)
			defer end()
			findings := d.run()
			var err error
			if file != nil {
				err = d.writeBundle(ctx, file, findings, given(cmd))
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := errors.Join(err, writeFindings(a.Stdout, findings, format.value)); err != nil {
				return err
			}
			return verdict(findings)
		},
	}
	w.flags(a, cmd)
	format = formatFlag(cmd)
	cmd.Flags().StringVar(&bundle, "bundle", "", "write what a bug report needs to this new file, as in report.tar.gz")
	return cmd
}

// run runs the checks side by side. One that gives no answer in time has failed: a run would wait as well.
func (d *diagnosis) run() []finding {
	checks := d.checks()
	answers := make([]chan finding, len(checks))
	for i, c := range checks {
		answers[i] = make(chan finding, 1)
		go func() {
			f := c.look(d.ctx)
			// A run refuses what a check did not fail by itself.
			if err := d.refusal(c.name); err != nil && f.Status != statusFail {
				f = failed(err, "")
			}
			answers[i] <- f
		}()
	}
	var findings []finding
	for i, c := range checks {
		var f finding
		select {
		case f = <-answers[i]:
		case <-d.ctx.Done():
			select {
			case f = <-answers[i]: // it was there as well
			default:
				f = finding{Status: statusFail, Saw: context.Cause(d.ctx).Error()}
			}
		}
		if f.Status != "" {
			f.Check, f.Remedy = c.name, d.app.asCalled(f.Remedy)
			findings = append(findings, f)
		}
	}
	return findings
}

// verdict is the error of the first check that failed.
func verdict(findings []finding) error {
	for _, f := range findings {
		if f.Status == statusFail {
			return &shownError{pipeline.Faultf(pipeline.Environment, f.Remedy, "%s: %s", f.Check, f.Saw)}
		}
	}
	return nil
}

// failed is the finding that err is, with its own hint where it has one.
func failed(err error, otherwise string) finding {
	return finding{Status: statusFail, Saw: err.Error(), Remedy: hintOf(err, otherwise)}
}

func hintOf(err error, otherwise string) string {
	if fault, ok := errors.AsType[*pipeline.Fault](err); ok && fault.Hint != "" {
		return fault.Hint
	}
	return otherwise
}

func writeFindings(w io.Writer, findings []finding, format string) error {
	if format == "json" {
		return writeJSON(w, findings)
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%-4s  %-16s  %s\n", f.Status, f.Check, f.Saw); err != nil {
			return err
		}
		if f.Remedy != "" {
			if _, err := fmt.Fprintf(w, "%24s%s\n", "", f.Remedy); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", summary(findings))
	return err
}

// summary says in one line whether a run with the same flags would begin, as the exit code does.
func summary(findings []finding) string {
	n := map[status]int{}
	for _, f := range findings {
		n[f.Status]++
	}
	ready := "ready"
	var parts []string
	if n[statusFail] > 0 {
		ready = "not ready"
		parts = append(parts, fmt.Sprintf("%d failed", n[statusFail]))
	}
	if n[statusWarn] > 0 {
		parts = append(parts, printable.Count(n[statusWarn], "warning"))
	}
	return ready + ": " + strings.Join(append(parts, fmt.Sprintf("%d ok", n[statusOK])), ", ")
}
