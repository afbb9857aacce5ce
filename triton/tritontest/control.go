package tritontest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dalirun/dalirun/triton"
	"github.com/dalirun/dalirun/triton/pb"
)

// An entry is a model and what the server did with it. The server's mutex
// guards all but the Model.
type entry struct {
	Model
	state  triton.State // empty: never asked to load
	reason string
	// failed: its last load did not succeed. The server is not ready until it
	// does, also where the index shows nothing, as for an ensemble whose models
	// did not load.
	failed   bool
	stubless bool         // its Python process is gone
	waiting  []chan error // callers of the load that is under way
	stats    stats
	schedule schedule
}

func byName(a, b *entry) int { return strings.Compare(a.Name, b.Name) }

// find returns the model of that name, nil if there is none.
func (s *Server) find(name string) *entry {
	i := slices.IndexFunc(s.models, func(e *entry) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return s.models[i]
}

// loaded returns a model that is ready to serve, or the error that Triton has.
func (s *Server) loaded(name, version string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version != "" {
		if n, err := strconv.ParseInt(version, 10, 64); err != nil || n < 1 {
			return nil, status.Errorf(codes.InvalidArgument, "failed to get model version from specified "+
				"version string '%s' (details: stol), version should be an integral value > 0", version)
		}
	}
	e := s.find(name)
	switch {
	case e == nil || e.state == "":
		return nil, status.Errorf(codes.NotFound, "Request for unknown model: '%s' is not found", name)
	case version != "" && version != "1":
		return nil, status.Errorf(codes.NotFound, "Request for unknown model: '%s' version %s is not found", name, version)
	case e.state != triton.StateReady:
		return nil, status.Errorf(codes.NotFound, "Request for unknown model: '%s' has no available versions", name)
	}
	return e, nil
}

// load starts to load a model, or joins the load that is under way; the
// channel gets its end.
func (s *Server) load(name string) <-chan error {
	end := make(chan error, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(name)
	switch {
	case e == nil, e.Unreadable:
		end <- status.Errorf(codes.Internal, "failed to load '%s', failed to poll from model repository", name)
	case e.waiting != nil:
		e.waiting = append(e.waiting, end)
	case e.state == triton.StateReady:
		end <- nil // Triton loads anew only what changed on disk
	default:
		e.waiting = []chan error{end}
		s.work.Go(func() { s.finishLoad(e, s.runLoad(e)) })
	}
	return end
}

// A loadFailure is why a load failed, and whether the model's version shows it
// in the index.
type loadFailure struct {
	message string
	listed  string
}

func (s *Server) runLoad(e *entry) *loadFailure {
	for _, name := range e.Requires {
		if err := <-s.load(name); err != nil {
			reason := strings.TrimPrefix(status.Convert(err).Message(), "load failed for model '"+name+"': ")
			return &loadFailure{message: fmt.Sprintf("ensemble '%s' depends on '%s' which has no loaded version. "+
				"Model '%s' loading failed with error: %s", e.Name, name, name, reason)}
		}
	}
	s.mu.Lock()
	e.state, e.reason = triton.StateLoading, ""
	s.mu.Unlock()
	if e.Load == nil {
		return nil
	}
	if err := e.Load(s.ctx); err != nil {
		reason := "Internal: " + err.Error()
		return &loadFailure{message: "version 1 is at UNAVAILABLE state: " + reason + ";\n", listed: reason}
	}
	return nil
}

func (s *Server) finishLoad(e *entry, failure *loadFailure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.failed = failure != nil
	var err error
	switch {
	case failure == nil:
		e.state, e.stubless, e.stats = triton.StateReady, false, stats{}
	case failure.listed != "":
		e.state, e.reason = triton.StateUnavailable, failure.listed
	}
	if failure != nil {
		err = status.Errorf(codes.InvalidArgument, "load failed for model '%s': %s", e.Name, failure.message)
	}
	for _, end := range e.waiting {
		end <- err
	}
	e.waiting = nil
}

// KillStub ends the Python process of a model, as `kill -9` does. As in Triton
// the model and the server stay ready, and each inference with the model, or
// with an ensemble that uses it, fails from then on.
func (s *Server) KillStub(model string) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(model)
	if e == nil {
		s.tb.Fatalf("there is no model %s", model)
	}
	e.stubless = true
}

// Restart ends the server's process and starts it again at the same address,
// as `docker kill` and `docker start` do. With explicit model control it is
// live and ready then, and has loaded no model.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.models {
		e.state, e.reason, e.failed, e.stubless, e.stats = "", "", false, false, stats{}
	}
}

