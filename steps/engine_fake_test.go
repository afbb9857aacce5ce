package steps_test

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/container/containertest"
)

// fakeBuild says how a fake trtexec differs from one that builds what it is asked for.
type fakeBuild struct {
	fp32     bool              // whatever is asked for
	fp16     bool              // whatever is asked for
	cut      bool              // the plan is saved in part
	version  string            // that the plan names; empty is the image's
	layers   string            // in place of the description of the layers; "-" is none
	shapes   map[string]string // by option, in place of those that are asked for
	noTiming bool
	entries  string // how many a timing cache has when it is saved; empty is some
	unread   bool   // the second trtexec fails
	gpu      string // what trtexec says of the GPU that it took, in place of what that of TensorRT 8.0 said; "-" is nothing
}

// trtexec is a fake trtexec of an image: it says what the real one says, and what it makes depends on the model and the arguments.
func (w *world) trtexec(b fakeBuild) containertest.Program {
	return func(ctx context.Context, spec container.Spec, out container.Streams) int {
		in := inside(spec)
		image, err := w.fake.Resolve(ctx, spec.Image)
		onnx := ""
		if err == nil {
			onnx, err = in.read(in.arg("--onnx"))
		}
		if err != nil {
			fmt.Fprintln(out.Stderr, err)
			return 1
		}
		fmt.Fprintln(out.Stdout, "&&&& RUNNING TensorRT.trtexec")
		shape := func(arg string) string { return cmp.Or(b.shapes[arg], strings.TrimPrefix(in.arg(arg), "input:")) }
		fmt.Fprintf(out.Stdout, "[I] Input(s)s format: fp32:CHW\n[I] Output(s)s format: fp32:CHW\n")
		fmt.Fprintf(out.Stdout, "[I] Set shape of input tensor input for optimization profile 0 to: MIN=%s OPT=%s MAX=%s\n", shape("--minShapes"), shape("--optShapes"), shape("--maxShapes"))
		if b.gpu != "-" {
			fmt.Fprintln(out.Stdout, cmp.Or(b.gpu, "[I] Selected Device: "+w.target.Device.Name))
		}
		b.timing(in, out)
		half := slices.Contains(spec.Command, "--fp16") || strings.HasPrefix(onnx, "cast ")
		half = (half || b.fp16) && !b.fp32
		plan := padded("plan of "+strings.TrimRight(onnx, " -")+" "+strings.Join(in.Command[4:], " "), half)
		fmt.Fprintf(out.Stdout, "[I] Engine built in 1.5 sec.\n[I] Created engine with size: %.6g MiB\n", float64(len(plan))/(1<<20))
		if b.cut {
			plan = plan[:len(plan)/2]
		}
		if err := in.write(in.arg("--saveEngine"), plan); err != nil {
			fmt.Fprintln(out.Stderr, err)
			return 1
		}
		if layers := in.arg("--exportLayerInfo"); layers != "" && b.layers != "-" {
			text := b.layers
			if text == "" {
				text = layersOf(map[bool]string{true: "Half", false: "Float"}[half])
			}
			if err := in.write(layers, text); err != nil {
				fmt.Fprintln(out.Stderr, err)
				return 1
			}
		}
		if second := regexp.MustCompile(`trtexec --loadEngine=/out/model.plan --getPlanVersionOnly( \|\| true; \})?$`).FindStringSubmatch(spec.Command[2]); second != nil {
			if b.unread {
				fmt.Fprintln(out.Stderr, "Cuda failure: initialization error")
				return map[bool]int{true: 1}[second[1] == ""]
			}
			version := b.version
			if version == "" {
				version = image.Env["TRT_VERSION"]
			}
			fmt.Fprintf(out.Stdout, "[I] Plan was created with TensorRT version %s\n", version)
		}
		return 0
	}
}

// padded makes a fake model as long as one with weights of its precision is beside others.
func padded(text string, half bool) string {
	bytes := map[bool]int{true: 4000, false: 8000}[half]
	return text + " " + strings.Repeat("-", max(0, bytes-len(text)-1))
}

// timing reads and writes the timing cache.
func (b fakeBuild) timing(in inside, out container.Streams) {
	name := in.arg("--timingCacheFile")
	old, err := in.read(name)
	if err == nil {
		fmt.Fprintf(out.Stdout, "[I] [TRT] Loaded %d bytes of timing cache from %s\n", len(old), name)
	} else {
		fmt.Fprintf(out.Stdout, "[W] [TRT] Could not read timing cache from: %s. A new timing cache will be generated and written.\n", name)
	}
	fmt.Fprintln(out.Stdout, "[I] [TRT] Global timing cache in use. Profiling results in this builder pass will be stored.")
	if !b.noTiming {
		fmt.Fprintf(out.Stdout, "[I] [TRT] Serialized %s timing cache entries\n", cmp.Or(b.entries, "1137"))
		_ = in.write(name, old+"timed ") // the next build would miss it
	}
}

// layersOf describes a small engine whose inner tensors are of a type.
func layersOf(kind string) string {
	return fmt.Sprintf(`{"Layers": [
{"Name": "conv", "LayerType": "CaskConvolution", "Weights": {"Type": %[1]q, "Count": 9408},
 "Inputs": [{"Name": "input", "Dimensions": [-1,3,224,224], "Format/Datatype": "Float"}],
 "Outputs": [{"Name": "a", "Dimensions": [-1,64,112,112], "Format/Datatype": %[1]q}]},
{"Name": "fc", "LayerType": "gemm",
 "Inputs": [{"Name": "a", "Dimensions": [-1,2048], "Format/Datatype": %[1]q}, {"Name": "w", "Dimensions": [2048,1000], "Format/Datatype": %[1]q}],
 "Outputs": [{"Name": "output", "Dimensions": [-1,1000], "Format/Datatype": "Float"}]}
], "Bindings": ["input","output"]}`, kind)
}
