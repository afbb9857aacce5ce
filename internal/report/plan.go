package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Plan is what a run would do, and why.
type Plan struct {
	Facts  map[string]string  `json:"facts"`            // of [Facts]
	Images *PlannedImages     `json:"images,omitempty"` // nil for images that are built here
	Steps  []pipeline.Planned `json:"steps"`
}

// PlannedImages is what is known of NVIDIA's images before they are pulled.
type PlannedImages struct {
	Exporter PlannedImage `json:"exporter"`
	Server   PlannedImage `json:"server"`
	// Verdict is "fits", or "not checked" where an image could not be looked at or says nothing; a run of what does not
	// fit is refused.
	Verdict  string   `json:"verdict"`
	Doubts   []string `json:"doubts,omitempty"`
	Download int64    `json:"download_bytes"`
	Unpacked int64    `json:"unpacked_bytes"`
	Assumed  string   `json:"assumed,omitempty"` // of Unpacked
}

// PlannedImage is what is known of one image. A version is empty if the image does not say it.
type PlannedImage struct {
	Ref      string `json:"ref"`
	From     string `json:"from,omitempty"`
	Arch     string `json:"arch,omitempty"`
	TensorRT string `json:"tensorrt,omitempty"`
	CUDA     string `json:"cuda,omitempty"`
	DALI     string `json:"dali,omitempty"`
	Download int64  `json:"download_bytes"`
	Error    string `json:"error,omitempty"`
}

// NewPlan is the plan of a target with these facts and steps, of which doubts say what may go otherwise.
func NewPlan(t target.Target, doubts []string, facts map[string]string, steps []pipeline.Planned) Plan {
	plan := Plan{Facts: facts, Steps: steps}
	if t.Source != target.NGC {
		return plan
	}
	images := PlannedImages{
		Exporter: plannedImage(t.Images.Exporter), Server: plannedImage(t.Images.Server), Verdict: "fits", Doubts: doubts,
		Download: t.Images.Download(),
	}
	if images.Exporter.Error != "" || images.Server.Error != "" || t.Lane == target.GPU && images.Server.TensorRT == "" {
		images.Verdict = "not checked"
	}
	images.Unpacked, images.Assumed = t.Images.Unpacked()
	plan.Images = &images
	return plan
}

func plannedImage(i target.ImageInfo) PlannedImage {
	return PlannedImage{
		Ref: i.Ref, From: string(i.Found), Arch: i.Image.Arch, Download: i.Image.Compressed(), Error: i.Unknown,
		TensorRT: i.Image.Env["TRT_VERSION"], CUDA: i.Image.Env["CUDA_VERSION"], DALI: i.Image.Env["DALI_VERSION"],
	}
}

// WriteText writes the plan for people: the lane and its like, what is known of NVIDIA's images, and a line for each
// step.
func (p Plan) WriteText(w io.Writer) error {
	if model := p.Facts[FactModel]; model != "" {
		fmt.Fprintf(w, "model %s, ", model)
	}
	fmt.Fprintf(w, "lane %s (%s), images %s, weights %s\n", p.Facts[FactLane], printable.Line(p.Facts[FactReason]),
		p.Facts[FactImages], printable.Line(p.Facts[FactWeights]))
	if first := p.Facts[FactFirstRun]; first != "" {
		fmt.Fprintf(w, "a run would be the first in this workspace: %s\n", first)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if p.Images != nil {
		p.Images.write(t)
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, step := range p.Steps {
		fmt.Fprintf(t, "%s\t%s\n", step.Step, printable.Line(step.Verdict.String()))
	}
	return t.Flush()
}

// write writes a line for each image and the verdict.
func (p *PlannedImages) write(w io.Writer) {
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
func (p PlannedImage) String() string {
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
