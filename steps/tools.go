package steps

import (
	"context"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// Tools do the steps' work. No result depends on them.
type Tools struct {
	Runner      container.Runner
	Images      container.Images
	Builder     container.Builder // of the local images; nil where the runtime builds none
	KV          KV
	Fetcher     Fetcher
	TimingCache TimingCache
	// BuildArgs and CABundle are for image builds: the user's package index, and the certificates that a build must
	// trust behind a proxy that opens TLS.
	BuildArgs map[string]string
	CABundle  []byte
	// Memory is the memory limit of each container, the server's among them, in bytes; 0 is [DefaultMemory].
	Memory int64
	// Shm is the size of the server's shared memory, /dev/shm, in bytes; 0 is [DefaultShm].
	Shm int64
	// GPUMemory returns the memory of the run's GPU that has the least free. It is nil where the host cannot measure
	// it.
	GPUMemory func(context.Context) (trtexec.GPUMemory, error)
	// Evidence is nil if nobody keeps what steps find.
	Evidence Evidence
	// GPUTurn has one job at a time build on the run's GPUs. It is nil where the run has no GPUs of this host, or has
	// its turn already.
	GPUTurn *GPUTurn
	// Neighbours returns the programs that compute on the run's GPUs and are not the workspace's own. It is nil where
	// the host cannot tell.
	Neighbours func(context.Context) ([]host.Process, error)
	// Gone returns the digests of what a pull of an image by its digest needs and its registry has not. It is nil where
	// nobody can be asked.
	Gone func(ctx context.Context, ref string) ([]string, error)
	// Handover is nil if only the run itself uses its server.
	Handover *Handover
}

// KV remembers small values across runs, such as the digest that an image had when it was last here.
type KV interface {
	Recall(key string) (string, bool)
	// Remember keeps value under key. It writes nothing if the key has that value already.
	Remember(key, value string) error
}

// TimingCache keeps TensorRT's timing caches by [trtexec.TimingCacheKey]. They only save time: TensorRT measures again
// what is lost.
type TimingCache interface {
	// Load copies the cache of a name to the new file path, and reports whether there was one.
	Load(ctx context.Context, name, path string) (bool, error)
	// Keep replaces the cache of a name by the file path.
	Keep(ctx context.Context, name, path string) error
	// Forget drops the cache of a name, if there is one.
	Forget(ctx context.Context, name string) error
}

// Fetcher downloads files.
type Fetcher interface {
	// Fetch downloads url into the new file path, and returns the URL that answered, which differs from url after a
	// redirect. More than most bytes are an error, after which there is no file. onProgress gets bytes; a total of zero
	// is unknown.
	Fetch(
		ctx context.Context, url, path string, most int64, onProgress func(current, total int64),
	) (from string, err error)
}
