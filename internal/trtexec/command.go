package trtexec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/release"
)

// Build is what an engine is built from and for. Paths are those in the container.
type Build struct {
	ONNX  string // the model
	Plan  string // where the engine goes
	Input string // name of the model's input, Nx3xSizexSize
	Size  int    // of each side of a picture, in pixels

	MinBatch, OptBatch, MaxBatch int // the optimization profile: 1 ≤ min ≤ opt ≤ max

	Precision release.Precision
	// Cast says that the ONNX model computes in fp16 already: TensorRT 11 builds what the model says, older ones need
	// their flag as well.
	Cast        bool
	TimingCache string // read if it is there, written; empty for none
	LayerInfo   string // where the layers are described as JSON; empty for none. From TensorRT 8.2
}

// Args returns the arguments, without the program, that make trtexec of a TensorRT build an engine and not benchmark
// it. What this TensorRT cannot do is an error, never left out: an engine must not silently be fp32. fp16 on TensorRT
// 11 or newer is [ErrNeedsCast], unless the model was cast.
func Args(tensorRT release.Version, b Build) ([]string, error) {
	d, err := dialectOf(tensorRT)
	if err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	args := []string{
		"--onnx=" + b.ONNX,
		"--saveEngine=" + b.Plan,
		b.shape(minShapes, b.MinBatch),
		b.shape(optShapes, b.OptBatch),
		b.shape(maxShapes, b.MaxBatch),
	}
	if d.ExplicitBatch != "" {
		args = append(args, d.ExplicitBatch)
	}
	switch {
	case b.Precision == release.FP32:
		args = append(args, noTF32)
	case d.FP16 != "":
		args = append(args, d.FP16)
	case !b.Cast:
		return nil, fmt.Errorf("TensorRT %s: %w", tensorRT, ErrNeedsCast)
	}
	args = append(args, d.BuildOnly)
	if b.TimingCache != "" {
		args = append(args, "--timingCacheFile="+b.TimingCache)
	}
	if b.LayerInfo != "" {
		if d.LayerInfo == "" {
			return nil, fmt.Errorf("trtexec of TensorRT %s cannot describe layers: that came with 8.2", tensorRT)
		}
		args = append(args, d.Verbosity, d.LayerInfo+b.LayerInfo)
	}
	return args, nil
}

// The options that [BuildOf] reads back.
const (
	minShapes = "--minShapes"
	optShapes = "--optShapes"
	maxShapes = "--maxShapes"
	noTF32    = "--noTF32" // of fp32 alone
)

// BuildOf reads back from an argv that [Args] or [Command] made what a user chose: the batch sizes and the precision.
// ok is false if argv builds no engine.
func BuildOf(argv []string) (b Build, ok bool) {
	b.Precision = release.FP16
	for _, arg := range argv {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case minShapes:
			b.MinBatch = batchOf(value)
		case optShapes:
			b.OptBatch = batchOf(value)
		case maxShapes:
			b.MaxBatch = batchOf(value)
		case noTF32:
			b.Precision = release.FP32
		}
	}
	if b.MinBatch == 0 || b.OptBatch == 0 || b.MaxBatch == 0 {
		return Build{}, false
	}
	return b, true
}

// batchOf is the batch of a shape: 64 of "input:64x3x224x224". It is 0 for what is no shape.
func batchOf(shape string) int {
	_, dims, _ := strings.Cut(shape, ":")
	text, _, _ := strings.Cut(dims, "x")
	batch, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return batch
}

func (b Build) check() error {
	switch {
	case b.ONNX == "" || b.Plan == "" || b.Input == "":
		return fmt.Errorf("engine build needs a model, a plan and an input name: have %q, %q, %q", b.ONNX, b.Plan,
			b.Input)
	case b.Size < 1:
		return fmt.Errorf("engine build needs the size of a picture: have %d pixels", b.Size)
	case strings.ContainsAny(b.Input, ":,*'\" "):
		return fmt.Errorf("input name %q has a character with a meaning of its own in trtexec's shapes", b.Input)
	case b.MinBatch < 1 || b.OptBatch < b.MinBatch || b.MaxBatch < b.OptBatch:
		return fmt.Errorf("batch sizes %d, %d, %d are not 1 ≤ min ≤ opt ≤ max", b.MinBatch, b.OptBatch, b.MaxBatch)
	case b.Precision != release.FP16 && b.Precision != release.FP32:
		return fmt.Errorf("precision %q is neither fp16 nor fp32", b.Precision)
	case b.Cast && b.Precision != release.FP16:
		return errors.New("an engine in fp32 is asked for from a model that was cast to fp16")
	}
	return nil
}

// PlanVersionArgs returns the arguments, without the program, that make trtexec say which TensorRT built a plan: it
// succeeds on one that was cut, too. It is nil where trtexec cannot: before TensorRT 9.0.
func PlanVersionArgs(tensorRT release.Version, plan string) []string {
	d, err := dialectOf(tensorRT)
	if err != nil || d.PlanVersion == "" {
		return nil
	}
	return []string{"--loadEngine=" + plan, d.PlanVersion}
}

// trtexecPath extends PATH by the folders in which NVIDIA's Triton images have trtexec. Their PyTorch images have it on
// PATH.
const trtexecPath = `PATH="$PATH:/usr/src/tensorrt/bin:/opt/tensorrt/bin"`

// Command returns the argv of a container that builds an engine with the trtexec of a TensorRT, wherever its image has
// it, and then, from TensorRT 9.0 on, has it print which TensorRT the plan names. Its exit status is that of the build.
// Errors are those of [Args].
func Command(tensorRT release.Version, b Build) ([]string, error) {
	args, err := Args(tensorRT, b)
	if err != nil {
		return nil, err
	}
	script := trtexecPath + ` exec trtexec "$@"`
	if planVersion := PlanVersionArgs(tensorRT, b.Plan); planVersion != nil {
		// the engine is built, whatever it prints
		script = trtexecPath + `; trtexec "$@" && { trtexec ` + strings.Join(planVersion, " ") + ` || true; }`
	}
	return append([]string{"sh", "-c", script, "trtexec"}, args...), nil
}

func (b Build) shape(flag string, batch int) string {
	return fmt.Sprintf("%s=%s:%dx3x%dx%d", flag, b.Input, batch, b.Size, b.Size)
}
