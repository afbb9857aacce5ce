package triton

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dalirun/dalirun/triton/pb"
)

// A Prepared is an inference that was encoded once, to be sent often: sending
// it neither encodes nor copies its tensors. Use [Prepare] to make one. It is
// safe for concurrent use and belongs to no client.
type Prepared struct {
	model string
	// message is the encoded request: its tensors' data are the caller's own
	// bytes, between what protobuf puts around them.
	message mem.BufferSlice
	bytes   int
}

// Prepare encodes an inference as a batch of equal elements: the first
// dimension of each input, which must be 1, is sent as copies, and the input's
// data that many times. copies is at least 1; with 1 the request is sent as it
// is, whatever its shapes. The data is shared with the caller, also among the
// copies, and must not change as long as the Prepared is used. An inference
// that [Client.Infer] would refuse is [ErrInvalid].
func Prepare(req InferRequest, copies int) (*Prepared, error) {
	p, err := prepare(req, copies)
	if err != nil {
		return nil, refuse("prepare an inference with model", req.Model, err)
	}
	return p, nil
}

func prepare(req InferRequest, copies int) (*Prepared, error) {
	if copies < 1 {
		return nil, fmt.Errorf("%d copies are asked for; it takes 1 or more", copies)
	}
	// The data is no part of the message that protobuf encodes. Raw contents
	// have the highest field number, so they follow it.
	encoded, err := encodeRequest(req)
	if err != nil {
		return nil, err
	}
	encoded.RawInputContents = nil
	if copies > 1 {
		for _, input := range encoded.GetInputs() {
			if len(input.GetShape()) == 0 || input.GetShape()[0] != 1 {
				return nil, fmt.Errorf("input %s has shape %v, not a batch of 1, which copies are made of",
					input.GetName(), input.GetShape())
			}
			input.Shape = slices.Clone(input.GetShape()) // the caller's
			input.Shape[0] = int64(copies)
		}
	}
	head, err := proto.Marshal(encoded)
	if err != nil {
		return nil, err
	}
	p := &Prepared{model: req.Model}
	for _, t := range req.Inputs {
		head = protowire.AppendTag(head, rawInputContents, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(len(t.Data))*uint64(copies))
		p.add(head)
		for range copies {
			p.add(t.Data)
		}
		head = nil
	}
	p.add(head)
	return p, nil
}

// rawInputContents is the number of that field in a ModelInferRequest.
const rawInputContents = 7

func (p *Prepared) add(data []byte) {
	if len(data) > 0 {
		p.message = append(p.message, mem.SliceBuffer(data))
		p.bytes += len(data)
	}
}

// Size returns how many bytes the request has as it is sent.
func (p *Prepared) Size() int { return p.bytes }

// Send runs a prepared inference and returns the size of the answer in bytes.
// That the server answered it is all that is looked at: the answer is not
// decoded. Errors are as those of [Client.Infer].
func (c *Client) Send(ctx context.Context, p *Prepared) (int, error) {
	const op = "infer with model"
	var size answerSize
	err := c.conn.Invoke(ctx, pb.GRPCInferenceService_ModelInfer_FullMethodName, p, &size,
		grpc.StaticMethod(), grpc.ForceCodecV2(preparedCodec{}))
	if err != nil {
		return 0, c.failure(ctx, op, p.model, err)
	}
	if size == 0 {
		return 0, misread(op, p.model, "the answer is empty")
	}
	return int(size), nil
}

// answerSize is what is kept of the answer to a prepared inference.
type answerSize int

// preparedCodec passes encoded requests on, and counts what is answered.
type preparedCodec struct{}

// Marshal implements the codec; v is a *Prepared.
func (preparedCodec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.(*Prepared)
	if !ok {
		return nil, errors.New("not a prepared inference")
	}
	return p.message, nil // without a pool behind them, these buffers are never freed
}

// Unmarshal implements the codec; v is an *answerSize.
func (preparedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	size, ok := v.(*answerSize)
	if !ok {
		return errors.New("not the size of an answer")
	}
	*size = answerSize(data.Len())
	return nil
}

// Name implements the codec: what is sent is protobuf.
func (preparedCodec) Name() string { return "proto" }