// stubFailure is how an inference fails for want of a Python process: that of
// the model itself, or of one that it requires.
func (s *Server) stubFailure(e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.stubless {
		return status.Errorf(codes.Internal, "Stub process '%s_0_0' is not healthy.", e.Name)
	}
	for _, name := range e.Requires {
		if below := s.find(name); below != nil && below.stubless {
			return status.Errorf(codes.Internal, "in ensemble '%s', Stub process '%s_0_0' is not healthy.", e.Name, name)
		}
	}
	return nil
}

// unload takes a model and those that require it out of service.
func (s *Server) unload(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.models {
		if e.state != triton.StateReady || (e.Name != name && !slices.Contains(e.Requires, name)) {
			continue
		}
		e.state, e.reason = triton.StateUnloading, ""
		if e.Unload == nil {
			e.state, e.reason = triton.StateUnavailable, "unloaded"
			continue
		}
		s.work.Go(func() {
			e.Unload(s.ctx)
			s.mu.Lock()
			defer s.mu.Unlock()
			e.state, e.reason = triton.StateUnavailable, "unloaded"
		})
	}
}

// ServerLive implements the RPC.
func (*Server) ServerLive(context.Context, *pb.ServerLiveRequest) (*pb.ServerLiveResponse, error) {
	return &pb.ServerLiveResponse{Live: true}, nil
}

// ServerReady implements the RPC.
func (s *Server) ServerReady(context.Context, *pb.ServerReadyRequest) (*pb.ServerReadyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := slices.ContainsFunc(s.models, func(e *entry) bool {
		return e.failed || e.state == triton.StateLoading || e.state == triton.StateUnloading
	})
	return &pb.ServerReadyResponse{Ready: !busy}, nil
}

// ModelReady implements the RPC.
func (s *Server) ModelReady(_ context.Context, req *pb.ModelReadyRequest) (*pb.ModelReadyResponse, error) {
	_, err := s.loaded(req.GetName(), req.GetVersion())
	return &pb.ModelReadyResponse{Ready: err == nil}, nil
}

// ServerMetadata implements the RPC.
func (*Server) ServerMetadata(context.Context, *pb.ServerMetadataRequest) (*pb.ServerMetadataResponse, error) {
	return &pb.ServerMetadataResponse{
		Name:       "triton",
		Version:    "2.51.0",
		Extensions: []string{"classification", "model_repository", "model_configuration", "binary_tensor_data", "statistics"},
	}, nil
}

