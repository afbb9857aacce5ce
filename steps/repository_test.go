package steps_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/dalirun/dalirun"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton/pb"
)

// TestServedRepositories holds the model repositories that are served. Their texts are fingerprinted, and prototext
// varies its white space from binary to binary: that they are the same in each is proven by the golden files, which
// tests with and without the race detector compare with.
func TestServedRepositories(t *testing.T) {
	t.Parallel()
	all := cases()
	all["gpu-ngc-max-batch-8"] = smallBatches
	for name, newWorld := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
				t.Fatal(err)
			}
			root := w.values[w.step(steps.IDAssembleRepository).Outputs()[0]].Path
			golden(t, name+"/model_repository.txt", tree(t, root))
			configs, err := filepath.Glob(filepath.Join(root, "*", "config.pbtxt"))
			if err != nil || len(configs) != 3 {
				t.Fatalf("configurations %v, %v", configs, err)
			}
			for _, file := range configs {
				model := filepath.Base(filepath.Dir(file))
				golden(t, name+"/"+model+".config.pbtxt", read(t, file))
			}
			want, err := dalirun.Assets.ReadFile("model_repository/resnet50_trt/labels.txt")
			if err != nil {
				t.Fatal(err)
			}
			labels, err := filepath.Glob(filepath.Join(root, "*", "labels.txt"))
			if err != nil || len(labels) != 1 || !bytes.Equal(read(t, labels[0]), want) {
				t.Errorf("the labels are %v, %v", labels, err)
			}
		})
	}
}

// smallBatches is the mission with both sizes of a batch asked for.
func smallBatches(t *testing.T) *world {
	t.Helper()
	w := gpuNGC(t)
	w.target.MaxBatch = 8
	w.tune(4)
	return w
}

// tree lists the folders and files below root, a model's file with what it holds: it is fake, and short.
func tree(t *testing.T, root string) []byte {
	t.Helper()
	var out bytes.Buffer
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			fmt.Fprintln(&out, name+"/")
			return nil
		}
		line := name
		if path.Ext(name) == ".jpg" {
			line += fmt.Sprintf(" = %d bytes", len(read(t, filepath.Join(root, name))))
		}
		if path.Base(path.Dir(name)) == "1" && path.Ext(name) != ".py" {
			text, _, _ := strings.Cut(string(read(t, filepath.Join(root, name))), " -")
			line += " = " + text
		}
		fmt.Fprintln(&out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestServedRepositoryHolds checks what the listing does not show: whose texts the files are, and that a served model is
// the stored one rather than a copy.
func TestServedRepositoryHolds(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
		t.Fatal(err)
	}
	root := w.values[w.step(steps.IDAssembleRepository).Outputs()[0]].Path
	for served, asset := range map[string]string{
		"dali/1/model.py":          "assets/python/backend_dali.py",
		"dali/1/decoder.py":        "assets/python/decoder.py",
		"resnet50_onnx/1/model.py": "assets/python/backend_onnx.py",
		"resnet50_onnx/labels.txt": "model_repository/resnet50_trt/labels.txt",
	} {
		want, err := dalirun.Assets.ReadFile(asset)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, filepath.Join(root, served)), want) {
			t.Errorf("%s is not %s", served, asset)
		}
	}
	for o, served := range map[pipeline.Output]string{
		w.step(steps.IDExportONNX).Outputs()[0]:    "resnet50_onnx/1/model.onnx",
		w.step(steps.IDSerializeDALI).Outputs()[0]: "dali/1/model.dali",
	} {
		stored, err := os.Stat(w.values[o].Path)
		if err != nil {
			t.Fatal(err)
		}
		if linked, err := os.Stat(filepath.Join(root, served)); err != nil || !os.SameFile(stored, linked) {
			t.Errorf("%s is not the file of %s: %v", served, o, err)
		}
	}
}

// TestCommittedRepositoryIsServed checks that the gpu lane serves what a user reads in model_repository/, and more: what
// makes a server of it is laid over, and none of it is committed.
func TestCommittedRepositoryIsServed(t *testing.T) {
	t.Parallel()
	for name, got := range configs(t, gpuNGC(t)) {
		committed, err := dalirun.Assets.ReadFile("model_repository/" + name + "/config.pbtxt")
		if err != nil {
			t.Fatal(err)
		}
		got.InstanceGroup, got.ModelWarmup = nil, nil
		if got.GetDynamicBatching() != nil {
			got.SchedulingChoice = nil
		}
		for _, input := range got.GetInput() {
			input.AllowRaggedBatch = false
		}
		if want := config(t, committed); !proto.Equal(got, want) {
			t.Errorf("%s is served with\n%s\nand committed with\n%s", name, got, want)
		}
	}
}

// configs is the configuration of each model that w serves, by the model's name.
func configs(t *testing.T, w *world) map[string]*pb.ModelConfig {
	t.Helper()
	if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
		t.Fatal(err)
	}
	root := w.values[w.step(steps.IDAssembleRepository).Outputs()[0]].Path
	files, err := filepath.Glob(filepath.Join(root, "*", "config.pbtxt"))
	if err != nil || len(files) != 3 {
		t.Fatalf("configurations %v, %v", files, err)
	}
	all := map[string]*pb.ModelConfig{}
	for _, file := range files {
		all[filepath.Base(filepath.Dir(file))] = config(t, read(t, file))
	}
	return all
}

