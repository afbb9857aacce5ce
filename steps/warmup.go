package steps

import (
	"cmp"

	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/triton/pb"
)

const (
	// warmupDir is where Triton looks for the files of model_warmup, beside the version folders.
	warmupDir     = "warmup"
	warmupPicture = "picture.jpg"
	// warmupBatch is how many pictures warm an instance where no batch is preferred, or the largest batch if that is
	// smaller. It is the usual preferred one.
	warmupBatch = 64
)

// warmup is the batch that Triton has each instance of m execute before the model is ready, and so before any request.
// Triton does so whatever the backend (core, src/backend_model_instance.cc): with tritonserver 2.51, each of four
// instances got 64 requests of a picture at once. There is none on the CPU, where it would only make the start longer.
//
// The share of the GPU's JPEG engine is fixed by the first batch that a DALI instance sees: on an H100 the engine took
// 12 to 16 of 64 pictures after a single one, 23 to 33 after a load of 256 requests, and with a share of 0.9 then 43 to
// 45. So DALI's instances get real pictures. The values of the classifier's tensors do not matter; what its first
// execution loads does: a first request took 541 ms there.
func (c configuration) warmup(m model) ([]*pb.ModelWarmup, error) {
	if c.lane != target.GPU {
		return nil, nil
	}
	name, input := modelInput, &pb.ModelWarmup_Input{
		DataType: pb.DataType_TYPE_FP32, Dims: []int64{3, 224, 224},
		InputDataType: &pb.ModelWarmup_Input_ZeroData{ZeroData: true},
	}
	if m.name == DALIModel {
		sample, err := Sample()
		if err != nil {
			return nil, err
		}
		name, input = daliInput, &pb.ModelWarmup_Input{
			DataType: pb.DataType_TYPE_UINT8, Dims: []int64{int64(len(sample.Data))},
			InputDataType: &pb.ModelWarmup_Input_InputDataFile{InputDataFile: warmupPicture},
		}
	}
	batch := cmp.Or(c.preferredBatch, min(warmupBatch, c.maxBatch))
	return []*pb.ModelWarmup{{
		Name: "a full batch", BatchSize: uint32(batch), //nolint:gosec // 1 to 256
		Inputs: map[string]*pb.ModelWarmup_Input{name: input},
	}}, nil
}

// warmupFiles are the files that m's warm-up reads, by name.
func (c configuration) warmupFiles(m model) (map[string][]byte, error) {
	if c.lane != target.GPU || m.name != DALIModel {
		return nil, nil
	}
	sample, err := Sample()
	return map[string][]byte{warmupPicture: sample.Data}, err
}
