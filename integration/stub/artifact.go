package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

// artifact is what a stub writes for a result. Each names what it was made of.
type artifact struct {
	Kind     string `json:"kind"`
	Weights  string `json:"weights,omitempty"`  // onnx, plan: SHA-256 of the weights
	Seed     int64  `json:"seed,omitempty"`     // weights
	Device   string `json:"device,omitempty"`   // dali: cpu or gpu
	TensorRT string `json:"tensorrt,omitempty"` // plan: the version that built it
	FP16     bool   `json:"fp16,omitempty"`     // onnx, plan
	Shapes   string `json:"shapes,omitempty"`   // plan: min, opt and max
	MaxBatch int    `json:"max_batch,omitempty"`
	Bytes    int    `json:"bytes,omitempty"` // onnx, plan: the file's own size
}

// The kinds of artifact.
const (
	kindWeights = "weights"
	kindONNX    = "onnx"
	kindPlan    = "plan"
	kindDALI    = "dali"
)

// magic begins an artifact's file.
const magic = "stub artifact\n"

// The sizes of models stand to each other as the real ones do: weights take half the room in fp16.
const (
	bytesFP32 = 40_000
	bytesFP16 = 20_000
)

func (a artifact) write(name string) error {
	if a.Kind == kindONNX || a.Kind == kindPlan {
		a.Bytes = bytesFP32
		if a.FP16 {
			a.Bytes = bytesFP16
		}
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	file := append([]byte(magic), append(text, '\n')...)
	if pad := a.Bytes - len(file); pad > 0 {
		file = append(file, bytes.Repeat([]byte{' '}, pad)...) // JSON all the same
	}
	return os.WriteFile(name, file, 0o600)
}

func readArtifact(name, kind string) (artifact, error) {
	var a artifact
	data, err := os.ReadFile(name)
	if err != nil {
		return a, err
	}
	if len(data) < len(magic) || string(data[:len(magic)]) != magic {
		if kind == kindONNX && isONNX(data) {
			sum := sha256.Sum256(data)
			return artifact{Kind: kindONNX, Weights: hex.EncodeToString(sum[:]), FP16: len(data) < castBelow}, nil
		}
		return a, fmt.Errorf("%s is no %s", name, kind)
	}
	if err := json.Unmarshal(data[len(magic):], &a); err != nil {
		return a, fmt.Errorf("%s: %w", name, err)
	}
	if a.Bytes > 0 && a.Bytes != len(data) {
		return a, fmt.Errorf("%s has %d bytes of %d", name, len(data), a.Bytes)
	}
	if a.Kind != kind {
		return a, fmt.Errorf("%s is of kind %q, not %s", name, a.Kind, kind)
	}
	return a, nil
}

// castBelow parts PyTorch's ResNet50 in fp32, 102 MB, from one that was cast to fp16, 51 MB.
const castBelow = 75_000_000

// isONNX says whether data is a model that a real PyTorch exported, where its image is real and the others are stubs:
// ONNX begins with the field of its version, and no model that matters is small.
func isONNX(data []byte) bool { return len(data) > 1<<20 && data[0] == 0x08 }

func fileSum(name string) (string, error) {
	data, err := os.ReadFile(name)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}
