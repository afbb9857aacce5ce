package main

import (
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
	FP16     bool   `json:"fp16,omitempty"`     // plan
	Shapes   string `json:"shapes,omitempty"`   // plan: min, opt and max
	MaxBatch int    `json:"max_batch,omitempty"`
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

func (a artifact) write(name string) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append([]byte(magic), append(text, '\n')...), 0o600)
}

func readArtifact(name, kind string) (artifact, error) {
	var a artifact
	data, err := os.ReadFile(name)
	if err != nil {
		return a, err
	}
	if len(data) < len(magic) || string(data[:len(magic)]) != magic {
		return a, fmt.Errorf("%s is no %s", name, kind)
	}
	if err := json.Unmarshal(data[len(magic):], &a); err != nil {
		return a, fmt.Errorf("%s: %w", name, err)
	}
	if a.Kind != kind {
		return a, fmt.Errorf("%s is of kind %q, not %s", name, a.Kind, kind)
	}
	return a, nil
}

func fileSum(name string) (string, error) {
	data, err := os.ReadFile(name)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}
