package triton

import (
	"context"

	"github.com/dalirun/dalirun/triton/pb"
)

// A State is what the server is doing with a version of a model.
type State string

// The states in a repository's index. A model that the server was never asked
// to load has none.
const (
	StateReady       State = "READY"
	StateLoading     State = "LOADING"
	StateUnloading   State = "UNLOADING"
	StateUnavailable State = "UNAVAILABLE"
	StateUnknown     State = "UNKNOWN"
)

// An IndexEntry is one version of a model in the repository, or the model as
// such, without version and state, before the server was asked to load it.
type IndexEntry struct {
	Name    string
	Version string
	State   State
	// Reason says why a version is unavailable: the error of its load, or
	// "unloaded". It is empty for an ensemble whose models did not load; the
	// error of [Client.Load] says more.
	Reason string
}

// RepositoryIndex lists the models of the repository and their states, by
// name.
func (c *Client) RepositoryIndex(ctx context.Context) ([]IndexEntry, error) {
	answer, err := c.rpc.RepositoryIndex(ctx, &pb.RepositoryIndexRequest{})
	if err != nil {
		return nil, c.failure("list model repository", "", err)
	}
	entries := make([]IndexEntry, len(answer.GetModels()))
	for i, m := range answer.GetModels() {
		entries[i] = IndexEntry{
			Name: m.GetName(), Version: m.GetVersion(), State: State(m.GetState()), Reason: m.GetReason(),
		}
	}
	return entries, nil
}

// Load loads a model and the models that it is composed of, or loads it anew
// if its files changed, and returns when it is ready. The error of a model
// that does not load has the server's reason and mostly matches [ErrInvalid].
// When ctx ends first, the server goes on loading. It needs a server that
// controls its models explicitly.
func (c *Client) Load(ctx context.Context, model string) error {
	_, err := c.rpc.RepositoryModelLoad(ctx, &pb.RepositoryModelLoadRequest{ModelName: model})
	if err != nil {
		return c.failure("load model", model, err)
	}
	return nil
}

// Unload takes a model out of service, together with the ensembles that use
// it. It returns when that has begun: the index says when it is done. A model
// that is not loaded is no error.
func (c *Client) Unload(ctx context.Context, model string) error {
	_, err := c.rpc.RepositoryModelUnload(ctx, &pb.RepositoryModelUnloadRequest{ModelName: model})
	if err != nil {
		return c.failure("unload model", model, err)
	}
	return nil
}
