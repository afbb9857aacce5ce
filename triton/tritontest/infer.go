package tritontest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
)

// ModelInfer implements the RPC.
func (s *Server) ModelInfer(ctx context.Context, req *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	e, err := s.loaded(req.GetModelName(), req.GetModelVersion())
	if err != nil {
		return nil, err
	}
	inputs, err := e.inputs(req)
	if err != nil {
		return nil, err
	}
	requested, err := e.requested(req)
	if err != nil {
		return nil, err
	}
	if e.Infer == nil {
		return nil, status.Errorf(codes.Unimplemented, "model '%s' has no Infer function", e.Name)
	}
	start := time.Now()
	batch := e.batch(inputs)
	var outputs []triton.Tensor
	execution := execution{size: batch}
	if err = s.stubFailure(e); err == nil {
		execution, err = s.execute(ctx, e, batch)
	}
	if err == nil {
		outputs, err = e.Infer(ctx, inputs)
	}
	s.record(e, request{batch: batch, took: time.Since(start), execution: execution}, err)
	if err != nil {
		return nil, asStatus(err)
	}
	answer := &pb.ModelInferResponse{ModelName: e.Name, ModelVersion: "1", Id: req.GetId()}
	for _, want := range requested {
		t, err := e.output(outputs, want)
		if err != nil {
			return nil, err
		}
		answer.Outputs = append(answer.Outputs, &pb.ModelInferResponse_InferOutputTensor{
			Name: t.Name, Datatype: string(t.Datatype), Shape: t.Shape,
		})
		answer.RawOutputContents = append(answer.RawOutputContents, t.Data)
	}
	return answer, nil
}

// invalid is the refusal of a request that does not fit the model.
func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// inputs checks a request's inputs as Triton does and returns them in the
// model's order.
func (e *entry) inputs(req *pb.ModelInferRequest) ([]triton.Tensor, error) {
	sent, raw := req.GetInputs(), req.GetRawInputContents()
	if len(sent) != len(raw) {
		return nil, invalid("expected %d raw inputs but got %d for model '%s'", len(sent), len(raw), e.Name)
	}
	byName := make(map[string]triton.Tensor, len(sent))
	for i, t := range sent {
		byName[t.GetName()] = triton.Tensor{
			Name: t.GetName(), Datatype: triton.Datatype(t.GetDatatype()), Shape: t.GetShape(), Data: raw[i],
		}
	}
	if len(sent) != len(e.Inputs) {
		return nil, invalid("[request id: %s] expected %d inputs but got %d inputs for model '%s'",
			requestID(req), len(e.Inputs), len(sent), e.Name)
	}
	var out []triton.Tensor
	for _, want := range e.Inputs {
		t, ok := byName[want.Name]
		if !ok {
			return nil, invalid("unexpected inference input '%s' for model '%s'", sent[len(out)].GetName(), e.Name)
		}
		if err := e.checkInput(t, want); err != nil {
			return nil, invalid("[request id: %s] %s", requestID(req), err)
		}
		out = append(out, t)
	}
	return out, nil
}

func requestID(req *pb.ModelInferRequest) string {
	if req.GetId() == "" {
		return "<id_unknown>"
	}
	return req.GetId()
}

func (e *entry) checkInput(t triton.Tensor, want triton.TensorMetadata) error {
	if t.Datatype != want.Datatype {
		return fmt.Errorf("inference input '%s' data-type is '%s', but model '%s' expects '%s'",
			t.Name, t.Datatype, e.Name, want.Datatype)
	}
	fits := len(t.Shape) == len(want.Shape)
	for i := 0; fits && i < len(t.Shape); i++ {
		fits = t.Shape[i] >= 0 && (want.Shape[i] < 0 || want.Shape[i] == t.Shape[i])
	}
	if !fits {
		return fmt.Errorf("unexpected shape for input '%s' for model '%s'. Expected %s, got %s",
			t.Name, e.Name, shape(want.Shape), shape(t.Shape))
	}
	if e.MaxBatch > 0 && t.Shape[0] > int64(e.MaxBatch) {
		return fmt.Errorf("inference request batch-size must be <= %d for '%s'", e.MaxBatch, e.Name)
	}
	if err := t.Validate(); err != nil {
		return fmt.Errorf("input byte size mismatch for input '%s' for model '%s': %w", t.Name, e.Name, err)
	}
	return nil
}

