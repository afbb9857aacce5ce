package triton

import (
	"strings"
	"testing"
)

// What a model is for stands in its metadata: pictures come as rows of bytes, and classes as one vector for each.
func TestPictureTensors(t *testing.T) {
	t.Parallel()
	bytes := TensorMetadata{Name: "IN", Datatype: Uint8, Shape: []int64{-1, -1}}
	for name, c := range map[string]struct {
		in     []TensorMetadata
		output []int64
		want   string // of the error
	}{
		"classes of a batch":         {[]TensorMetadata{bytes}, []int64{-1, 1000}, ""},
		"classes without a batch":    {[]TensorMetadata{bytes}, []int64{1000}, ""},
		"a batch of one":             {[]TensorMetadata{bytes}, []int64{1, 1000}, ""},
		"as pooling leaves them":     {[]TensorMetadata{bytes}, []int64{-1, 1000, 1, 1}, ""},
		"bytes without a batch":      {[]TensorMetadata{{Name: "IN", Datatype: Uint8, Shape: []int64{-1}}}, []int64{1000}, ""},
		"a tensor":                   {[]TensorMetadata{bytes}, []int64{-1, 3, 224, 224}, "output OUT has shape [-1 3 224 224], not one vector of classes"},
		"a tensor of any size":       {[]TensorMetadata{bytes}, []int64{-1, -1, -1}, "not one vector of classes"},
		"a plane":                    {[]TensorMetadata{bytes}, []int64{1, 224, 224}, "not one vector of classes"},
		"a number":                   {[]TensorMetadata{bytes}, nil, "not one vector of classes"},
		"a tensor in":                {[]TensorMetadata{{Name: "IN", Datatype: FP32, Shape: []int64{-1, 3, 224, 224}}}, []int64{-1, 1000}, "the model has 0 inputs of type UINT8"},
		"decoded pictures":           {[]TensorMetadata{{Name: "IN", Datatype: Uint8, Shape: []int64{-1, 224, 224, 3}}}, []int64{-1, 1000}, "input IN has shape [-1 224 224 3], not one row of bytes"},
		"something beside a picture": {[]TensorMetadata{bytes, {Name: "MORE", Datatype: FP32}}, []int64{-1, 1000}, "the model has 2 inputs"},
	} {
		_, _, err := pictureTensors(ModelMetadata{Inputs: c.in, Outputs: []TensorMetadata{{Name: "OUT", Datatype: FP32, Shape: c.output}}})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
