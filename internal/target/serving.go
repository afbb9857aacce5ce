package target

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/trtexec"
)

// Serving is what a server is given of its hardware, for a batch and for its queues. In a [Request] a zero field is the
// usual one, which [DecideServing] says, with reason and source; docs/performance.md has all of them in a table. Their
// ranges are said by package flagvalue alone. The name of a field in JSON is its key, which users write with hyphens.
type Serving struct {
	// DALIInstances and ClassifierInstances are on each GPU, or on the CPU.
	DALIInstances       int `json:"dali_instances,omitempty"`
	ClassifierInstances int `json:"classifier_instances,omitempty"`
	// DALIThreads are the CPU threads of each DALI instance. 0 in a Target leaves them to what serves: the local image's
	// backend takes one for each CPU that it may use, any other the four of the tutorial.
	DALIThreads int `json:"dali_threads,omitempty"`
	// PreferredBatch is the number of pictures at which a batch waits no longer; 0 in a Target is none.
	PreferredBatch int `json:"preferred_batch,omitempty"`
	// QueueDelay is how long a request waits for others to share its batch.
	QueueDelay time.Duration `json:"queue_delay,omitempty"`
	// QueueLimit is how many requests may wait for each model, and InflightLimit how many of the ensemble may be at each
	// of its steps. Further ones are refused, or wait. 0 is no limit: which one is right depends on the clients, and none
	// was measured. Servers of releases that do not keep to a limit get none.
	QueueLimit    int `json:"queue_limit,omitempty"`
	InflightLimit int `json:"inflight_limit,omitempty"`
	// HWDecoderLoad is the share of a batch that the GPU's JPEG engine decodes; 0 on the cpu lane.
	HWDecoderLoad float64 `json:"hw_decoder_load,omitempty"`
	// Picture is the typical size of a picture, for which that engine allocates ahead; zero on the cpu lane.
	Picture PictureSize `json:"picture_size,omitzero"`
	// CUDAPool, of each GPU, and PinnedPool, of the host, hold the tensors between the models, in bytes. 0 in a Target
	// is the server's own, [TritonCUDAPool] and 256 MiB.
	CUDAPool   int64 `json:"cuda_pool,omitempty"`
	PinnedPool int64 `json:"pinned_pool,omitempty"`
}

// PictureSize is the size of a picture in pixels.
type PictureSize struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// TritonCUDAPool is tritonserver's own pool of GPU memory (--cuda-memory-pool-byte-size), in bytes: the least that is
// worth asking for, and what remains on a GPU that is nearly full. Under batches of 64 it overflowed on the H100
// ("CNMEM_STATUS_OUT_OF_MEMORY, falling back to pinned system memory"): 10,927 pictures/s became 2,191.
const TritonCUDAPool = 64 * mib

const (
	mib = 1 << 20

	// daliInstances, daliThreads and classifierInstances are what was measured on one H100 with 16 cores: up to 11,280
	// pictures/s in batches of 64, where two of each gave 8,730 and one of each 4,458. Six DALI instances of three
	// threads, and eight of four, gave no more. Sixteen threads are as many as there were cores, so fewer cores, or more
	// GPUs, get fewer instances.
	daliInstances, daliThreads, classifierInstances = 4, 4, 2
	// leastDALIInstances are what any GPU gets that has room for them: while one copies, another decodes. On the H100 two
	// of each model answered 7,159 pictures/s to 256 clients, and one of each 3,903.
	leastDALIInstances = 2

	// hwDecoderLoad is what DALI 2 was measured with, besides the hints: 11,034 pictures/s against 6,800 to 7,800
	// without (single pictures, 512 at once), 13,392 against 8,500 to 11,200 (batches of 64, 8 at once). It is always
	// said, since DALI's own default was 0.65, then 0.9 and 0.65 again (its pages of 1.34 to 2.2).
	hwDecoderLoad = 0.9

	// usualPool is the least that a pool is given on a GPU with room.
	usualPool = 256 * mib
	// mostPinned is as much pinned memory as was measured: the host swaps none of it out, and other programs lack it.
	mostPinned = 2048 * mib
	// contextMemory is what the server's process takes of each GPU before it loads a model: that of CUDA, as trtexec's
	// on the H100.
	contextMemory = 526 * mib
)

// usualPicture is the size that the hints were measured with, and that of the picture that dalirun carries.
func usualPicture() PictureSize { return PictureSize{Width: 600, Height: 400} }