func shape(dims []int64) string {
	return strings.ReplaceAll(fmt.Sprint(dims), " ", ",")
}

// requested returns the outputs to answer: those asked for, or all.
func (e *entry) requested(req *pb.ModelInferRequest) ([]triton.RequestedOutput, error) {
	var out []triton.RequestedOutput
	for _, o := range req.GetOutputs() {
		if !slices.ContainsFunc(e.Outputs, func(t triton.TensorMetadata) bool { return t.Name == o.GetName() }) {
			return nil, invalid("unexpected inference output '%s' for model '%s'", o.GetName(), e.Name)
		}
		want := triton.RequestedOutput{Name: o.GetName()}
		if p, ok := o.GetParameters()["classification"]; ok {
			if p.GetInt64Param() <= 0 {
				return nil, invalid("invalid value for 'classification' parameter, expected >= 0")
			}
			want.Classes = int(p.GetInt64Param())
		}
		out = append(out, want)
	}
	if len(out) > 0 {
		return out, nil
	}
	for _, t := range e.Outputs {
		out = append(out, triton.RequestedOutput{Name: t.Name})
	}
	return out, nil
}

// output picks one of the tensors that Infer returned, as classes if asked.
func (e *entry) output(outputs []triton.Tensor, want triton.RequestedOutput) (triton.Tensor, error) {
	i := slices.IndexFunc(outputs, func(t triton.Tensor) bool { return t.Name == want.Name })
	if i < 0 {
		return triton.Tensor{}, status.Errorf(codes.Internal, "model '%s' made no output '%s'", e.Name, want.Name)
	}
	if err := outputs[i].Validate(); err != nil {
		return triton.Tensor{}, status.Error(codes.Internal, err.Error())
	}
	if want.Classes == 0 {
		return outputs[i], nil
	}
	t, err := e.classes(outputs[i], want.Classes)
	if err != nil {
		return triton.Tensor{}, status.Error(codes.Internal, err.Error())
	}
	return t, nil
}

// classes applies the classification extension to each item of a batch.
func (e *entry) classes(t triton.Tensor, k int) (triton.Tensor, error) {
	values, err := t.Float32s()
	if err != nil {
		return triton.Tensor{}, err
	}
	batch := 1
	if e.MaxBatch > 0 {
		batch = int(t.Shape[0])
	}
	if batch == 0 || len(values) == 0 {
		return triton.NewBytes(t.Name, nil, 0)
	}
	var lines [][]byte
	for item := range slices.Chunk(values, len(values)/batch) {
		for _, c := range triton.TopK(item, k, e.Labels) {
			lines = append(lines, []byte(classLine(c)))
		}
	}
	if e.MaxBatch == 0 {
		return triton.NewBytes(t.Name, lines)
	}
	return triton.NewBytes(t.Name, lines, int64(batch), int64(len(lines)/batch))
}

// classLine prints a class as C++'s to_string does: six digits, "nan", "inf".
func classLine(c triton.Class) string {
	value := strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(float64(c.Value), 'f', 6, 64), "+"))
	line := value + ":" + strconv.Itoa(c.Index)
	if c.Label != "" {
		line += ":" + c.Label
	}
	return line
}

// ModelStatistics implements the RPC.
func (s *Server) ModelStatistics(
	_ context.Context, req *pb.ModelStatisticsRequest,
) (*pb.ModelStatisticsResponse, error) {
	if req.GetName() != "" {
		if _, err := s.loaded(req.GetName(), req.GetVersion()); err != nil {
			return nil, invalid("requested model '%s' is not available", req.GetName())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &pb.ModelStatisticsResponse{}
	for _, e := range s.models {
		if e.state == triton.StateReady && (req.GetName() == "" || req.GetName() == e.Name) {
			answer.ModelStats = append(answer.ModelStats, e.statistics())
		}
	}
	return answer, nil
}
