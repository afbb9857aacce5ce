package steps

import (
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/triton/pb"
)

const (
	// warmupDir is where Triton looks for the files of model_warmup, beside the version folders.
	warmupDir     = "warmup"
	warmupPicture = "picture.jpg"
)

// warmup is the batch that Triton has each instance of m execute before the model is ready, and so before any request:
// one of the largest size. Triton does so whatever the backend (core, src/backend_model_instance.cc): with
// tritonserver 2.51, each of four instances got 64 requests of a picture at once. There is none on the CPU, where it
// would only make the start longer.
//
// The share of the GPU's JPEG engine is fixed by the first batch that a DALI instance sees, as a number of pictures
// that it takes of each later one. On an H100, DALI alone (2.4, four instances as they are configured here) decoded
// batches of 64, 128 and 256 at 10,700, 10,400 and 10,000 pictures/s after a single picture, at 26,300, 17,300 and
// 12,900 after 64 of them, and at 27,800, 26,600 and 29,200 after 256. So DALI's instances get real pictures, and as
// many as there may ever be. The values of the classifier's tensors do not matter; what its first execution loads
// does: a first request took 541 ms there.
func (c configuration) warmup(m model) ([]*pb.ModelWarmup, error) {
	if c.lane != target.GPU {
		return nil, nil
	}
	name, input := modelInput, &pb.ModelWarmup_Input{
		DataType: pb.DataType_TYPE_FP32, Dims: []int64{3, int64(c.size), int64(c.size)},
		InputDataType: &pb.ModelWarmup_Input_ZeroData{ZeroData: true},
	}
	if m.name == c.names.DALI {
		sample, err := Sample()
		if err != nil {
			return nil, err
		}
		name, input = daliInput, &pb.ModelWarmup_Input{
			DataType: pb.DataType_TYPE_UINT8, Dims: []int64{int64(len(sample.Data))},
			InputDataType: &pb.ModelWarmup_Input_InputDataFile{InputDataFile: warmupPicture},
		}
	}
	return []*pb.ModelWarmup{{
		Name: "the largest batch", BatchSize: uint32(c.maxBatch), //nolint:gosec // 1 to 256
		Inputs: map[string]*pb.ModelWarmup_Input{name: input},
	}}, nil
}

// warmupFiles are the files that m's warm-up reads, by name.
func (c configuration) warmupFiles(m model) (map[string][]byte, error) {
	if c.lane != target.GPU || m.name != c.names.DALI {
		return nil, nil
	}
	sample, err := Sample()
	return map[string][]byte{warmupPicture: sample.Data}, err
}
