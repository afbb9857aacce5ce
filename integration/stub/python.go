package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dalirun/dalirun/integration/stub/record"
	"github.com/dalirun/dalirun/internal/container/containertest/probe"
)

// scripts are the programs that this Python knows, by file name. Each gets the arguments and returns its facts.
func (p *process) scripts() map[string]func([]string) (string, error) {
	return map[string]func([]string) (string, error){
		"seed_weights.py":   p.seedWeights,
		"export_onnx.py":    p.exportONNX,
		"cast_onnx.py":      p.castONNX,
		"reference.py":      p.reference,
		"serialize_dali.py": p.serializeDALI,
	}
}

// errProblem is what a script reports in one line and with status 2, as assets/python/program.py does.
var errProblem = errors.New("error")

func problem(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errProblem}, args...)...)
}

// python runs one of dalirun's programs.
func (p *process) python(ctx context.Context) int {
	if slices.Contains(p.args, "-c") {
		return probe.Python(ctx, p.args[1:], p.stdin, p.stdout, p.stderr)
	}
	if err := record.Write(p.stdout, p.args, p.environ); err != nil {
		fmt.Fprintln(p.stderr, "stub:", err)
		return 70
	}
	if len(p.args) < 2 {
		fmt.Fprintln(p.stderr, "stub: there is no interactive Python")
		return 2
	}
	text, err := os.ReadFile(p.args[1])
	if err != nil {
		fmt.Fprintf(p.stderr, "python3: can't open file '%s': %v\n", p.args[1], err)
		return 2
	}
	script := p.scripts()[filepath.Base(p.args[1])]
	if script == nil || !bytes.Contains(text, []byte("def main()")) {
		fmt.Fprintf(p.stderr, "stub: %s is none of dalirun's programs\n", p.args[1])
		return 2
	}
	facts, err := script(p.args[2:])
	switch {
	case errors.Is(err, errProblem):
		fmt.Fprintln(p.stderr, err)
		return 2
	case err != nil:
		fmt.Fprintf(p.stderr, "Traceback (most recent call last):\n  File \"%s\", line 1, in <module>\n%v\n", p.args[1], err)
		return 1
	}
	fmt.Fprintln(p.stdout, facts)
	return 0
}

