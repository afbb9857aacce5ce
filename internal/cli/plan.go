package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/stdout"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

func (a *App) planCommand() *cobra.Command {
	var r runFlags
	var o outputFlags
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Say what e2e would do, and why",
		Long: `plan prints for each step whether its result is cached, whether it will run and because of which change, or what that
depends on. With NVIDIA's images it first says where each was found, what it holds and whether they fit this host; an image that is not
here is looked up in its registry. It pulls, builds and starts nothing, and writes nothing but notes in the cache.`,
		Example: `  dalirun plan
  dalirun plan --opt-batch 128 --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x, err := a.prepare(cmd.Context(), &r, o)
			if err != nil {
				return err
			}
			for _, text := range a.takeUnread() {
				x.warn(text)
			}
			if x.target.Source == target.Local { // of NVIDIA's, the plan itself has them
				for _, doubt := range x.doubts {
					x.warn(doubt)
				}
			}
			x.lookFirst(cmd.Context())
			plan, err := x.runner(nil).Plan(cmd.Context(), x.steps(steps.IDVerify))
			if err == nil {
				err = x.writePlan(plan, o.format)
			}
			return x.finish(err)
		},
	}
	r.flags(a, cmd)
	o.flags(cmd)
	return cmd
}

func (x *session) writePlan(plan []pipeline.Planned, format format) error {
	images := x.imagesPlan()
	if format == asJSON {
		return stdout.WriteJSON(x.app.Stdout, struct {
			Facts  map[string]string  `json:"facts"`
			Images *imagesPlan        `json:"images,omitempty"`
			Steps  []pipeline.Planned `json:"steps"`
		}{x.facts(), images, plan})
	}
	fmt.Fprintf(x.app.Stdout, "lane %s (%s), images %s, weights %s\n", x.target.Lane, printable.Line(x.target.LaneReason), x.target.Source, printable.Line(x.target.Weights.String()))
	if x.first != "" {
		fmt.Fprintf(x.app.Stdout, "a run would be the first in this workspace: %s\n", x.first)
	}
	fmt.Fprintln(x.app.Stdout)
	t := tabwriter.NewWriter(x.app.Stdout, 0, 0, 2, ' ', 0)
	if images != nil {
		images.write(t)
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, p := range plan {
		fmt.Fprintf(t, "%s\t%s\n", p.Step, printable.Line(p.Verdict.String()))
	}
	return t.Flush()
}

// imagesPlan is what is known of NVIDIA's images before they are pulled.
type imagesPlan struct {
	Exporter imagePlan `json:"exporter"`
	Server   imagePlan `json:"server"`
	// Verdict is "fits", or "not checked" where an image could not be looked at or says nothing; a run of what does not fit is refused.
	Verdict  string   `json:"verdict"`
	Doubts   []string `json:"doubts,omitempty"`
	Download int64    `json:"download_bytes"`
	Unpacked int64    `json:"unpacked_bytes"`
	Assumed  string   `json:"assumed,omitempty"` // of Unpacked
}

// imagePlan is what is known of one image. A version is empty if the image does not say it.
type imagePlan struct {
	Ref      string `json:"ref"`
	From     string `json:"from,omitempty"`
	Arch     string `json:"arch,omitempty"`
	TensorRT string `json:"tensorrt,omitempty"`
	CUDA     string `json:"cuda,omitempty"`
	DALI     string `json:"dali,omitempty"`
	Download int64  `json:"download_bytes"`
	Error    string `json:"error,omitempty"`
}

// imagesPlan returns nil for images that are built here.
func (x *session) imagesPlan() *imagesPlan {
	if x.target.Source != target.NGC {
		return nil
	}
	pair := x.target.Images
	p := &imagesPlan{
		Exporter: newImagePlan(pair.Exporter), Server: newImagePlan(pair.Server), Verdict: "fits", Doubts: x.doubts,
		Download: pair.Download(),
	}
	if p.Exporter.Error != "" || p.Server.Error != "" || x.target.Lane == target.GPU && p.Server.TensorRT == "" {
		p.Verdict = "not checked"
	}
	p.Unpacked, p.Assumed = pair.Unpacked()
	return p
}

func newImagePlan(i target.ImageInfo) imagePlan {
	return imagePlan{
		Ref: i.Ref, From: string(i.Found), Arch: i.Image.Arch, Download: i.Image.Compressed(), Error: i.Unknown,
		TensorRT: i.Image.Env["TRT_VERSION"], CUDA: i.Image.Env["CUDA_VERSION"], DALI: i.Image.Env["DALI_VERSION"],
	}
}

// write writes a line for each image and the verdict.
func (p *imagesPlan) write(w io.Writer) {
	fmt.Fprintf(w, "exporter image\t%s\t%s\n", p.Exporter.Ref, p.Exporter)
	fmt.Fprintf(w, "server image\t%s\t%s\n", p.Server.Ref, p.Server)
	fmt.Fprintf(w, "verdict\t%s", p.Verdict)
	if p.Unpacked > 0 {
		fmt.Fprintf(w, "; %s on disk: %s", bytesize.Format(p.Unpacked), p.Assumed)
	}
	for _, doubt := range p.Doubts {
		fmt.Fprintf(w, "\n\t%s", doubt)
	}
	fmt.Fprint(w, "\n\n")
}

// String says where the image was found and what it holds.
func (p imagePlan) String() string {
	if p.Error != "" {
		return "not found out"
	}
	holds := []string{}
	for _, v := range []struct{ name, version string }{{"TensorRT", p.TensorRT}, {"CUDA", p.CUDA}, {"DALI", p.DALI}} {
		if v.version != "" {
			holds = append(holds, v.name+" "+v.version)
		}
	}
	if p.Download > 0 {
		holds = append(holds, bytesize.Format(p.Download)+" to download")
	}
	if len(holds) == 0 {
		holds = []string{"does not say what it holds"}
	}
	return p.From + ": " + strings.Join(holds, ", ")
}
