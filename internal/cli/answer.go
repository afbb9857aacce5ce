package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/dalirun/dalirun/internal/owner"
	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/remedy"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// classified is the record of one picture: its answer, or why there is none.
type classified struct {
	Image        string         `json:"image"`
	Model        string         `json:"model"`
	Milliseconds float64        `json:"milliseconds,omitempty"` // of the request, there and back
	Classes      []result.Class `json:"classes,omitempty"`
	Error        string         `json:"error,omitempty"`
	ErrorClass   string         `json:"error_class,omitempty"`
	Hint         string         `json:"hint,omitempty"` // what to do about Error
	source
}

// fail makes err, if there is one, the outcome.
func (c *classified) fail(err error) {
	if err == nil {
		return
	}
	err = remedy.Explain(err) // as the exit code takes it
	c.Error, c.ErrorClass, c.Hint = err.Error(), exitCode(err).class(), hintOf(err)
}

func writeClasses(w io.Writer, c classified) {
	fmt.Fprintf(w, "%s  (%.1f ms)\n", userfile.Shown(c.Image), c.Milliseconds)
	for _, class := range c.Classes {
		fmt.Fprintf(w, "  %5.1f %%  %4d  %s\n", 100*class.Probability, class.Index, printable.Line(class.Label))
	}
}

// served says what answers the requests that a server gets. What is empty was not noted, as by an older dalirun.
type served struct {
	Lane              string `json:"lane,omitempty"`   // gpu or cpu
	Source            string `json:"source,omitempty"` // image source: ngc or local
	Release           string `json:"release,omitempty"`
	Precision         string `json:"precision,omitempty"`
	Weights           string `json:"weights,omitempty"`
	LabelsMeanNothing *bool  `json:"labels_mean_nothing,omitempty"` // nil if the weights are not known
}

func servedBy(file owner.ServerFile) served {
	return served{
		Lane: file.Lane, Source: file.Source, Release: file.Release, Precision: file.Precision, Weights: file.Weights,
		LabelsMeanNothing: file.LabelsMeanNothing,
	}
}

// source is where an answer comes from. Of a server that is not the workspace's the address alone is known.
type source struct {
	Server string `json:"server,omitempty"`
	served
	Warnings []string `json:"warnings,omitempty"`
}

// sourceOf is what the workspace's files say of the server that a run started.
func sourceOf(workspace, run string) source {
	file, err := owner.ServerOf(workspace, run)
	if errors.Is(err, owner.ErrNoServer) {
		return source{}
	}
	if err != nil {
		return source{Warnings: []string{"what the server serves is not known: " + err.Error()}}
	}
	s := source{served: servedBy(file)}
	if s.LabelsMeanNothing != nil && *s.LabelsMeanNothing {
		s.Warnings = append(s.Warnings, "the weights are seeded random ones: "+labelsMeanNothing)
	}
	if isElsewhere(owner.RepositoryLink(workspace), file.Repository) {
		s.Warnings = append(s.Warnings, "the server does not serve the workspace's model repository, "+owner.RepositoryLink(workspace)+
			": setup has built anew since, or for other flags; restart the server to serve it")
	}
	return s
}

// isElsewhere says whether a link leads to another folder than the one named. Where there is no link, it leads nowhere.
func isElsewhere(link, folder string) bool {
	leads, err := filepath.EvalSymlinks(link)
	if err != nil || folder == "" {
		return false
	}
	if really, err := filepath.EvalSymlinks(folder); err == nil {
		folder = really
	}
	return leads != folder
}

// write writes what is known of the workspace's server, for people.
func (s source) write(w io.Writer) {
	if s.Lane != "" {
		parts := []string{s.Lane + " lane", strings.TrimSuffix(s.Source+" images "+s.Release, " "), s.Precision, "weights " + s.Weights}
		fmt.Fprintln(w, printable.Line(strings.Join(parts, ", ")))
	}
	for _, warning := range s.Warnings {
		warn(w, warning)
	}
}

// readLabels reads one label a line. A line without one counts, but not what comes after the last line feed.
func readLabels(ctx context.Context, in *userfile.Reader, f classifyFlags) ([]string, error) {
	data, err := in.Read(ctx, f.labels, picture.DefaultLimits().MaxBytes)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	if err == nil && strings.TrimSpace(text) == "" {
		err = usagef("name a file with one label a line", "it holds no label")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.written("labels", userfile.Shown(f.labels)), userfile.AsUsage(err))
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n"), nil
}

// countLabels refuses another number of labels than there are classes: they would name wrong ones.
func (f *classifyFlags) countLabels(labels []string, classes int64) error {
	if int64(len(labels)) == classes {
		return nil
	}
	hint := "name a file with one label a line for each class, or none for the server's labels"
	if labels[len(labels)-1] == "" {
		hint += "; empty lines at its end count too"
	}
	return usagef(hint, "%s has %s, and %s has %d classes", f.written("labels", userfile.Shown(f.labels)), printable.Count(len(labels), "label"), f.model, classes)
}

// label gives all classes of an answer the labels of the user's file.
func (f *classifyFlags) label(all []triton.Class, labels []string) error {
	if err := f.countLabels(labels, int64(len(all))); err != nil {
		return err
	}
	for i, c := range all {
		if c.Index >= len(labels) {
			return pipeline.Faultf(pipeline.NotReady, "", "%s answered with class %d of %d", f.model, c.Index, len(all))
		}
		all[i].Label = labels[c.Index]
	}
	return nil
}