// parse reads a script's arguments. All but booleans are required, as in the real scripts.
func parse(args []string, define func(*flag.FlagSet)) error {
	f := flag.NewFlagSet("", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	define(f)
	if err := f.Parse(args); err != nil {
		return problem("%w", err)
	}
	if f.NArg() > 0 {
		return problem("unrecognized arguments: %s", strings.Join(f.Args(), " "))
	}
	var given, missing []string
	f.Visit(func(f *flag.Flag) { given = append(given, f.Name) })
	f.VisitAll(func(f *flag.Flag) {
		boolean, ok := f.Value.(interface{ IsBoolFlag() bool })
		if (!ok || !boolean.IsBoolFlag()) && !slices.Contains(given, f.Name) {
			missing = append(missing, "--"+f.Name)
		}
	})
	if len(missing) > 0 {
		return problem("the following arguments are required: %s", strings.Join(missing, ", "))
	}
	return nil
}

// network and normalization are arguments of a recipe. The stub's only network is the default one, stretched pictures
// its only preprocessing.
func network(f *flag.FlagSet) {
	f.String("network", "", "")
	f.Int("classes", 0, "")
	f.Int("size", 0, "")
}

func normalization(f *flag.FlagSet) {
	f.String("mean", "", "")
	f.String("std", "", "")
}

// torch fails as `import torch` does in an image without it.
func (p *process) torch() error {
	if p.env("NVIDIA_PYTORCH_VERSION") == "" {
		return errors.New("ModuleNotFoundError: No module named 'torch'")
	}
	return nil
}

func (p *process) seedWeights(args []string) (string, error) {
	a := artifact{Kind: kindWeights}
	var output string
	if err := errors.Join(p.torch(), parse(args, func(f *flag.FlagSet) {
		network(f)
		normalization(f)
		f.Int64Var(&a.Seed, "seed", 0, "")
		f.StringVar(&output, "output", "", "")
	})); err != nil {
		return "", err
	}
	return fmt.Sprintf(`{"seed": %d}`, a.Seed), a.write(output)
}

func (p *process) exportONNX(args []string) (string, error) {
	var weights, output string
	if err := errors.Join(p.torch(), parse(args, func(f *flag.FlagSet) {
		network(f)
		f.StringVar(&weights, "weights", "", "")
		f.Bool("trusted", false, "")
		f.StringVar(&output, "output", "", "")
	})); err != nil {
		return "", err
	}
	sum, err := fileSum(weights)
	if err != nil {
		return "", problem("%w", err)
	}
	if p.fails("bad-onnx") {
		return "{}", os.WriteFile(output, []byte("not ONNX\n"), 0o600)
	}
	return `{"opset": 13}`, artifact{Kind: kindONNX, Weights: sum}.write(output)
}

func (p *process) castONNX(args []string) (string, error) {
	var model, output string
	if err := errors.Join(p.torch(), parse(args, func(f *flag.FlagSet) {
		f.StringVar(&model, "model", "", "")
		f.StringVar(&output, "output", "", "")
	})); err != nil {
		return "", err
	}
	if p.fails("no-modelopt") {
		return "", problem("this image cannot cast to fp16: " +
			"it has no AutoCast (modelopt.onnx.autocast), or not what that needs " +
			"(No module named 'modelopt'); use NVIDIA's PyTorch image of the release, or --precision fp32")
	}
	a, err := readArtifact(model, kindONNX)
	if err != nil {
		return "", problem("%w", err)
	}
	a.FP16 = true
	return `{"fp16_weights": 1.0, "opset": 13}`, a.write(output)
}

func (p *process) reference(args []string) (string, error) {
	var weights, picture, dir string
	if err := errors.Join(p.torch(), parse(args, func(f *flag.FlagSet) {
		network(f)
		normalization(f)
		f.StringVar(&weights, "weights", "", "")
		f.Bool("trusted", false, "")
		f.StringVar(&picture, "image", "", "")
		f.StringVar(&dir, "output-dir", "", "")
	})); err != nil {
		return "", err
	}
	data, err := os.ReadFile(picture)
	if err != nil {
		return "", problem("%w", err)
	}
	sum, err := fileSum(weights)
	if err != nil {
		return "", problem("%w", err)
	}
	tensor := preprocess(data)
	return "{}", errors.Join(
		writeFloats(filepath.Join(dir, "tensor.f32"), tensor),
		writeFloats(filepath.Join(dir, "logits.f32"), infer(tensor, sum)),
	)
}

func writeFloats(name string, values []float32) error {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, values); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o600)
}

func (p *process) serializeDALI(args []string) (string, error) {
	a := artifact{Kind: kindDALI}
	var output, size string
	var threads int
	var load float64
	if err := errors.Join(p.importDALI(), parse(args, func(f *flag.FlagSet) {
		f.Int("size", 0, "")
		normalization(f)
		f.StringVar(&a.Device, "device", "", "")
		f.IntVar(&a.MaxBatch, "max-batch", 0, "")
		f.IntVar(&threads, "threads", 0, "")
		if slices.Contains(args, "gpu") {
			f.Float64Var(&load, "hw-decoder-load", 0, "")
			f.StringVar(&size, "picture-size", "", "")
		}
		f.StringVar(&output, "output", "", "")
	})); err != nil {
		return "", err
	}
	switch {
	case a.Device != "cpu" && a.Device != "gpu":
		return "", problem("argument --device: invalid choice: '%s' (choose from 'cpu', 'gpu')", a.Device)
	case a.MaxBatch < 1 || threads < 1:
		return "", problem("--max-batch is %d, --threads is %d, want at least 1", a.MaxBatch, threads)
	case load < 0 || load > 1:
		return "", problem("--hw-decoder-load is %g, want 0 to 1", load)
	case a.Device == "gpu" && !p.hasGPU():
		return "", problem("a DALI pipeline for the GPU needs the NVIDIA driver, which this container does not have: " +
			"start it with GPUs, or use --device cpu (dalirun: --accel cpu)")
	}
	return fmt.Sprintf(`{"dali": "%s"}`, p.env("DALI_VERSION")), a.write(output)
}

// importDALI fails as `import nvidia.dali` does where it is not on the path: the server images from 24.05 on have it
// aside, the PyTorch images have it.
func (p *process) importDALI() error {
	const wheel = "/opt/tritonserver/backends/dali/wheel/dali"
	if p.env("NVIDIA_PYTORCH_VERSION") != "" || slices.Contains(filepath.SplitList(p.env("PYTHONPATH")), wheel) {
		return nil
	}
	return errors.New("ModuleNotFoundError: No module named 'nvidia'")
}
