package triton

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

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
		return nil, c.failure(ctx, "list model repository", "", err)
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
// that does not load has the server's reason and matches [ErrInvalid], or
// [ErrNotFound] if the repository has no such model. When ctx ends first, the
// server goes on loading. It needs a server that controls its models
// explicitly; another is [ErrInvalid] too.
func (c *Client) Load(ctx context.Context, model string) error {
	defer c.classifiers.forgetAll() // when it ends: until then the server answers for the model of before
	_, err := c.rpc.RepositoryModelLoad(ctx, &pb.RepositoryModelLoadRequest{ModelName: model})
	if err != nil {
		failed := c.failure(ctx, "load model", model, err)
		c.refineLoad(ctx, failed)
		return failed
	}
	return nil
}

// refineLoad gives the failure of a load the code of its class. Triton says of
// a model that it cannot find what it says of one whose configuration it
// cannot read: that this was an internal error.
func (c *Client) refineLoad(ctx context.Context, failed *Error) {
	refuseControl(failed)
	unpolled := strings.HasSuffix(failed.Message, "failed to poll from model repository")
	if failed.Code != codes.Internal || !unpolled {
		return
	}
	index, err := c.RepositoryIndex(ctx)
	if err != nil {
		return // the first failure tells more
	}
	failed.Code = codes.NotFound
	if slices.ContainsFunc(index, func(e IndexEntry) bool { return e.Name == failed.Model }) {
		failed.Code = codes.InvalidArgument
	}
}

// refuseControl is for a server with another mode of model control: Triton
// calls it unavailable, but it will never do what it is asked for.
func refuseControl(failed *Error) {
	refused := strings.HasPrefix(failed.Message, "explicit model load / unload is not allowed")
	if failed.Code == codes.Unavailable && refused {
		failed.Code = codes.InvalidArgument
	}
}

// Unload takes a model out of service, together with the ensembles that use
// it. It returns when that has begun: the index says when it is done. A model
// that is not loaded is no error. It needs a server that controls its models
// explicitly; another is [ErrInvalid].
func (c *Client) Unload(ctx context.Context, model string) error {
	defer c.classifiers.forgetAll()
	_, err := c.rpc.RepositoryModelUnload(ctx, &pb.RepositoryModelUnloadRequest{ModelName: model})
	if err != nil {
		failed := c.failure(ctx, "unload model", model, err)
		refuseControl(failed)
		return failed
	}
	return nil
}
