package steps

import (
	"os"

	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// The sizes of what steps make, in bytes, rounded up.
const (
	weightsBytes   = 103e6 // resnet50-11ad3fa6.pth has 102,540,417
	onnxBytes      = 103e6 // every measured export had 102 MB
	engineBytes    = 106e6 // trtexec 10.6 made 103,590,182 for an H100 in fp32, and 52,701,748 in fp16
	referenceBytes = 700e3 // 3·224·224 and 1,000 numbers of 4 bytes
	textBytes      = 200e3 // configurations, labels and a picture; models in a repository are links to the stored ones
)

// Bytes returns the size of the result of a target's step in the cache, in bytes, as measured for ResNet50. It is 0 for
// a step whose result is not stored.
func Bytes(t target.Target, id pipeline.ID) int64 {
	half := int64(1)
	if t.Precision == release.FP16 {
		half = 2
	}
	switch id {
	case IDWeights:
		if t.Weights.Kind == target.File {
			if about, err := os.Stat(t.Weights.Path); err == nil {
				return about.Size()
			}
		}
		return weightsBytes
	case IDExportONNX:
		return onnxBytes
	case IDCastONNX:
		return onnxBytes / 2
	case IDBuildEngine:
		return engineBytes / half
	case IDReference:
		return referenceBytes
	case IDSerializeDALI, IDAssembleRepository:
		return textBytes
	default:
		return 0
	}
}
