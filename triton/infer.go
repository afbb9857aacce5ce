package triton

import (
	"context"
	"fmt"

	"github.com/dalirun/dalirun/triton/pb"
)

// classification is the parameter of a requested output that makes the server
// answer its largest elements with their labels instead of the tensor.
const classification = "classification"

// An InferRequest is one inference.
type InferRequest struct {
	Model string
	// Version is empty for the one that the model's version policy picks.
	Version string
	// ID comes back in the response and appears in the server's log. Optional.
	ID     string
	Inputs []Tensor
	// Outputs are those to answer; every output of the model if empty.
	Outputs []RequestedOutput
}

// A RequestedOutput is an output that the server is to answer.
type RequestedOutput struct {
	Name string
	// Classes above 0 asks for that many of the largest elements as [Bytes]
	// "value:index[:label]", to be read with [ParseClass], instead of the
	// tensor. The server caps it at the element count and refuses FP16.
	Classes int
}

// An InferResponse is the answer to an [InferRequest].
type InferResponse struct {
	Model   string
	Version string
	ID      string
	Outputs []Tensor
}

// Output returns the output of that name.
func (r InferResponse) Output(name string) (Tensor, error) {
	for _, t := range r.Outputs {
		if t.Name == name {
			return t, nil
		}
	}
	return Tensor{}, fmt.Errorf("model %s answered no output %s", r.Model, name)
}

// Infer runs one inference. Inputs whose data and shape disagree are refused
// before they are sent, and so is an answer that breaks the protocol.
func (c *Client) Infer(ctx context.Context, req InferRequest) (InferResponse, error) {
	return c.infer(ctx, "infer with model", req)
}

func (c *Client) infer(ctx context.Context, op string, req InferRequest) (InferResponse, error) {
	encoded, err := encodeRequest(req)
	if err != nil {
		return InferResponse{}, refuse(op, req.Model, err)
	}
	answer, err := c.rpc.ModelInfer(ctx, encoded)
	if err != nil {
		return InferResponse{}, c.failure(ctx, op, req.Model, err)
	}
	resp, err := decodeResponse(answer)
	if err != nil {
		return InferResponse{}, misread(op, req.Model, "the answer breaks the protocol: %v", err)
	}
	return resp, nil
}

// encodeRequest sends every tensor as raw contents: protobuf would otherwise
// encode each element on its own, and cannot hold FP16 at all.
func encodeRequest(req InferRequest) (*pb.ModelInferRequest, error) {
	out := &pb.ModelInferRequest{
		ModelName:        req.Model,
		ModelVersion:     req.Version,
		Id:               req.ID,
		Inputs:           make([]*pb.ModelInferRequest_InferInputTensor, len(req.Inputs)),
		Outputs:          make([]*pb.ModelInferRequest_InferRequestedOutputTensor, len(req.Outputs)),
		RawInputContents: make([][]byte, len(req.Inputs)),
	}
	for i, t := range req.Inputs {
		if err := t.Validate(); err != nil {
			return nil, err
		}
		out.Inputs[i] = &pb.ModelInferRequest_InferInputTensor{
			Name: t.Name, Datatype: string(t.Datatype), Shape: t.Shape,
		}
		out.RawInputContents[i] = t.Data
	}
	for i, o := range req.Outputs {
		out.Outputs[i] = &pb.ModelInferRequest_InferRequestedOutputTensor{Name: o.Name}
		switch {
		case o.Classes < 0:
			return nil, fmt.Errorf("%d classes are asked of output %s; it takes 1 or more", o.Classes, o.Name)
		case o.Classes > 0:
			out.Outputs[i].Parameters = map[string]*pb.InferParameter{
				classification: {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: int64(o.Classes)}},
			}
		}
	}
	return out, nil
}

func decodeResponse(answer *pb.ModelInferResponse) (InferResponse, error) {
	outputs, raw := answer.GetOutputs(), answer.GetRawOutputContents()
	if len(outputs) != len(raw) {
		return InferResponse{}, fmt.Errorf("%d outputs, but raw contents for %d", len(outputs), len(raw))
	}
	resp := InferResponse{
		Model:   answer.GetModelName(),
		Version: answer.GetModelVersion(),
		ID:      answer.GetId(),
		Outputs: make([]Tensor, len(outputs)),
	}
	for i, o := range outputs {
		t := Tensor{Name: o.GetName(), Datatype: Datatype(o.GetDatatype()), Shape: o.GetShape(), Data: raw[i]}
		if err := t.Validate(); err != nil {
			return InferResponse{}, err
		}
		resp.Outputs[i] = t
	}
	return resp, nil
}
