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
	"github.com/spf13/pflag"

	"github.com/dalirun/dalirun/internal/picture"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

type classifyFlags struct {
	place
	url, model, labels string
	images             []string
	top                *number
	format             *choice
	verbose            bool
	timeout            time.Duration
}

// classified is the answer for one picture.
type classified struct {
	Image        string          `json:"image"`
	Model        string          `json:"model"`
	Milliseconds float64         `json:"milliseconds"` // of the request, there and back
	Classes      []triton.Scored `json:"classes"`
}

func (a *App) classifyCommand() *cobra.Command {
	f := classifyFlags{top: &number{5, 1, 1000}}
	cmd := &cobra.Command{
		Use:   "classify IMAGE...",
		Short: "Classify pictures with a running server",
		Long: `classify sends each picture to the workspace's running server and prints the most likely classes. The flags of the
tutorial's client.py are understood too: --model_name --image --url -v --label_file.

` + picture.Formats("and") + ` pictures are sent as they are, with no orientation applied; one that is
cut short, malformed, too large or of a kind that DALI does not decode right is refused here (docs/pictures.md has the kinds).
Data that were overwritten inside a picture can pass unseen.`,
		Example: `  dalirun classify cat.jpg dog.png

  # the tutorial's client.py
  dalirun classify --model_name ensemble_dali_resnet50 --image mug.jpg --url localhost:8001 --label_file labels.txt`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.classify(cmd.Context(), f, append(args, f.images...))
		},
	}
	f.flags(a, cmd)
	f.format = formatFlag(cmd)
	cmd.Flags().StringVar(&f.url, "url", "", "gRPC address of a server, HOST:PORT (default the workspace's)")
	cmd.Flags().StringVar(&f.model, "model", steps.EnsembleModel, "model to ask")
	cmd.Flags().StringVar(&f.labels, "labels", "", "file with one label a line, for a server that has none")
	cmd.Flags().StringArrayVar(&f.images, "image", nil, "picture, as an argument")
	cmd.Flags().Var(f.top, "top", "how many classes to show")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "tell about the server and the model")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "how long one answer may take")
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name { // of the tutorial's client.py
		case "model_name":
			name = "model"
		case "label_file":
			name = "labels"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}

func (a *App) classify(ctx context.Context, f classifyFlags, images []string) error {
	if len(images) == 0 {
		return usagef("as in `dalirun classify cat.jpg`", "classify: no picture is named")
	}
	if f.timeout <= 0 {
		return usagef("", "--timeout %s is out of range; the nearest is 1s", f.timeout)
	}
	labels, err := readLabels(f.labels)
	if err != nil {
		return err
	}
	images, errs := sendable(images)
	if len(images) == 0 {
		return errors.Join(errs...)
	}
	client, err := a.dial(ctx, &f)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer client.Close() //nolint:errcheck // nothing is in flight
	if f.verbose {
		if err := describe(ctx, a.Stderr, client, f); err != nil {
			return err
		}
	}
	answers := []classified{}
	for _, name := range images {
		answer, err := classifyOne(ctx, client, f, name, labels)
		if err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		answers = append(answers, answer)
		if f.format.value == "text" {
			writeClasses(a.Stdout, answer)
		}
	}
	if f.format.value == "json" {
		errs = append(errs, writeJSON(a.Stdout, answers))
	}
	return errors.Join(errs...)
}

// sendable returns the pictures that a server may get, and why it may not get the others.
func sendable(images []string) (good []string, errs []error) {
	for _, name := range images {
		// They are read again when their turn comes: all of them at a time might not fit into memory.
		if _, _, err := readPicture(name); err != nil {
			errs = append(errs, err)
			continue
		}
		good = append(good, name)
	}
	return good, errs
}

func (a *App) dial(ctx context.Context, f *classifyFlags) (*triton.Client, error) {
	if f.url == "" {
		if err := f.resolve(); err != nil {
			return nil, err
		}
		runtime, err := a.answering(ctx)
		if err != nil {
			return nil, err
		}
		if f.url, err = runningServer(ctx, runtime, f.workspace); err != nil {
			return nil, err
		}
	}
	client, err := triton.Dial(f.url)
	if err != nil {
		return nil, usagef("as in --url localhost:8001", "--url: %w", err)
	}
	return client, nil
}

func classifyOne(ctx context.Context, client *triton.Client, f classifyFlags, name string, labels []string) (classified, error) {
	picture, _, err := readPicture(name)
	if err != nil {
		return classified{}, err
	}
	inner, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("%s did not answer within %s", f.model, f.timeout))
	defer cancel()
	began := time.Now()
	all, err := client.Classify(inner, f.model, picture.Data, triton.EveryClass)
	if err != nil {
		if ctx.Err() != nil {
			return classified{}, context.Cause(ctx)
		}
		kind := pipeline.NotReady
		if errors.Is(err, triton.ErrInvalid) { // the server is well: it refuses the picture, or the model takes none
			kind = pipeline.Usage
		}
		return classified{}, &pipeline.Fault{Kind: kind, Err: fmt.Errorf("%s: %w", name, err), Hint: serverHint(err, f.url)}
	}
	answer := classified{Image: name, Model: f.model, Milliseconds: float64(time.Since(began).Microseconds()) / 1000}
	answer.Classes = triton.Score(all)[:min(f.top.value, len(all))]
	for i, c := range answer.Classes {
		if c.Label == "" && c.Index < len(labels) {
			answer.Classes[i].Label = labels[c.Index]
		}
	}
	return answer, nil
}

func serverHint(err error, url string) string {
	switch {
	case errors.Is(err, triton.ErrUnavailable):
		return "is a server at " + url + "? `dalirun ps` lists those of dalirun"
	case errors.Is(err, triton.ErrNotFound):
		return "--model names a model that the server has loaded"
	default:
		return ""
	}
}

func writeClasses(w io.Writer, c classified) {
	fmt.Fprintf(w, "%s  (%.1f ms)\n", c.Image, c.Milliseconds)
	for _, class := range c.Classes {
		fmt.Fprintf(w, "  %5.1f %%  %4d  %s\n", 100*class.Probability, class.Index, class.Label)
	}
}

func describe(ctx context.Context, w io.Writer, client *triton.Client, f classifyFlags) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	server, err := client.Metadata(ctx)
	if err != nil {
		return &pipeline.Fault{Kind: pipeline.NotReady, Err: err, Hint: serverHint(err, f.url)}
	}
	fmt.Fprintf(w, "%s: %s %s\n", f.url, server.Name, server.Version)
	model, err := client.ModelMetadata(ctx, f.model)
	if err != nil {
		return &pipeline.Fault{Kind: pipeline.NotReady, Err: err, Hint: serverHint(err, f.url)}
	}
	for _, t := range model.Inputs {
		fmt.Fprintf(w, "%s: input %s %s %v\n", f.model, t.Name, t.Datatype, t.Shape)
	}
	for _, t := range model.Outputs {
		fmt.Fprintf(w, "%s: output %s %s %v\n", f.model, t.Name, t.Datatype, t.Shape)
	}
	return nil
}

func readLabels(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("", "--labels: %w", err)
	}
	return strings.Split(strings.TrimRight(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"), "\n"), nil
}