// ModelMetadata implements the RPC.
func (s *Server) ModelMetadata(_ context.Context, req *pb.ModelMetadataRequest) (*pb.ModelMetadataResponse, error) {
	e, err := s.loaded(req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	return &pb.ModelMetadataResponse{
		Name:     e.Name,
		Versions: []string{"1"},
		Platform: e.platform(),
		Inputs:   describe(e.Inputs),
		Outputs:  describe(e.Outputs),
	}, nil
}

func (e *entry) platform() string {
	if e.Platform == "" {
		return "python"
	}
	return e.Platform
}

func describe(tensors []triton.TensorMetadata) []*pb.ModelMetadataResponse_TensorMetadata {
	var out []*pb.ModelMetadataResponse_TensorMetadata
	for _, t := range tensors {
		out = append(out, &pb.ModelMetadataResponse_TensorMetadata{
			Name: t.Name, Datatype: string(t.Datatype), Shape: t.Shape,
		})
	}
	return out
}

// ModelConfig implements the RPC.
func (s *Server) ModelConfig(_ context.Context, req *pb.ModelConfigRequest) (*pb.ModelConfigResponse, error) {
	e, err := s.loaded(req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	config := &pb.ModelConfig{
		Name:         e.Name,
		Platform:     e.Platform,
		MaxBatchSize: int32(e.MaxBatch), //nolint:gosec // a test's own small number
		VersionPolicy: &pb.ModelVersionPolicy{PolicyChoice: &pb.ModelVersionPolicy_Latest_{
			Latest: &pb.ModelVersionPolicy_Latest{NumVersions: 1},
		}},
	}
	if e.Execute != nil {
		config.InstanceGroup = []*pb.ModelInstanceGroup{{
			Name: e.Name, Kind: pb.ModelInstanceGroup_KIND_CPU, Count: int32(e.instances()), //nolint:gosec // as above
		}}
	}
	if e.DynamicBatching {
		config.SchedulingChoice = &pb.ModelConfig_DynamicBatching{DynamicBatching: &pb.ModelDynamicBatching{}}
	}
	if len(e.Steps) > 0 {
		ensemble := &pb.ModelEnsembling{}
		for _, name := range e.Steps {
			ensemble.Step = append(ensemble.Step, &pb.ModelEnsembling_Step{ModelName: name, ModelVersion: -1})
		}
		config.SchedulingChoice = &pb.ModelConfig_EnsembleScheduling{EnsembleScheduling: ensemble}
	}
	for _, t := range e.Inputs {
		config.Input = append(config.Input, &pb.ModelInput{Name: t.Name, DataType: configType(t.Datatype), Dims: e.dims(t)})
	}
	for _, t := range e.Outputs {
		config.Output = append(config.Output,
			&pb.ModelOutput{Name: t.Name, DataType: configType(t.Datatype), Dims: e.dims(t)})
	}
	return &pb.ModelConfigResponse{Config: config}, nil
}

// dims is a tensor's shape as a configuration has it: without the batch.
func (e *entry) dims(t triton.TensorMetadata) []int64 {
	if e.MaxBatch > 0 {
		return t.Shape[1:]
	}
	return t.Shape
}

func configType(d triton.Datatype) pb.DataType {
	if d == triton.Bytes {
		return pb.DataType_TYPE_STRING
	}
	return pb.DataType(pb.DataType_value["TYPE_"+string(d)])
}

// RepositoryIndex implements the RPC.
func (s *Server) RepositoryIndex(
	_ context.Context, req *pb.RepositoryIndexRequest,
) (*pb.RepositoryIndexResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &pb.RepositoryIndexResponse{}
	for _, e := range s.models {
		if req.GetReady() && e.state != triton.StateReady {
			continue
		}
		index := &pb.RepositoryIndexResponse_ModelIndex{Name: e.Name, State: string(e.state), Reason: e.reason}
		if e.state != "" {
			index.Version = "1"
		}
		answer.Models = append(answer.Models, index)
	}
	return answer, nil
}

// RepositoryModelLoad implements the RPC.
func (s *Server) RepositoryModelLoad(
	ctx context.Context, req *pb.RepositoryModelLoadRequest,
) (*pb.RepositoryModelLoadResponse, error) {
	select {
	case err := <-s.load(req.GetModelName()):
		return &pb.RepositoryModelLoadResponse{}, err
	case <-ctx.Done():
		return nil, asStatus(ctx.Err())
	}
}

// RepositoryModelUnload implements the RPC. As in Triton, a model that is not
// loaded or not there is no error.
func (s *Server) RepositoryModelUnload(
	_ context.Context, req *pb.RepositoryModelUnloadRequest,
) (*pb.RepositoryModelUnloadResponse, error) {
	s.unload(req.GetModelName())
	return &pb.RepositoryModelUnloadResponse{}, nil
}

// asStatus keeps a status, and a context's end, and makes anything else what a
// failing model gives.
func asStatus(err error) error {
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	if s := status.FromContextError(err); s.Code() != codes.Unknown {
		return s.Err()
	}
	return status.Error(codes.Internal, err.Error())
}
