package steps_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/dalirun/dalirun"
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
	all["gpu-ngc-max-batch-8"] = func(t *testing.T) *world {
		t.Helper()
		w := gpuNGC(t)
		w.options.MaxBatch, w.options.OptBatch = 8, 8
		return w
	}
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
		})
	}
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

// TestCommittedRepositoryIsServed checks that what a user reads in model_repository/ is what the gpu lane serves.
func TestCommittedRepositoryIsServed(t *testing.T) {
	t.Parallel()
	w := gpuNGC(t)
	if err := w.run(t, t.Context(), steps.IDAssembleRepository); err != nil {
		t.Fatal(err)
	}
	root := w.values[w.step(steps.IDAssembleRepository).Outputs()[0]].Path
	for _, model := range []string{"dali", "resnet50_trt", "ensemble_dali_resnet50"} {
		committed, err := dalirun.Assets.ReadFile("model_repository/" + model + "/config.pbtxt")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := config(t, read(t, filepath.Join(root, model, "config.pbtxt"))), config(t, committed); got != want {
			t.Errorf("%s is served with\n%s\nand committed with\n%s", model, got, want)
		}
	}
}

// config is a configuration without comments and layout.
func config(t *testing.T, text []byte) string {
	t.Helper()
	var c pb.ModelConfig
	if err := prototext.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c.String()
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
