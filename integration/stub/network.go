package main

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

const (
	tensorSize = 3 * 224 * 224
	classes    = 1000
	// taps is how many values of the tensor a logit depends on.
	taps = 32

	// How far the real tools were off on an H100: nvJPEG against PIL in normalized units on average, and less than fp16
	// against fp32 relative to the largest logit (0.005), since here every logit is off by as much.
	daliError = 0.0048
	fp16Error = 0.001
)

// preprocess stands for decoding, resizing and normalizing: other bytes give another tensor.
func preprocess(picture []byte) []float32 {
	r := generator(string(picture))
	tensor := make([]float32, tensorSize)
	for i := range tensor {
		tensor[i] = 5*r.Float32() - 2.5
	}
	return tensor
}

// infer stands for ResNet50: other weights or another tensor give other logits.
func infer(tensor []float32, weights string) []float32 {
	r := generator(weights)
	logits := make([]float32, classes)
	for i := range logits {
		for range taps {
			logits[i] += tensor[r.IntN(len(tensor))] * (2*r.Float32() - 1)
		}
	}
	return logits
}

// off returns values that differ from the given ones by at most most.
func off(values []float32, most float32) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = v + most*float32(1-2*(i%2))
	}
	return out
}

// largest is the largest absolute value.
func largest(values []float32) float32 {
	var most float32
	for _, v := range values {
		most = max(most, v, -v)
	}
	return most
}

func generator(seed string) *rand.Rand {
	sum := sha256.Sum256([]byte(seed))
	seed1, seed2 := binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])
	return rand.New(rand.NewPCG(seed1, seed2)) //nolint:gosec // it must be the same each time
}
