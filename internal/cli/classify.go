package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

type classifyFlags struct {
	workspaceFlag
	request classify.Request
	images  []string
	format  format
	verbose bool
}

func (a *App) classifyCommand() *cobra.Command {
	f := classifyFlags{request: classify.Request{Top: 5, Ensemble: steps.EnsembleModel}}
	cmd := &cobra.Command{
		Use:   "classify IMAGE...",
		Short: "Classify pictures with a running server",
		Long: `classify sends each picture to the workspace's running server and prints the most likely classes. The flags of
the tutorial's client.py are understood too: --model_name --image --url -v --label_file.

` + picture.Formats("and") + ` pictures are sent as they are, with no orientation applied; one that is
cut short, malformed, too large or of a kind that DALI does not decode right (such as JPEG of 12 bits, BMP of 16 bits or
with colour masks, TIFF with signed samples or PNM with samples up to 1023) is refused here.
Data that were overwritten inside a picture can pass unseen. Of a file with several pictures (an animated WebP or PNG, a
TIFF with pages, an MPO) the first one is answered. A picture may also come through a pipe, as in <(curl -s ...), or
with the name - from standard input. Each is read once, sent and answered before the next one is read.

--labels names a file with one label a line, one for each class of the model: it goes before the labels that the server
has. Another number of labels ends with 2 before a picture is sent. A label may stand twice, and a line may be empty: it
counts wherever it stands, at the end too; a line feed after the last label is no line.

Of the workspace's own server it is said on stderr on which lane it runs, with which images and weights, and what that
means for its answers. Names and labels are shown without what a terminal would obey.

With --format json stdout has one list with a record for each picture, in the order of their names, whatever fails:

  image               the picture, as it was named
  model               the model that was asked
  milliseconds        of the request, there and back
  classes             the most likely ones: index, label, score, probability (a score that is infinite is null)
  error               why there are no classes; error_class is one of usage, environment, not ready, interrupted,
                      unclassified, as the exit codes are; hint says what to do
  server              the address that was asked, if the picture was sent
  lane, source, release, precision, weights, labels_mean_nothing
                      of the workspace's own server
  warnings            what that means for the answers

The exit code is that of the first picture that failed.`,
		Example: `  dalirun classify cat.jpg dog.png

  # a picture from elsewhere
  curl -s https://example.com/cat.jpg | dalirun classify -

  # the tutorial's client.py
  dalirun classify --model_name ensemble_dali_resnet50 --image mug.jpg --url localhost:8001 --label_file labels.txt`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.warnUnused(cmd)
			return a.classify(cmd.Context(), f, append(args, f.images...))
		},
	}
	f.flags(cmd)
	noCacheFlag(cmd)
	formatFlag(cmd, &f.format)
	cmd.Flags().StringVar(&f.request.URL, "url", "", "gRPC address of a server, HOST:PORT (default the workspace's)")
	cmd.Flags().StringVar(&f.request.Model, "model", steps.EnsembleModel, "model to ask")
	cmd.Flags().StringVar(&f.request.Labels, "labels", "", "file with one label a line, instead of the server's")
	cmd.Flags().StringArrayVar(&f.images, "image", nil, "picture, as an argument is")
	numberVar(cmd.Flags(), &f.request.Top, "top", 1, 1000, "how many classes to show")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "tell about the server and the model")
	cmd.Flags().DurationVar(&f.request.Timeout, "timeout", 30*time.Second, "how long one answer may take")
	addAlias(cmd.Flags(), "model_name", "model") // of the tutorial's client.py
	addAlias(cmd.Flags(), "label_file", "labels")
	return cmd
}

// classify asks about all pictures, and prints what is known of each.
func (a *App) classify(ctx context.Context, f classifyFlags, images []string) (err error) {
	records := []classify.Record{}
	if len(images) == 0 {
		err = pipeline.Usagef("as in `dalirun classify cat.jpg`", "classify: no picture is named")
	} else {
		records, err = a.ask(ctx, f, images)
	}
	if f.format == asJSON {
		err = errors.Join(err, stdout.WriteJSON(a.Stdout, records))
	}
	return err
}

// ask returns a record for each picture. With text it prints each as it comes.
func (a *App) ask(ctx context.Context, f classifyFlags, images []string) (records []classify.Record, err error) {
	f.request.Settings = settingsOf(f.set)
	asker := classify.New(ctx, f.request, a.files(), workspaceServers{a, &f.workspaceFlag})
	defer asker.Close()
	if f.format == asText {
		asker.OnServer = func(s classify.Source) { a.writeSource(s) }
	}
	if f.verbose {
		asker.OnDescription = func(lines []string) {
			for _, l := range lines {
				fmt.Fprintln(a.Stderr, printable.Line(l))
			}
		}
	}
	errs := []error{asker.Err()}
	for _, name := range images {
		if f.format == asText && a.stdoutGone() {
			break
		}
		told := asker.Err() != nil
		record, err := asker.Ask(ctx, name)
		err = a.explainer().Explain(err)
		fail(&record, err)
		records = append(records, record)
		switch {
		case err != nil && !told:
			errs = append(errs, err)
		case err == nil && f.format == asText:
			writeClasses(a.Stdout, record)
		}
	}
	return records, errors.Join(errs...)
}

// fail makes err, if there is one, the outcome of a picture. It was explained.
func fail(record *classify.Record, err error) {
	if err == nil {
		return
	}
	record.Error, record.ErrorClass, record.Hint = err.Error(), exitCode(err).class(), pipeline.HintOf(err)
}

func writeClasses(w io.Writer, r classify.Record) {
	fmt.Fprintf(w, "%s  (%.1f ms)\n", userfile.Shown(r.Image), r.Milliseconds)
	for _, class := range r.Classes {
		fmt.Fprintf(w, "  %5.1f %%  %4d  %s\n", 100*class.Probability, class.Index, printable.Line(class.Label))
	}
}

// writeSource writes what is known of the workspace's server, for people.
func (a *App) writeSource(s classify.Source) {
	if s.Lane != "" {
		images := strings.TrimSuffix(s.Source+" images "+s.Release, " ")
		parts := []string{s.Lane + " lane", images, s.Precision, "weights " + s.Weights}
		fmt.Fprintln(a.Stderr, printable.Line(strings.Join(parts, ", ")))
	}
	for _, warning := range s.Warnings {
		warn(a.Stderr, a.asCalled(warning))
	}
}

// workspaceServers is a [classify.Finder] of the workspace that a flag names.
type workspaceServers struct {
	app  *App
	flag *workspaceFlag
}

// Workspace returns the folder.
func (s workspaceServers) Workspace(ctx context.Context) (string, error) { return s.flag.find(ctx) }

// Servers returns those of the container engine.
func (s workspaceServers) Servers(ctx context.Context) (serving.Servers, error) {
	return s.app.servers(ctx)
}
