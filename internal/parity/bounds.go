package parity

// Precision is the arithmetic of the served model; with it goes the lane.
type Precision string

// The precisions that are served.
const (
	FP32 Precision = "fp32" // ONNX Runtime and DALI on a CPU
	FP16 Precision = "fp16" // TensorRT and DALI on a GPU
)

// Bounds returns the bounds of the three comparisons. For another precision it
// returns bounds that bound nothing, which Check refuses.
//
// Preprocessing is in normalized units, in which one step of an 8-bit colour is
// about 0.0175 and a picture spans about ±2.6. Measured against PIL's bilinear
// resize:
//
//   - DALI 2.4.0 on a CPU, a photograph of 600 × 400 as JPEG of quality 75 to
//     95: mean 0.0026, max 0.12, cosine 0.99998. Errors that must be seen: means
//     off by 2/255 have a mean of 0.035, bicubic for bilinear 0.021, means and
//     deviations of 0.5 have 0.54, swapped channels 1.2.
//   - DALI 2.4.0 on an H100 (nvJPEG): mean 0.0048, max 0.17.
//
// Logits are bounded relative to their largest, since seeded weights have
// another scale than trained ones. Measured on an H100 with TensorRT 10.6 in
// fp16 against PyTorch in fp32: max 0.28 of 55, which is 0.005, cosine 0.999998.
//
// Estimates, not measured: the model in fp32, where two runtimes differ by the
// order of their sums only; and both bounds of the whole, wider than the model's
// by what the differences in preprocessing do to the logits.
func Bounds(precision Precision) (preprocessing, model, ensemble Bound) {
	switch precision {
	case FP32:
		return Bound{MeanAbs: 0.01, MaxAbs: 0.5, MinCosine: 0.9995},
			Bound{MaxRel: 0.001, MinCosine: 0.99999, TopEqual: true},
			Bound{MaxRel: 0.05, MinCosine: 0.998, TopEqual: true}
	case FP16:
		return Bound{MeanAbs: 0.015, MaxAbs: 0.5, MinCosine: 0.9995},
			Bound{MaxRel: 0.02, MinCosine: 0.9999, TopEqual: true},
			Bound{MaxRel: 0.08, MinCosine: 0.997, TopEqual: true}
	}
	return Bound{}, Bound{}, Bound{}
}