// DecideServing returns what the server of a target is given: what was asked for, and the usual for what was not. cpus
// are those of the container engine's host, 0 if they are not known. The target's lane, GPUs, precision and batches
// are decided.
func DecideServing(asked Serving, t Target, cpus int) Serving {
	if !t.Release.LimitsQueues() {
		asked.QueueLimit = 0
	}
	if !t.Release.LimitsInflight() {
		asked.InflightLimit = 0
	}
	if t.Lane != GPU {
		return cpuServing(asked)
	}
	s := asked
	gpus := max(len(t.Chosen), 1)
	s.DALIThreads = cmp.Or(asked.DALIThreads, daliThreads)
	// The engine's batch is preferred by both models, since DALI fills the engine's batches: without a preferred size,
	// clients that send batches of 64 got 3,241 pictures/s in place of 9,215 on the H100. Who tunes the engine for single
	// pictures waits for each of them: 1 as a preferred size would keep requests that wait for a busy instance from
	// sharing a batch.
	if s.PreferredBatch == 0 && t.OptBatch > 1 {
		s.PreferredBatch = t.OptBatch
	}
	s.HWDecoderLoad = cmp.Or(asked.HWDecoderLoad, hwDecoderLoad)
	s.Picture = cmp.Or(asked.Picture, usualPicture())
	s.DALIInstances = cmp.Or(asked.DALIInstances, daliInstances)
	if asked.DALIInstances == 0 && cpus > 0 {
		s.DALIInstances = min(max(cpus/(s.DALIThreads*gpus), leastDALIInstances), daliInstances)
	}
	s.ClassifierInstances = cmp.Or(asked.ClassifierInstances, classifierInstances)
	free, _ := host.Memory(t.Chosen)
	fits := func() bool { return free == 0 || s.memory(t)+s.pool(t) <= free }
	// What was asked for stays, whatever its size.
	for asked.DALIInstances == 0 && s.DALIInstances > 1 && !fits() {
		s.DALIInstances--
	}
	for asked.ClassifierInstances == 0 && s.ClassifierInstances > 1 && !fits() {
		s.ClassifierInstances--
	}
	pool := s.pool(t)
	s.PinnedPool = cmp.Or(asked.PinnedPool, min(pool*int64(gpus), mostPinned))
	if free > 0 {
		left := (free - s.memory(t)) / mib * mib
		pool = min(pool, max(left, TritonCUDAPool))
	}
	s.CUDAPool = cmp.Or(asked.CUDAPool, pool)
	return s
}

// cpuServing is [DecideServing] on the cpu lane. There one instance uses all cores, and a second one would only take
// them from the first. No size of a batch is preferred, since ONNX Runtime is tuned for none. What is of GPUs alone is
// not taken.
func cpuServing(s Serving) Serving {
	s.DALIInstances, s.ClassifierInstances = cmp.Or(s.DALIInstances, 1), cmp.Or(s.ClassifierInstances, 1)
	s.HWDecoderLoad, s.Picture, s.CUDAPool, s.PinnedPool = 0, PictureSize{}, 0, 0
	return s
}

// pool is what the tensors between the models take of a GPU at most, in bytes: a batch of the largest size that each
// instance works on, and one on its way.
func (s Serving) pool(t Target) int64 {
	batches := s.DALIInstances + s.ClassifierInstances + 1
	return max(int64(batches)*int64(t.MaxBatch)*t.tensorBytes(), usualPool)
}

// tensorBytes is the tensor of a picture between DALI and the classifier: FP32 [3,size,size].
func (t Target) tensorBytes() int64 {
	const channels, fp32 = 3, 4
	return int64(channels*fp32) * int64(t.Recipe.Input.Size) * int64(t.Recipe.Input.Size)
}

// memory is what a server takes of a GPU without its pool, in bytes: an execution context of each classifier, and of
// each DALI instance the decoded and the resized picture (FP32) twice, one that is made and one that is read. That of
// DALI is reckoned, and was not measured.
func (s Serving) memory(t Target) int64 {
	picture := int64(s.Picture.Width)*int64(s.Picture.Height)*3 + t.tensorBytes()
	return contextMemory + int64(s.ClassifierInstances)*trtexec.ContextMemory(t.Precision, t.MaxBatch) +
		int64(s.DALIInstances)*int64(t.MaxBatch)*2*picture
}

// decideServing takes what was asked for of the server's instances, queues and memory, and the usual for the rest.
func (x *resolution) decideServing(context.Context) {
	if x.target.Lane == "" {
		return
	}
	asked, t := x.request.Serving, &x.target
	t.Serving = DecideServing(asked, *t, x.info.CPUs)
	server := "the local images' tritonserver"
	if t.Source == NGC {
		server = "release " + cmp.Or(t.Release.Tag, "(not known)")
	}
	for _, key := range notTaken(asked, t.Serving) {
		var why string
		switch {
		case key == "queue-limit":
			why = server + " hangs where a step of an ensemble has one; 26.02 and later do not"
		case key == "inflight-limit":
			why = server + " does not keep to one; 26.04 and later do"
		case t.Lane == CPU:
			why = "it is of GPUs, and the cpu lane has none"
		default:
			why = "the server is given another value"
		}
		x.doubt(CheckFlags, fmt.Sprintf("%s: %s is not used: %s", x.request.Settings.Origin("serving"), key, why),
			"drop what is not used")
	}
}

// notTaken are the keys of what was asked for that a server is not given, as users write them.
func notTaken(asked, given Serving) []string {
	var keys []string
	a, g := reflect.ValueOf(asked), reflect.ValueOf(given)
	for field, value := range a.Fields() {
		if !value.IsZero() && !value.Equal(g.FieldByIndex(field.Index)) {
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			keys = append(keys, strings.ReplaceAll(tag, "_", "-"))
		}
	}
	return keys
}
