package steps

import (
	"context"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// Tools are what the steps' work is done with. No result depends on which they are.
type Tools struct {
	Runtime     container.Runtime
	KV          KV
	Fetcher     Fetcher
	TimingCache TimingCache
	// BuildArgs and CABundle are what image builds need of this machine: the user's package index, and certificates that
	// they must trust behind a proxy that opens TLS.
	BuildArgs map[string]string
	CABundle  []byte
	// Memory is the memory limit of each container, the server's among them, in bytes; 0 is [DefaultMemory].
	Memory int64
	// GPUMemory asks the host for the memory of the GPU with the least free among those that the run uses. Nil where
	// the host cannot tell.
	GPUMemory func(context.Context) (trtexec.GPUMemory, error)
	// Handover is nil where nobody but the run uses its server.
	Handover *Handover
}

// KV remembers small values across runs, such as the digest that an image had when it was last here.
type KV interface {
	Recall(key string) (string, bool)
	// Remember keeps value under key. It writes nothing where that is there already.
	Remember(key, value string) error
}

// TimingCache keeps TensorRT's timing caches, each under the name of what it was measured on. They only save time: what
// is lost is measured again.
type TimingCache interface {
	// Load copies the cache of a name to the new file path, and says whether there was one.
	Load(ctx context.Context, name, path string) (bool, error)
	// Keep replaces the cache of a name by the file path.
	Keep(ctx context.Context, name, path string) error
	// Forget drops the cache of a name, if there is one.
	Forget(ctx context.Context, name string) error
}

// Fetcher downloads files.
type Fetcher interface {
	// Fetch downloads url into the new file path, and returns the URL that answered in the end: others may have been
	// redirected to it. More than most bytes are an error, after which nothing is at path. onProgress gets bytes; a
	// total of zero is unknown.
	Fetch(
		ctx context.Context, url, path string, most int64, onProgress func(current, total int64),
	) (from string, err error)
}
