package classify

import (
	"context"
	"fmt"
	"strings"

	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/triton"
)

// readLabels reads one label a line. A line without one counts, but not what comes after the last line feed.
func readLabels(ctx context.Context, files *userfile.Reader, r Request) ([]string, error) {
	data, err := files.Read(ctx, r.Labels, picture.DefaultLimits().MaxBytes)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	if err == nil && strings.TrimSpace(text) == "" {
		err = pipeline.Usagef("name a file with one label a line", "it holds no label")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Settings.Written("labels", userfile.Shown(r.Labels)), userfile.AsUsage(err))
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n"), nil
}

// countLabels refuses another number of labels than there are classes: they would name wrong ones.
func (r Request) countLabels(labels []string, classes int64) error {
	if int64(len(labels)) == classes {
		return nil
	}
	hint := "name a file with one label a line for each class, or none for the server's labels"
	if labels[len(labels)-1] == "" {
		hint += "; empty lines at its end count too"
	}
	return pipeline.Usagef(hint, "%s has %s, and %s has %d classes",
		r.Settings.Written("labels", userfile.Shown(r.Labels)), printable.Count(len(labels), "label"), r.Model, classes)
}

// label gives all classes of an answer the labels of the user's file.
func (r Request) label(all []triton.Class, labels []string) error {
	if err := r.countLabels(labels, int64(len(all))); err != nil {
		return err
	}
	for i, c := range all {
		if c.Index >= len(labels) {
			return pipeline.Faultf(pipeline.NotReady, "", "%s answered with class %d of %d", r.Model, c.Index, len(all))
		}
		all[i].Label = labels[c.Index]
	}
	return nil
}
