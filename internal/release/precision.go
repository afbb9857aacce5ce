package release

// Precision is the arithmetic of the served model.
type Precision string

// The precisions.
const (
	// FP16 is fp16 where it is faster, else fp32; GPU lane alone.
	FP16 Precision = "fp16"
	// FP32 is fp32, on a GPU without TF32, which TensorRT takes for it by default and which has fp16's 10 bits of
	// mantissa.
	FP32 Precision = "fp32"
)
