package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/serving"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

type classifyFlags struct {
	workspaceFlag
	url, model, labels string
	images             []string
	top                int
	format             format
	verbose            bool
	timeout            time.Duration
}

func (a *App) classifyCommand() *cobra.Command {
	f := classifyFlags{top: 5}
	cmd := &cobra.Command{
		Use:   "classify IMAGE...",
		Short: "Classify pictures with a running server",
		Long: `classify sends each picture to the workspace's running server and prints the most likely classes. The flags of the
tutorial's client.py are understood too: --model_name --image --url -v --label_file.

` + picture.Formats("and") + ` pictures are sent as they are, with no orientation applied; one that is
cut short, malformed, too large or of a kind that DALI does not decode right (such as JPEG of 12 bits, BMP of 16 bits or
with colour masks, TIFF with signed samples or PNM with samples up to 1023) is refused here.
Data that were overwritten inside a picture can pass unseen. Of a file with several pictures (an animated WebP or PNG, a
TIFF with pages, an MPO) the first one is answered. A picture may also come through a pipe, as in <(curl -s ...), or with
the name - from standard input. Each is read once, sent and answered before the next one is read.

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
	cmd.Flags().StringVar(&f.url, "url", "", "gRPC address of a server, HOST:PORT (default the workspace's)")
	cmd.Flags().StringVar(&f.model, "model", steps.EnsembleModel, "model to ask")
	cmd.Flags().StringVar(&f.labels, "labels", "", "file with one label a line, instead of the server's")
	cmd.Flags().StringArrayVar(&f.images, "image", nil, "picture, as an argument is")
	numberVar(cmd.Flags(), &f.top, "top", 1, 1000, "how many classes to show")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "tell about the server and the model")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "how long one answer may take")
	addAlias(cmd.Flags(), "model_name", "model") // of the tutorial's client.py
	addAlias(cmd.Flags(), "label_file", "labels")
	return cmd
}

func (a *App) classify(ctx context.Context, f classifyFlags, images []string) error {
	c := &classification{app: a, flags: f, in: a.files()}
	defer c.close()
	c.begin(ctx, images)
	errs := []error{c.stop}
	records := []classified{}
	for _, name := range images {
		if f.format == asText && a.stdoutGone() {
			break
		}
		told := c.stop != nil
		record := classified{Image: name, Model: f.model}
		err := a.explained(c.one(ctx, name, &record))
		record.fail(err)
		records = append(records, record)
		switch {
		case err != nil && !told:
			errs = append(errs, err)
		case err == nil && f.format == asText:
			writeClasses(a.Stdout, record)
		}
	}
	if f.format == asJSON {
		errs = append(errs, stdout.WriteJSON(a.Stdout, records))
	}
	return errors.Join(errs...)
}

// classification is one run of classify.
type classification struct {
	app    *App
	flags  classifyFlags
	in     *userfile.Reader
	labels []string       // of the user's file; nil without one
	host   triton.Host    // the workspace's server; nil where --url names one
	client *triton.Client // from the first picture on that may be sent
	source source
	stop   error // why no picture is sent any more
}

func (c *classification) close() {
	if c.client != nil {
		_ = c.client.Close() // nothing is in flight
	}
}

// begin finds what no picture is needed for.
func (c *classification) begin(ctx context.Context, images []string) {
	switch {
	case len(images) == 0:
		c.stop = usagef("as in `dalirun classify cat.jpg`", "classify: no picture is named")
	case c.flags.timeout <= 0:
		c.stop = usagef("name a duration above 0, as in 30s", "%s is out of range", c.flags.written("timeout", c.flags.timeout.String()))
	case c.flags.labels != "":
		c.labels, c.stop = readLabels(ctx, c.in, c.flags)
	}
}

// one fills the record of a picture. It is read when its turn comes: all of them at a time might not fit into memory.
func (c *classification) one(ctx context.Context, name string, record *classified) error {
	if ctx.Err() != nil {
		c.stop = context.Cause(ctx)
	}
	if c.stop != nil {
		return c.stop
	}
	data, _, err := c.in.Picture(ctx, name)
	if err == nil && c.client == nil {
		c.stop = c.connect(ctx)
		err = c.stop
	}
	if err == nil {
		err = c.ask(ctx, name, data, record)
	}
	if ctx.Err() != nil {
		c.stop = context.Cause(ctx)
		return c.stop
	}
	return err
}

func (c *classification) ask(ctx context.Context, name string, data []byte, record *classified) error {
	f := c.flags
	record.source = c.source
	within, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("%s did not answer within %s", f.model, f.timeout))
	defer cancel()
	began := time.Now()
	all, err := c.client.Classify(within, f.model, data, triton.EveryClass)
	if err != nil {
		kind := pipeline.NotReady
		if errors.Is(err, triton.ErrInvalid) { // the server is well: it refuses the picture, or the model takes none
			kind = pipeline.Usage
		}
		failed := &pipeline.Fault{Kind: kind, Err: fmt.Errorf("%s: %w", userfile.Shown(name), err), Hint: serverHint(err, f.url)}
		if errors.Is(err, triton.ErrNoClassifier) { // nor any other picture
			failed.Err, c.stop = err, failed
			return failed
		}
		if _, local := serving.LocalPort(f.url); c.host == nil && !local {
			return failed
		}
		return c.app.withHealth(ctx, f.url, failed)
	}
	record.Milliseconds = float64(time.Since(began).Microseconds()) / 1000
	if slices.ContainsFunc(all, func(class triton.Class) bool { return math.IsNaN(float64(class.Value)) }) {
		return pipeline.Faultf(pipeline.NotReady, "", "%s: %s answered with values that are no numbers (NaN)", userfile.Shown(name), f.model)
	}
	if c.labels != nil {
		if c.stop = f.label(all, c.labels); c.stop != nil {
			return c.stop
		}
	}
	record.Classes = result.Classes(triton.Score(all)[:min(f.top, len(all))])
	return nil
}

func serverHint(err error, url string) string {
	switch {
	case errors.Is(err, triton.ErrUnavailable):
		return "is a server at " + url + "? `dalirun ps` lists those of dalirun"
	case errors.Is(err, triton.ErrNotFound):
		return "--model names a model that the server has loaded"
	case errors.Is(err, triton.ErrNoClassifier):
		return "name with --model a model that takes pictures and answers with classes, as " + steps.EnsembleModel + " does"
	case errors.Is(err, triton.ErrInvalid): // the picture may be at fault, or the model
		return "save the picture again as another kind, such as PNG, or name with --model a model that takes pictures"
	case errors.Is(err, context.DeadlineExceeded):
		return "give it longer with --timeout"
	default:
		return ""
	}
}

// connect finds the server and says what it is.
func (c *classification) connect(ctx context.Context) error {
	if c.flags.url == "" {
		if err := c.findServer(ctx); err != nil {
			return err
		}
	}
	c.source.Server = c.flags.url
	var err error
	if c.client, err = c.dial(); err != nil {
		return usagef("as in --url localhost:8001", "%s: %w", c.flags.origin("url"), err)
	}
	if c.stop = c.countLabels(ctx); c.stop != nil {
		return c.stop
	}
	if c.flags.format == asText {
		c.source.write(c.app.Stderr)
	}
	if c.flags.verbose {
		return describe(ctx, c.app.Stderr, c.client, c.flags)
	}
	return nil
}

func (c *classification) dial() (*triton.Client, error) {
	if c.host != nil {
		return triton.DialIn(c.host)
	}
	return triton.Dial(c.flags.url)
}

// findServer finds the workspace's server, and what is known of it.
func (c *classification) findServer(ctx context.Context) error {
	workspace, err := c.flags.find()
	if err != nil {
		return err
	}
	servers, err := c.app.servers(ctx)
	if err != nil {
		return err
	}
	server, err := servers.Running(ctx, workspace)
	if err != nil {
		return err
	}
	c.flags.url, c.host = servers.Address(server), servers.Host(server)
	c.source = sourceOf(workspace, server.Run())
	return nil
}

// countLabels refuses the user's labels before a picture is sent, where the model says how many classes it has. What keeps it from saying that, a
// picture meets too, and is told of it.
func (c *classification) countLabels(ctx context.Context) error {
	if c.labels == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.flags.timeout)
	defer cancel()
	model, err := c.client.ModelMetadata(ctx, c.flags.model)
	if err != nil || len(model.Outputs) != 1 {
		return nil
	}
	shape := model.Outputs[0].Shape
	if len(shape) == 0 || shape[len(shape)-1] < 1 {
		return nil
	}
	return c.flags.countLabels(c.labels, shape[len(shape)-1])
}

func describe(ctx context.Context, w io.Writer, client *triton.Client, f classifyFlags) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	server, err := client.Metadata(ctx)
	if err != nil {
		return &pipeline.Fault{Kind: pipeline.NotReady, Err: err, Hint: serverHint(err, f.url)}
	}
	lines := []string{fmt.Sprintf("%s: %s %s", f.url, server.Name, server.Version)}
	model, err := client.ModelMetadata(ctx, f.model)
	if err != nil {
		return &pipeline.Fault{Kind: pipeline.NotReady, Err: err, Hint: serverHint(err, f.url)}
	}
	for _, t := range model.Inputs {
		lines = append(lines, fmt.Sprintf("%s: input %s %s %v", f.model, t.Name, t.Datatype, t.Shape))
	}
	for _, t := range model.Outputs {
		lines = append(lines, fmt.Sprintf("%s: output %s %s %v", f.model, t.Name, t.Datatype, t.Shape))
	}
	for _, l := range lines {
		fmt.Fprintln(w, printable.Line(l))
	}
	return nil
}
