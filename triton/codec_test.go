package triton

import (
	"testing"

	"google.golang.org/grpc/mem"
)

// The codec takes what Send gives it and nothing else: a gRPC call with other messages would be garbage.
func TestPreparedCodec(t *testing.T) {
	t.Parallel()
	if _, err := (preparedCodec{}).Marshal("text"); err == nil {
		t.Error("text is taken for a prepared inference")
	}
	answer := mem.BufferSlice{mem.SliceBuffer("answer")}
	if err := (preparedCodec{}).Unmarshal(answer, new(int)); err == nil {
		t.Error("a number is taken for the size of an answer")
	}
	var size answerSize
	if err := (preparedCodec{}).Unmarshal(answer, &size); err != nil || size != 6 {
		t.Errorf("%d bytes, %v", size, err)
	}
}
