package steps_test

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/tritontest"
)

const (
	side    = 224
	plane   = side * side
	classes = 1000
	block   = 32 // pixels of the network's view
)

// preprocess is what PyTorch does to a picture: decode, resize to 224×224, normalize, channels first. A picture that
// cannot be decoded is nil.
func preprocess(picture []byte) []float32 {
	decoded, _, err := image.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil
	}
	mean, deviation := [3]float32{0.485, 0.456, 0.406}, [3]float32{0.229, 0.224, 0.225}
	size := decoded.Bounds().Size()
	tensor := make([]float32, 3*plane)
	for i := range plane {
		x, y := i%side*size.X/side, i/side*size.Y/side
		r, g, b, _ := decoded.At(x, y).RGBA()
		for c, v := range [3]uint32{r, g, b} {
			tensor[c*plane+i] = (float32(v)/0xffff - mean[c]) / deviation[c]
		}
	}
	return tensor
}

// weights of the network: each class sees the 3×7×7 means of the tensor's blocks.
var weights = sync.OnceValue(func() []float32 {
	random := rand.New(rand.NewPCG(1, 2))
	w := make([]float32, classes*3*(plane/block/block))
	for i := range w {
		w[i] = float32(random.NormFloat64())
	}
	return w
})

// noise is what DALI's answers are off by: up to five thousandths.
var noise = sync.OnceValue(func() []float32 {
	random := rand.New(rand.NewPCG(3, 4))
	out := make([]float32, 3*plane)
	for i := range out {
		out[i] = float32(random.Float64()-0.5) * 0.01
	}
	return out
})

// network classifies a tensor. Each shift is another model.
func network(shift int, tensor []float32) []float32 {
	const n = side / block
	features := make([]float32, 3*n*n)
	for i := range features {
		c, y, x := i/(n*n), i/n%n, i%n
		for row := range block {
			for _, v := range tensor[c*plane+(y*block+row)*side+x*block:][:block] {
				features[i] += v / (block * block)
			}
		}
	}
	w := weights()
	logits := make([]float32, classes)
	for class := range logits {
		sum := float32(0)
		for i, v := range w[(class+shift)%classes*len(features):][:len(features)] {
			sum += v * features[i]
		}
		logits[class] = sum
	}
	return logits
}

// otherPicture is no coffee.
var otherPicture = sync.OnceValue(func() []byte {
	img := image.NewRGBA(image.Rect(0, 0, 64, 64))
	for i := range 64 * 64 {
		img.Set(i%64, i/64, color.RGBA{uint8(i % 64 * 4), uint8(i / 64 * 4), 40, 255})
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, nil); err != nil {
		panic(err)
	}
	return out.Bytes()
})

// faults are what is wrong with the served models; nil is nothing.
type faults struct {
	picture  func([]byte) []byte       // in place of the picture that DALI gets
	tensor   func([]float32) []float32 // of what DALI answers
	logits   func([]float32) []float32 // of what the classifier answers
	ensemble func(tensor, logits []float32) []float32

	load map[string]func(context.Context) error
}

// dali is the served preprocessing. Its answers are as near to PyTorch's as DALI's are: a few thousandths off.
func (f faults) dali(picture []byte) []float32 {
	if f.picture != nil {
		picture = f.picture(picture)
	}
	tensor := slices.Clone(cached(picture))
	for i, v := range noise() {
		tensor[i] += v
	}
	if f.tensor != nil {
		tensor = f.tensor(tensor)
	}
	return tensor
}

func (f faults) classifier(tensor []float32) []float32 {
	logits := network(0, tensor)
	if f.logits != nil {
		logits = f.logits(logits)
	}
	return logits
}

// cached preprocesses each usual picture once: a race detector makes decoding slow.
func cached(picture []byte) []float32 {
	switch {
	case bytes.Equal(picture, coffee()):
		return coffeeTensor()
	case bytes.Equal(picture, otherPicture()):
		return otherTensor()
	default:
		return preprocess(picture)
	}
}

var (
	coffeeTensor = sync.OnceValue(func() []float32 { return preprocess(coffee()) })
	otherTensor  = sync.OnceValue(func() []float32 { return preprocess(otherPicture()) })
)

var labels = sync.OnceValue(func() []string {
	text, err := dalirun.Assets.ReadFile("model_repository/resnet50_trt/labels.txt")
	if err != nil {
		panic(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
})

// served are the models of a lane.
func served(lane target.Lane, f faults) []tritontest.Model {
	classifier := "resnet50_onnx"
	if lane == target.GPU {
		classifier = "resnet50_trt"
	}
	tensor := []int64{-1, 3, side, side}
	ensemble := tritontest.Classifier("ensemble_dali_resnet50", labels(), func(picture []byte) ([]float32, error) {
		tensor := f.dali(picture)
		logits := f.classifier(tensor)
		if f.ensemble != nil {
			logits = f.ensemble(tensor, logits)
		}
		return logits, nil
	})
	ensemble.Requires = []string{"dali", classifier}
	ensemble.Load = f.load["ensemble_dali_resnet50"]
	return []tritontest.Model{
		{
			Name: "dali", MaxBatch: 256, Load: f.load["dali"],
			Inputs:  []triton.TensorMetadata{{Name: "DALI_INPUT_0", Datatype: triton.Uint8, Shape: []int64{-1, -1}}},
			Outputs: []triton.TensorMetadata{{Name: "DALI_OUTPUT_0", Datatype: triton.FP32, Shape: tensor}},
			Infer: func(_ context.Context, in []triton.Tensor) ([]triton.Tensor, error) {
				return one("DALI_OUTPUT_0", f.dali(in[0].Data), 1, 3, side, side)
			},
		},
		{
			Name: classifier, MaxBatch: 256, Load: f.load[classifier],
			Inputs:  []triton.TensorMetadata{{Name: "input", Datatype: triton.FP32, Shape: tensor}},
			Outputs: []triton.TensorMetadata{{Name: "output", Datatype: triton.FP32, Shape: []int64{-1, classes}}},
			Infer: func(_ context.Context, in []triton.Tensor) ([]triton.Tensor, error) {
				tensor, err := in[0].Float32s()
				if err != nil {
					return nil, err
				}
				logits := f.classifier(tensor)
				return one("output", logits, 1, int64(len(logits)))
			},
		},
		ensemble,
	}
}

func one(name string, values []float32, shape ...int64) ([]triton.Tensor, error) {
	t, err := triton.NewFloat32(name, values, shape...)
	return []triton.Tensor{t}, err
}
