package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/classify"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/ui"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

type classifyFlags struct {
	workspaceFlag
	request classify.Request
	names   classify.Names
	images  []string
	format  classify.Format
	verbose bool
}

// usualJobs is how many pictures are at the server at a time unless a user says otherwise: as many as keep its CPUs
// busy and give a GPU batches, while those in memory, at most 15 of at most 64 MiB, stay below 1 GiB.
const usualJobs = 8

func (a *App) classifyCommand() *cobra.Command {
	f := classifyFlags{
		request: classify.Request{Top: 5, Jobs: usualJobs, Ensemble: usualEnsemble()}, format: classify.Text,
	}
	cmd := &cobra.Command{
		Use:   "classify IMAGE|FOLDER...",
		Short: "Classify pictures with a running server",
		Long: `classify sends pictures to the workspace's running server and prints the most likely classes of each. The
flags of the tutorial's client.py are understood too: --model_name --image --url -v --label_file.

A folder stands for the pictures in it and in the folders below it, in the order of their names. A picture there is a
file whose name ends in one of
` + columns(picture.Extensions(), 12) + `
in whichever case. What is hidden is left out, and links to folders are followed only where they are named. A pattern in
quotes, as in 'photos/*.jpg', is expanded as a shell does it, with {a,b}, and with ** for files at any depth, unless a
file has that very name. --files-from names a file with the names of pictures and folders, one a line, or each ended by
NUL with --null. They come after those of the command line, and are no patterns.

` + picture.Formats("and") + ` pictures are sent as they are, with no orientation applied; one that is
cut short, malformed, too large or of a kind that DALI does not decode right (such as JPEG of 12 bits, BMP of 16 bits or
with colour masks, TIFF with signed samples or PNM with samples up to 1023) is refused here.
Data that were overwritten inside a picture can pass unseen. Of a file with several pictures (an animated WebP or PNG, a
TIFF with pages, an MPO) the first one is answered. A picture may also come through a pipe, as in <(curl -s ...), or
with the name - from standard input.

Up to --jobs pictures are at the server at a time, and at most as many more as there are CPUs are read ahead; with
--jobs 1 each is read, sent and answered before the next one is read. Answers come in the order of the pictures, each as
soon as it and those before it are there. A picture that fails stops no other. What all would fail from, such as a
server that is gone, stops them and is told once. On a terminal stderr shows how many are done, unless stdout is a
terminal too.

--labels names a file with one label a line, one for each class of the model: it goes before the labels that the server
has. Another number of labels ends with 2 before a picture is sent. A label may stand twice, and a line may be empty: it
counts wherever it stands, at the end too; a line feed after the last label is no line.

Of the workspace's own server it is said on stderr on which lane it runs, with which images and weights, and what that
means for its answers. Names and labels are shown without what a terminal would obey.

With --format json stdout has one list with a record for each picture, in the order of their names, whatever fails; with
--format jsonl it has these records, one a line:

  image               the picture, as it was named
  image_base64        the bytes of a name that is not in UTF-8, which image has quoted, as in "b\xe4r.jpg"
  model               the model that was asked
  milliseconds        of the request, there and back, with what it waited at the server
  classes             the most likely ones: index, label, score, probability (a score that is infinite is null)
  error               why there are no classes; error_class is one of usage, environment, not ready, interrupted,
                      unclassified, as the exit codes are; hint says what to do
  server              the address that was asked, if the picture was sent
  lane, image_source, release, precision, weights, labels_mean_nothing
                      of the workspace's own server
  warnings            what that means for the answers

With --format csv a picture has a row for each class, rank 1 being the most likely one, or one row with its error. The
first row names the columns:
` + strings.Join(classify.Columns(), ",") + `

After Ctrl-C no picture is sent any more. What was answered is printed, and the list of --format json is whole.

The exit code is that of the first picture that failed.`,
		Example: `  dalirun classify cat.jpg dog.png

  # all pictures of a folder, for a spreadsheet
  dalirun classify --top 1 --format csv photos > photos.csv

  # those of the last week
  find photos -name '*.jpg' -mtime -7 -print0 | dalirun classify --files-from - --null

  # a picture from elsewhere
  curl -s https://example.com/cat.jpg | dalirun classify -

  # the tutorial's client.py
  dalirun classify --model_name ensemble_dali_resnet50 --image mug.jpg --url localhost:8001 --label_file labels.txt`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.warnUnused(cmd)
			f.names.Arguments = slices.Concat(args, f.images)
			return a.classify(cmd.Context(), f)
		},
	}
	f.flags(cmd)
	noCacheFlag(cmd)
	cmd.Flags().Var(flagvalue.Choice(&f.format, classify.Formats()...), "format", "form of the result on stdout")
	cmd.Flags().StringVar(&f.request.URL, "url", "", "gRPC address of a server, HOST:PORT (default the workspace's)")
	cmd.Flags().StringVar(&f.request.Model, "model", "",
		"model to ask (default the one that the workspace's server has for clients, and "+usualEnsemble()+" with --url)")
	cmd.Flags().StringVar(&f.request.Labels, "labels", "", "file with one label a line, instead of the server's")
	cmd.Flags().StringArrayVar(&f.images, "image", nil, "picture, as an argument is")
	cmd.Flags().StringVar(&f.names.List, "files-from", "", "file with names of pictures and folders; - is standard input")
	cmd.Flags().BoolVarP(&f.names.Null, "null", "0", false, "names in --files-from end with NUL, as of find -print0")
	cmd.Flags().Var(flagvalue.Int(&f.request.Jobs, 1, 256), "jobs", "how many pictures are at the server at a time")
	cmd.Flags().Var(flagvalue.Int(&f.request.Top, 1, 1000), "top", "how many classes to show")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "tell about the server and the model")
	cmd.Flags().DurationVar(&f.request.Timeout, "timeout", 30*time.Second, "how long one answer may take")
	addAlias(cmd.Flags(), "model_name", "model") // of the tutorial's client.py
	addAlias(cmd.Flags(), "label_file", "labels")
	return cmd
}