// config reads a configuration.
func config(t *testing.T, text []byte) *pb.ModelConfig {
	t.Helper()
	var c pb.ModelConfig
	if err := prototext.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// TestServedConfigurations checks of every lane and source what a golden file that is written anew could get wrong.
func TestServedConfigurations(t *testing.T) {
	t.Parallel()
	for name, newWorld := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			kind, counts := pb.ModelInstanceGroup_KIND_GPU, map[string]int32{"dali": 4, "resnet50_trt": 2}
			if w.target.Lane == target.CPU {
				kind, counts = pb.ModelInstanceGroup_KIND_CPU, map[string]int32{"dali": 1, "resnet50_onnx": 1}
			}
			for model, c := range configs(t, w) {
				if c.GetName() != model {
					t.Errorf("%s is named %s", model, c.GetName())
				}
				if c.GetEnsembleScheduling() != nil {
					// tritonserver 2.51: "instance group should not be specified for ensemble".
					if len(c.GetInstanceGroup()) > 0 || c.GetInput()[0].GetAllowRaggedBatch() {
						t.Errorf("the ensemble has an instance group or ragged batches: %s", c)
					}
					continue
				}
				if c.GetDynamicBatching() == nil {
					t.Errorf("%s does not batch: %s", model, c)
				}
				if groups := c.GetInstanceGroup(); len(groups) != 1 || groups[0].GetKind() != kind || groups[0].GetCount() != counts[model] || len(groups[0].GetGpus()) > 0 {
					t.Errorf("%s has the instances %v", model, groups)
				}
				if warms := len(c.GetModelWarmup()) == 1 && c.GetModelWarmup()[0].GetBatchSize() == 256; warms != (w.target.Lane == target.GPU) {
					t.Errorf("%s is warmed up by %v", model, c.GetModelWarmup())
				}
				if ragged := c.GetInput()[0].GetAllowRaggedBatch(); ragged != (model == "dali") {
					t.Errorf("%s takes ragged batches: %t", model, ragged)
				}
			}
		})
	}
}

// TestBatchesAgree checks that --opt-batch and --max-batch change the engine's profile, the served configuration and the
// DALI pipeline alike: an engine of 8 behind a configuration of 256 would fail at the first larger batch.
func TestBatchesAgree(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		opt, most int
		preferred []int32
	}{
		"the defaults":       {64, 256, []int32{64}},
		"small batches":      {4, 8, []int32{4}},
		"both the same":      {8, 8, []int32{8}},
		"tuned for one":      {1, 256, nil},
		"one picture a time": {1, 1, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gpuNGC(t)
			w.target.MaxBatch = tt.most
			w.tune(tt.opt)
			for model, c := range configs(t, w) {
				if c.GetMaxBatchSize() != int32(tt.most) {
					t.Errorf("%s takes batches up to %d", model, c.GetMaxBatchSize())
				}
				b := c.GetDynamicBatching()
				if b != nil && (!slices.Equal(b.GetPreferredBatchSize(), tt.preferred) || b.GetMaxQueueDelayMicroseconds() != 0) {
					t.Errorf("%s is batched by %s, want %v and no delay", model, b, tt.preferred)
				}
			}
			commands := map[string]string{}
			for _, spec := range w.fake.Specs() {
				commands[spec.Step] = strings.Join(spec.Command, " ") + " "
			}
			for step, want := range map[pipeline.ID][]string{
				steps.IDBuildEngine: {
					"--minShapes=input:1x3x224x224 ", fmt.Sprintf("--optShapes=input:%dx3x224x224 ", tt.opt), fmt.Sprintf("--maxShapes=input:%dx3x224x224 ", tt.most),
				},
				steps.IDSerializeDALI: {fmt.Sprintf("--max-batch %d ", tt.most)},
			} {
				for _, argument := range want {
					if !strings.Contains(commands[string(step)], argument) {
						t.Errorf("%s runs %swithout %s", step, commands[string(step)], argument)
					}
				}
			}
		})
	}
}

// TestLimits checks where the limits stand that are asked for: by nobody, they stand nowhere.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := tensorRT11(t)
	for _, want := range []target.Serving{{}, {QueueLimit: 100, InflightLimit: 200}} {
		w.target.Serving = target.DecideServing(want, w.target, 16)
		for model, c := range configs(t, w) {
			if ensemble := c.GetEnsembleScheduling(); ensemble != nil {
				if got := ensemble.GetMaxInflightRequests(); got != uint32(want.InflightLimit) {
					t.Errorf("%d requests may be in flight", got)
				}
				continue
			}
			if policy := c.GetDynamicBatching().GetDefaultQueuePolicy(); policy.GetMaxQueueSize() != uint32(want.QueueLimit) {
				t.Errorf("%s queues by %s", model, policy)
			}
		}
	}
}

// TestRepositoryWithoutModel checks that a model that is gone is an error, and no repository without it.
func TestRepositoryWithoutModel(t *testing.T) {
	t.Parallel()
	w := cpuLocal(t)
	in := w.make(t, steps.IDAssembleRepository)
	if err := os.Remove(in[w.step(steps.IDExportONNX).Outputs()[0]].Path); err != nil {
		t.Fatal(err)
	}
	work := pipeline.NewWork(t.TempDir(), in, w.emit, func(string, func(context.Context) error) {})
	if err := w.step(steps.IDAssembleRepository).Run(t.Context(), work); err == nil || !strings.Contains(err.Error(), "model.onnx") {
		t.Errorf("got %v, want an error that names model.onnx", err)
	}
}
