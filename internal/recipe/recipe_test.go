package recipe_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/dalirun/dalirun/internal/recipe"
)

// Each shipped recipe can be read, has a label for each class, and has names of its own.
func TestShipped(t *testing.T) {
	t.Parallel()
	names, err := recipe.Shipped()
	if err != nil || len(names) == 0 {
		t.Fatalf("%q, %v", names, err)
	}
	ensembles := map[string]bool{}
	for _, name := range names {
		r, err := recipe.Load(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if labels := bytes.Count(r.LabelText, []byte("\n")); labels != r.Classes || r.Name != name || r.License == "" {
			t.Errorf("%s has %d labels for %d classes: %+v", name, labels, r.Classes, r)
		}
		if gpu, cpu := r.GPUNames(), r.CPUNames(); gpu.Ensemble != cpu.Ensemble || gpu.Classifier == cpu.Classifier || gpu.DALI != cpu.DALI || ensembles[gpu.Ensemble] {
			t.Errorf("%s is served as %+v and %+v", name, gpu, cpu)
		}
		ensembles[r.GPUNames().Ensemble] = true
	}
	if _, err := recipe.Load("resnet51"); !errors.Is(err, recipe.ErrUnknown) {
		t.Errorf("one that is not there: %v", err)
	}
	if r, err := recipe.Load(recipe.Default); err != nil || r.GPUNames() != (recipe.Names{DALI: "dali", Classifier: "resnet50_trt", Ensemble: "ensemble_dali_resnet50"}) {
		t.Errorf("the default one is served as %+v, %v", r.GPUNames(), err)
	}
}

const whole = `network: {torchvision: resnet50}
classes: 10
labels: labels.txt
input: {size: 224, resize: short-side, resize-to: 256, mean: [0, 0, 0], std: [1, 1, 1]}
`

// What no model can be is refused in a sentence that names the key.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	if r, err := recipe.Parse([]byte(whole)); err != nil || r.Classes != 10 || r.Input.ResizeTo != 256 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, tt := range []struct{ old, by, says string }{
		{"classes: 10", "clases: 10", "clases not found"},
		{"classes: 10", "classes: ten", "line 2"},
		{"classes: 10", "classes: 0", "classes: 0 is none of 1 to"},
		{"classes: 10", "classes: 1001\n", ""},
		{"labels: labels.txt", "labels: imagenet", "labels: imagenet names 1000 classes, and the model has 10"},
		{"torchvision: resnet50", "torchvision: ResNet 50", "network: torchvision is the name"},
		{"size: 224", "size: 0", "input: size: 0 is none of 8 to 2048"},
		{"resize: short-side", "resize: squash", `input: resize: "squash" is neither`},
		{"resize: short-side", "resize: stretch", "input: resize-to: a stretched picture"},
		{"resize-to: 256", "resize-to: 100", "input: resize-to: 100 is none of size, 224"},
		{"std: [1, 1, 1]", "std: [1, 0, 1]", "input: std: three numbers above 0"},
		{"std: [1, 1, 1]", "std: [1, 1]", "want 3 elements"},
		{"labels: labels.txt", "labels: labels.txt\nweights: {sha256: ab}", "weights: sha256: the whole hash"},
	} {
		_, err := recipe.Parse([]byte(strings.Replace(whole, tt.old, tt.by, 1)))
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", tt.by, err, tt.says)
		}
	}
}
