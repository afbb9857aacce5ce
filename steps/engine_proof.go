package steps

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
)

// Engine is what was proven of a TensorRT engine: the content of engine.json, beside the plan. What the TensorRT that built it does not
// tell is left out.
type Engine struct {
	TensorRT string `json:"tensorrt"`
	// ReadBack says that the plan itself names this TensorRT; else it is what the image says of itself.
	ReadBack  bool           `json:"tensorrt_read_back"`
	GPU       string         `json:"gpu"`                // that was asked for: its model, or where it is
	GPUUUID   string         `json:"gpu_uuid,omitempty"` // that trtexec says it took
	GPUBy     GPUProof       `json:"gpu_by,omitempty"`
	Compute   string         `json:"compute,omitempty"`
	Precision PrecisionProof `json:"precision"`
	Inputs    []Binding      `json:"inputs,omitempty"`
	Outputs   []Binding      `json:"outputs,omitempty"`
	Profile   *Profile       `json:"profile,omitempty"`
	Bytes     int64          `json:"bytes"`
	SHA256    string         `json:"sha256"`           // hexadecimal
	Doubts    []string       `json:"doubts,omitempty"` // what is not proven, each with why: a warning of every run that uses the engine
}

// Profile is the range of shapes that an engine takes, and the one that it is tuned for: the batch, then those of a picture.
type Profile struct {
	Input string  `json:"input"`
	Min   []int64 `json:"min"`
	Opt   []int64 `json:"opt"`
	Max   []int64 `json:"max"`
}

// PrecisionProof says how it is known that an engine has the precision that was asked for.
type PrecisionProof struct {
	Asked release.Precision `json:"asked"`
	By    Proof             `json:"by"`
	// Half of All things of floating point are in half precision: tensors or layers with weights, or bytes of the plan by ProofSize, of
	// which All are those of the ONNX model in fp32.
	Half int64 `json:"half"`
	All  int64 `json:"all"`
}

// Proof is a way to know an engine's precision.
type Proof string

// The proofs, the best first.
const (
	ProofTensors Proof = "tensors"         // the types of the layers' inputs and outputs
	ProofWeights Proof = "weights"         // the types of the layers' weights, where a profile hides those of the tensors
	ProofSize    Proof = "size of weights" // the plan's size beside the ONNX model's, where layers are not described: before TensorRT 8.2
)

// Figures of ResNet50 on an H100, TensorRT 10.6: built with fp16, 320 of 322 tensors of floating point and all 53 layers with weights are
// half precision; with fp32, none of 324 and none of 53. TensorRT may leave layers in fp32 that are faster so.
const halfFloor = 0.5

// The plan of fp16 had 0.52 of the ONNX model's bytes, that of fp32 1.01.
const halfSize = 0.75

// ResultEngine is the result of build-engine: what was proven of the engine, an [Engine].
const ResultEngine = "engine"

// provePrecision returns the proof from the layers that trtexec exported, or else from sizes: the plan's and that of the ONNX model in fp32.
func provePrecision(asked release.Precision, l layers, plan, onnx int64) PrecisionProof {
	switch {
	case l.Tensors.All > l.Untold: // else those that are told may be inputs and outputs alone, which are fp32
		return PrecisionProof{asked, ProofTensors, int64(l.Tensors.Half), int64(l.Tensors.All)}
	case l.Weights.All > 0:
		return PrecisionProof{asked, ProofWeights, int64(l.Weights.Half), int64(l.Weights.All)}
	default:
		return PrecisionProof{asked, ProofSize, plan, onnx}
	}
}

// share is that of half precision, from 0 to 1. By size it is one or the other.
func (p PrecisionProof) share() float64 {
	if p.All == 0 {
		return 0
	}
	of := float64(p.Half) / float64(p.All)
	switch {
	case p.By != ProofSize:
		return of
	case of < halfSize:
		return 1
	default:
		return 0
	}
}

func (p PrecisionProof) String() string {
	if p.By == ProofSize {
		return fmt.Sprintf("%s by the plan's size, %s for a model of %s", p.Asked, bytesize.Format(p.Half), bytesize.Format(p.All))
	}
	what := p.By.counted()
	if p.Asked == release.FP32 {
		return fmt.Sprintf("fp32 in all of %d %s", p.All, what)
	}
	return fmt.Sprintf("fp16 in %.1f %% of %d %s", 100*p.share(), p.All, what)
}