// columns writes words in lines of n.
func columns(words []string, n int) string {
	var lines []string
	for line := range slices.Chunk(words, n) {
		lines = append(lines, strings.Join(line, " "))
	}
	return strings.Join(lines, "\n")
}

// classify asks about all pictures, and prints what is known of each.
func (a *App) classify(ctx context.Context, f classifyFlags) error {
	f.request.Settings, f.request.Model = settingsOf(f.set), askedModel(f.set)
	files := a.files()
	asker := classify.New(ctx, f.request, files, workspaceServers{a, &f.workspaceFlag})
	defer asker.Close()
	out := classify.NewWriter(f.format, a.Stdout)
	f.names.Written = f.request.Settings.Written("files-from", userfile.Shown(f.names.List))
	pictures, err := classify.Pictures(ctx, files, f.names)
	if err == nil {
		err = a.ask(ctx, f, asker, pictures, out)
	}
	return errors.Join(err, out.Close())
}

// ask writes what is known of each picture, as it comes.
func (a *App) ask(
	ctx context.Context, f classifyFlags, asker *classify.Asker, pictures []classify.Picture, out classify.Writer,
) error {
	terminal := a.terminal()
	if len(pictures) == 1 || a.stdoutIsTerminal { // there is nothing to count, or its line would be between the answers
		terminal.IsTTY = false
	}
	meter := ui.NewMeter(a.Stderr, terminal)
	began := time.Now()
	emit := func(p pipeline.Payload) { meter.Emit(pipeline.Event{Time: time.Now(), Payload: p}) }
	a.tellOfServer(asker, f, emit)
	emit(pipeline.Started{})
	failed := failures{stop: asker.Err(), errs: []error{asker.Err()}}
	progress := pipeline.Progress{Total: int64(len(pictures)), Unit: "pictures"}
	for record, err := range asker.All(ctx, pictures) {
		if err != nil {
			explained := a.explainer().Explain(err) // for the record; that App.Run explains it again changes nothing
			failed.add(err, explained, asker.Err())
			fail(&record, explained)
			progress.Text = fmt.Sprintf("%d failed", failed.n)
		}
		progress.Current++
		emit(progress)
		if err := out.Write(record); err != nil {
			failed.errs = append(failed.errs, err)
		}
		if a.stdoutGone() {
			break
		}
	}
	emit(pipeline.RunEnded{Elapsed: time.Since(began)})
	_ = meter.Close() // there is nowhere left to tell of it
	return errors.Join(failed.errs...)
}

// tellOfServer tells of the server where the records do not, and of the model where that was asked for.
func (a *App) tellOfServer(asker *classify.Asker, f classifyFlags, emit func(pipeline.Payload)) {
	say := func(lines []string) {
		for _, l := range lines {
			emit(pipeline.Line{Text: l})
		}
	}
	if !f.format.HasSource() {
		asker.OnServer = func(s classify.Source) {
			say(s.Lines())
			for _, text := range s.Warnings {
				emit(pipeline.Warning{Text: a.asCalled(text)})
			}
		}
	}
	if f.verbose {
		asker.OnDescription = say
	}
}

// failures are what is told of pictures that failed.
type failures struct {
	n    int
	errs []error
	stop error // what stopped all, once it is among errs
}

// add adds the error of a picture, as it was explained. What stops all is told once.
func (f *failures) add(err, explained, stop error) {
	f.n++
	if stop != nil && errors.Is(err, stop) {
		if f.stop != nil {
			return
		}
		f.stop = stop
	}
	f.errs = append(f.errs, explained)
}

// fail makes err the outcome of a picture. It was explained.
func fail(record *classify.Record, err error) {
	record.Error, record.ErrorClass, record.Hint = err.Error(), exitCode(err).class(), pipeline.HintOf(err)
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
