package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The tensors of a verification that failed: little-endian FP32.
const (
	ServedTensor    = TensorsFolder + "/served-tensor.f32"    // DALI's
	ServedLogits    = TensorsFolder + "/served-logits.f32"    // the model's, for the reference tensor
	ServedAnswer    = TensorsFolder + "/served-answer.f32"    // the ensemble's, for the picture
	ReferenceTensor = TensorsFolder + "/reference-tensor.f32" // PyTorch's
	ReferenceLogits = TensorsFolder + "/reference-logits.f32" // PyTorch's
)

// EncodeFloats returns values as little-endian FP32.
func EncodeFloats(values []float32) []byte {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return data
}

// DecodeFloats returns the values of what has a name, in little-endian FP32.
func DecodeFloats(name string, data []byte) ([]float32, error) {
	if len(data)%4 != 0 {
		return nil, fmt.Errorf("%s holds %d bytes, which are no FP32 values", name, len(data))
	}
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values, nil
}