// check refuses an engine of another precision than was asked for.
func (p PrecisionProof) check() error {
	switch share := p.share(); {
	case p.Asked == release.FP16 && share < halfFloor:
		return pipeline.Faultf(pipeline.ContainerFailed,
			"look in its log for what kept fp16 away; GPUs of compute capability 6.1 and before 5.3 have no fast fp16, and --precision fp32 is for them",
			"the engine is fp32 although fp16 was asked for: %s", p.seen())
	case p.Asked == release.FP32 && share > 0:
		return pipeline.Faultf(pipeline.ContainerFailed, "use --precision fp16 if that is what you want; an engine that is fp16 cannot be held to the bounds of fp32",
			"the engine is fp16 although fp32 was asked for: %s", p.seen())
	}
	return nil
}

func (p PrecisionProof) seen() string {
	if p.By == ProofSize {
		return fmt.Sprintf("its plan has %s, the ONNX model in fp32 has %s", bytesize.Format(p.Half), bytesize.Format(p.All))
	}
	return fmt.Sprintf("%d of its %d %s are half precision", p.Half, p.All, p.By.counted())
}

// counted is what a proof counts.
func (p Proof) counted() string {
	if p == ProofTensors {
		return "tensors"
	}
	return "layers with weights"
}

func (e Engine) String() string {
	parts := []string{e.Precision.String(), "TensorRT " + e.TensorRT}
	if p := e.Profile; p != nil {
		parts = append(parts, fmt.Sprintf("batch %d/%d/%d", p.Min[0], p.Opt[0], p.Max[0]))
	}
	return strings.Join(append(parts, bytesize.Format(e.Bytes)), ", ")
}

// checkSize finds a plan that was cut: trtexec said how large the engine is that it made, and a full disk can end the copy of it.
func (f buildFacts) checkSize(plan int64) error {
	if off := math.Abs(float64(plan)/mib - f.MiB); f.MiB == 0 || off <= f.Exact {
		return nil
	}
	return pipeline.Faultf(pipeline.ContainerFailed, "a full disk is the usual reason: free space where the cache is, or name another with --cache-dir, then run again",
		"the engine was cut: %s of %s were saved", bytesize.Format(plan), bytesize.Format(int64(f.MiB*mib)))
}

// checkProfile compares the profile that trtexec built for, if it told it, with the batches that were asked for.
func (f buildFacts) checkProfile(o Options) error {
	p := f.Profile
	if p == nil || p.Min[0] == 1 && p.Opt[0] == int64(o.OptBatch) && p.Max[0] == int64(o.MaxBatch) {
		return nil
	}
	return pipeline.Faultf(pipeline.ContainerFailed, "look in its log for what it made of --minShapes, --optShapes and --maxShapes",
		"the engine was built for batches of %d to %d, best at %d; asked for was 1 to %d, best at %d", p.Min[0], p.Max[0], p.Opt[0], o.MaxBatch, o.OptBatch)
}

// checkVersion compares the TensorRT that a plan names with that of the image. Parts that either leaves out are not compared.
func checkVersion(plan, image string) error {
	p, err := release.ParseVersion(plan)
	if err != nil {
		return nil //nolint:nilerr // trtexec did not say one
	}
	i, err := release.ParseVersion(image)
	if err != nil {
		return nil //nolint:nilerr // the image did not
	}
	if p.Build == 0 || i.Build == 0 {
		p.Build, i.Build = 0, 0
	}
	if p == i {
		return nil
	}
	return pipeline.Faultf(pipeline.ContainerFailed, "the image holds two: use NVIDIA's plain -py3 image of a release",
		"the engine was built by TensorRT %s, and the image says that it has %s", p, i)
}

// fileSum returns the size of a file and the SHA-256 of its content, in hexadecimal.
func fileSum(ctx context.Context, name string) (size int64, sum string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	size, err = io.Copy(h, &contextReader{ctx, f})
	return size, hex.EncodeToString(h.Sum(nil)), err
}

func readEngine(name string) (e Engine, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("read what is known of the engine: %w", err)
	}
	return e, nil
}

func (e Engine) write(name string) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o600)
}
