package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/bundle"
	"github.com/dalirun/dalirun/internal/config"
	"github.com/dalirun/dalirun/internal/doctor"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/internal/version"
	"github.com/dalirun/dalirun/pipeline"
)

// bundlePlanWithin bounds the plan of a bundle.
const bundlePlanWithin = 10 * time.Second

// writeBundle puts what a bug report needs into f, and says on stderr what that is. A file that could not be finished
// is removed.
func (a *App) writeBundle(
	ctx context.Context, f *os.File, cmd *cobra.Command, r *runFlags, x *doctor.Examination, findings []doctor.Finding,
) error {
	files, err := x.WriteBundle(ctx, f, doctor.Report{
		Findings: findings, Version: version.This(), Flags: given(cmd), Environ: os.Environ(), Config: config.File,
		Plan: func(ctx context.Context) (stdout, stderr string, code int) { return a.plan(ctx, r) },
	}, newRedactor(a))
	if err != nil {
		return errors.Join(pipeline.Faultf(pipeline.Environment, "", "write the bundle %s: %w", f.Name(), err),
			os.Remove(f.Name()))
	}
	fmt.Fprintf(a.Stderr, "%s holds, with user names, home folders, credentials and GPUs' serial numbers taken out:\n",
		printable.Name(f.Name()))
	for _, file := range files {
		fmt.Fprintf(a.Stderr, "  %s\n", printable.Line(file))
	}
	fmt.Fprintln(a.Stderr, "Nothing else went in. Names of hosts stay. Look it through before you send it: tar -xzf "+
		printable.Name(filepath.Base(f.Name())))
	return nil
}

func newRedactor(a *App) *bundle.Redactor {
	name := a.env("USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	return bundle.New(a.env("HOME"), name, os.Environ())
}

// plan is what `dalirun plan` says with the same flags; those of the environment and the file it has by itself.
func (a *App) plan(ctx context.Context, r *runFlags) (stdout, stderr string, code int) {
	ctx, cancel := context.WithTimeoutCause(ctx, bundlePlanWithin, fmt.Errorf("no plan within %s", bundlePlanWithin))
	defer cancel()
	args := []string{"plan", "--format=json", "--progress=plain"}
	r.set.Visit(func(f *pflag.Flag) {
		if settingOf(f).Nearness() == target.OnCommandLine {
			args = append(args, written(f)...)
		}
	})
	if r.image != "" {
		args = append(args, "--image="+userfile.Stdin) // it was read, and a pipe has its bytes once
	}
	var out, more bytes.Buffer
	plan := App{
		Stdin: bytes.NewReader(r.request.Picture.Data), Stdout: &out, Stderr: &more,
		LookupEnv: a.LookupEnv, Environ: a.Environ,
	}
	exit := plan.Run(ctx, args)
	return out.String(), more.String(), int(exit)
}

// given are the flags of a command that were set, however, without those of its own output.
func given(cmd *cobra.Command) []string {
	var flags []string
	cmd.Flags().Visit(func(f *pflag.Flag) { flags = append(flags, written(f)...) })
	return flags
}

// written is a flag as it may stand on a command line. Those of doctor's own output are left out.
func written(f *pflag.Flag) (flags []string) {
	if f.Name == "bundle" || f.Name == "format" {
		return nil
	}
	values := []string{f.Value.String()}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values = list.GetSlice()
	}
	for _, v := range values {
		flags = append(flags, "--"+f.Name+"="+v)
	}
	return flags
}
