package parity

import "github.com/dalirun/dalirun/internal/release"

// Bounds returns the bounds of the three comparisons. For another precision it
// returns bounds that bound nothing, which Check refuses.
//
// Preprocessing is in normalized units, in which one step of an 8-bit colour is
// about 0.0175 and a picture spans about ±2.6. DALI 2.4.0 on a CPU against PIL's
// bilinear resize, 19 pictures: mean at worst 0.0032, max 0.175; on an H100
// (nvJPEG): mean 0.0048, max 0.17. Errors that must be seen: bicubic for bilinear
// has a mean of 0.021 and a max of 0.505, means off by 0.02 have 0.089, deviations
// off by a tenth 0.098, swapped channels 1.2. The cosine is not bounded: wrong
// deviations leave it at 0.99998.
//
// The model's logits are bounded relative to their largest, since seeded weights
// have another scale than trained ones. ONNX Runtime against PyTorch, both fp32:
// 1e-5; TensorRT in fp32 is built without TF32 so that the same bounds hold on a GPU
// (not seen there). TensorRT 10.6 in fp16 on an H100: 0.005, cosine 0.999998; five seeded
// models in simulated fp16: 0.015, cosine 0.9998 at worst.
//
// The whole adds what the difference between two JPEG decoders does to the logits:
// five seeded models and 19 pictures on a CPU have a cosine of 0.992 at worst, a
// coffee cup 0.995 and 0.1 of the largest logit, and on an H100 the decoders differ
// about twice as much. Means off by 0.02 have 0.92, bicubic 0.87, swapped channels
// 0.28, another picture 0.61 at the nearest. The top class is not bounded: two close
// classes can change places within that error.
func Bounds(precision release.Precision) (preprocessing, model, ensemble Bound) {
	switch precision {
	case release.FP32:
		return Bound{MeanAbs: 0.01, MaxAbs: 0.35},
			Bound{MaxRel: 0.001, MinCosine: 0.99999, TopEqual: true},
			Bound{MaxRel: 0.3, MinCosine: 0.97}
	case release.FP16:
		return Bound{MeanAbs: 0.01, MaxAbs: 0.35},
			Bound{MaxRel: 0.05, MinCosine: 0.999},
			Bound{MaxRel: 0.3, MinCosine: 0.95}
	}
	return Bound{}, Bound{}, Bound{}
}
