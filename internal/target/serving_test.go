package target_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/flagvalue"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/recipe"
	"github.com/dalirun/dalirun/internal/target"
)

const mib = 1 << 20

// onGPU is what a server of an H100 with 16 cores is given.
func onGPU() target.Serving {
	return target.Serving{
		DALIInstances: 4, ClassifierInstances: 2, DALIThreads: 4, PreferredBatch: 64, HWDecoderLoad: 0.9,
		Picture: target.PictureSize{Width: 600, Height: 400}, CUDAPool: 1029 * mib, PinnedPool: 1029 * mib,
	}
}

// What a server is given follows from lane, GPUs, cores and batches; what was asked for stays.
func TestDecideServing(t *testing.T) {
	t.Parallel()
	change := func(change func(*target.Serving)) target.Serving {
		s := onGPU()
		change(&s)
		return s
	}
	cpu := target.Serving{DALIInstances: 1, ClassifierInstances: 1}
	all := target.Serving{
		DALIInstances: 3, ClassifierInstances: 5, DALIThreads: 2, PreferredBatch: 16, QueueDelay: time.Millisecond, HWDecoderLoad: 0.5,
		Picture: target.PictureSize{Width: 1920, Height: 1080}, CUDAPool: 300 * mib, PinnedPool: 400 * mib,
	}
	for name, c := range map[string]struct {
		asked target.Serving
		lane  target.Lane
		opt   int
		most  int
		gpus  []host.GPU
		cpus  int
		want  target.Serving
	}{
		"H100, 16 cores":   {lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{h100()}, cpus: 16, want: onGPU()},
		"cores not known":  {lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{h100()}, want: onGPU()},
		"a GPU of another": {lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{{}}, cpus: 16, want: onGPU()},
		"two GPUs, 16 cores": {
			lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{h100(), h100()}, cpus: 16,
			want: change(func(s *target.Serving) { s.DALIInstances, s.CUDAPool, s.PinnedPool = 2, 735*mib, 1470*mib }),
		},
		"eight GPUs, 128 cores": {
			lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{h100(), h100(), h100(), h100(), h100(), h100(), h100(), h100()}, cpus: 128,
			want: change(func(s *target.Serving) { s.PinnedPool = 2048 * mib }),
		},
		"two cores": {
			lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{h100()}, cpus: 2,
			want: change(func(s *target.Serving) { s.DALIInstances, s.CUDAPool, s.PinnedPool = 2, 735*mib, 735*mib }),
		},
		"small batches": {
			lane: target.GPU, opt: 4, most: 8, gpus: []host.GPU{h100()}, cpus: 16,
			want: change(func(s *target.Serving) { s.PreferredBatch, s.CUDAPool, s.PinnedPool = 4, 256*mib, 256*mib }),
		},
		"tuned for one": {
			lane: target.GPU, opt: 1, most: 256, gpus: []host.GPU{h100()}, cpus: 16,
			want: change(func(s *target.Serving) { s.PreferredBatch = 0 }),
		},
		"5 GiB free": {
			lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{h100(), {MemoryMiB: 16384, FreeMiB: 5120}}, cpus: 64,
			want: change(func(s *target.Serving) { s.DALIInstances, s.CUDAPool, s.PinnedPool = 2, 735*mib, 1470*mib }),
		},
		"1 GiB free": {
			lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{{MemoryMiB: 16384, FreeMiB: 1024}}, cpus: 64,
			want: change(func(s *target.Serving) {
				s.DALIInstances, s.ClassifierInstances, s.CUDAPool, s.PinnedPool = 1, 1, 64*mib, 441*mib
			}),
		},
		"all asked for": {asked: all, lane: target.GPU, opt: 64, most: 256, gpus: []host.GPU{{MemoryMiB: 16384, FreeMiB: 1024}}, cpus: 2, want: all},
		"cpu":           {lane: target.CPU, opt: 64, most: 256, cpus: 16, want: cpu},
		"cpu, all asked for": {
			asked: all, lane: target.CPU, opt: 64, most: 256, cpus: 2,
			want: target.Serving{DALIInstances: 3, ClassifierInstances: 5, DALIThreads: 2, PreferredBatch: 16, QueueDelay: time.Millisecond},
		},
	} {
		on := target.Target{Recipe: recipe.Recipe{Input: recipe.Input{Size: 224}}, Lane: c.lane, Chosen: c.gpus, Precision: "fp16", OptBatch: c.opt, MaxBatch: c.most}
		if diff := cmp.Diff(c.want, target.DecideServing(c.asked, on, c.cpus)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What is of GPUs alone, and asked for on the cpu lane, is told by where it was.
func TestResolveServingWithoutGPU(t *testing.T) {
	t.Parallel()
	r := withChange(request("e2e"), func(r *target.Request) {
		r.Serving = target.Serving{DALIThreads: 2, HWDecoderLoad: 0.5, CUDAPool: 64 * mib}
		r.Settings = target.Settings{{Flag: "serving", Value: "dali-threads=2,hw-decoder-load=0.5,cuda-pool=64m", From: "dalirun.yaml:2"}}
	})
	decided, obstacles := resolve(t, r, noGPU())
	want := []string{
		"dalirun.yaml:2: serving: hw-decoder-load is not used: it is of GPUs, and the cpu lane has none",
		"dalirun.yaml:2: serving: cuda-pool is not used: it is of GPUs, and the cpu lane has none",
	}
	var got []string
	for _, o := range obstacles {
		got = append(got, o.Err.Error())
		if !o.Doubt || o.Check != target.CheckFlags || o.Remedy == "" {
			t.Errorf("%+v", o)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if decided.Serving != (target.Serving{DALIInstances: 1, ClassifierInstances: 1, DALIThreads: 2}) {
		t.Errorf("%+v", decided.Serving)
	}
}

// Whatever is asked for is given to the server, or told of under its own key: none is dropped without a word. On a GPU
// of a release that keeps to the limits all is given. The keys are those of the fields, in their order.
func TestResolveServingKeys(t *testing.T) {
	t.Parallel()
	withoutUse := []string{ // on the cpu lane, and of the local images' server
		"queue-limit", "inflight-limit", "hw-decoder-load", "picture-size", "cuda-pool", "pinned-pool",
	}
	all, keys := reflect.TypeFor[target.Serving](), flagvalue.ServingKeys()
	if len(keys) != all.NumField() {
		t.Fatalf("%d keys, and %d fields", len(keys), all.NumField())
	}
	for i, key := range keys {
		name, _, _ := strings.Cut(all.Field(i).Tag.Get("json"), ",")
		if strings.ReplaceAll(name, "_", "-") != key {
			t.Errorf("key %d is %s, and the field's is %s", i, key, name)
		}
		r := request("e2e", target.Setting{Flag: "serving"})
		field := reflect.ValueOf(&r.Serving).Elem().Field(i)
		switch field.Kind() {
		case reflect.Float64:
			field.SetFloat(0.5)
		case reflect.Struct:
			r.Serving.Picture = target.PictureSize{Width: 1, Height: 1}
		default:
			field.SetInt(3)
		}
		for machine, m := range map[string]*machine{"no GPU": noGPU(), "a GPU": withGPUs(h100())} {
			decided, obstacles := resolve(t, r, m)
			given := reflect.ValueOf(decided.Serving).Field(i).Equal(field)
			told := len(obstacles) == 1 && strings.HasPrefix(obstacles[0].Err.Error(), "--serving: "+key+" is not used: ")
			if given == told || given && len(obstacles) > 0 || told != (machine == "no GPU" && slices.Contains(withoutUse, key)) {
				t.Errorf("%s, %s: %+v, %v", machine, key, decided.Serving, obstacles)
			}
		}
	}
}

// Limits are given to the servers that keep to them; others are told of.
func TestResolveServingLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*target.Request)
		limits [2]int // of a queue, and in flight
		told   []string
	}{
		"26.09": {func(*target.Request) {}, [2]int{100, 200}, nil},
		"25.03": {func(r *target.Request) { r.Release = "25.03" }, [2]int{}, []string{
			"--serving: queue-limit is not used: release 25.03 hangs where a step of an ensemble has one; 26.02 and later do not",
			"--serving: inflight-limit is not used: release 25.03 does not keep to one; 26.04 and later do",
		}},
		"local": {func(r *target.Request) { r.Accel = "cpu" }, [2]int{}, []string{
			"--serving: queue-limit is not used: the local images' tritonserver hangs where a step of an ensemble has one; 26.02 and later do not",
			"--serving: inflight-limit is not used: the local images' tritonserver does not keep to one; 26.04 and later do",
		}},
	} {
		r := withChange(request("e2e", target.Setting{Flag: "serving"}), c.change)
		r.Serving = target.Serving{QueueLimit: 100, InflightLimit: 200}
		decided, obstacles := resolve(t, r, withGPUs(h100()))
		var told []string
		for _, o := range obstacles {
			told = append(told, o.Err.Error())
		}
		if diff := cmp.Diff(c.told, told); diff != "" || c.limits != [2]int{decided.Serving.QueueLimit, decided.Serving.InflightLimit} {
			t.Errorf("%s: %+v (-want +got):\n%s", name, decided.Serving, diff)
		}
	}
}

// What a request names and the container engine's cores reach the target.
func TestResolveServing(t *testing.T) {
	t.Parallel()
	m := withGPUs(h100(), h100())
	m.info.CPUs = 16
	r := withChange(request("e2e"), func(r *target.Request) {
		r.GPUs, r.Serving = container.GPUs{Count: container.AllGPUs}, target.Serving{ClassifierInstances: 3}
	})
	decided, _ := resolve(t, r, m)
	if got := decided.Serving; got.DALIInstances != 2 || got.ClassifierInstances != 3 || got.PreferredBatch != 64 {
		t.Errorf("%+v", got)
	}
}
