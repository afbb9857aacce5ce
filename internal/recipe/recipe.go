// Package recipe says what a model is, as data: the network, its weights, its classes and its preprocessing. A recipe
// is a folder: recipes/NAME/recipe.yaml.
package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dalirun/dalirun"
)

// Default is the name of the recipe that is used if none is named: the tutorial's.
const Default = "resnet50"

// Recipe is what a model is.
type Recipe struct {
	Name    string  `json:"name" yaml:"-"` // its folder's
	Network Network `json:"network" yaml:"network"`
	Weights Weights `json:"weights" yaml:"weights"`
	Classes int     `json:"classes" yaml:"classes"` // 1 to 100,000
	// Labels is [ImageNet], or the name of a file in the folder with a line for each class.
	Labels string `json:"labels" yaml:"labels"`
	// LabelText are the labels, a line for each class.
	LabelText []byte `json:"-" yaml:"-"`
	Input     Input  `json:"input" yaml:"input"`
	License   string `json:"license,omitempty" yaml:"license"` // of network and weights, by SPDX
}

// ImageNet stands for the labels of ImageNet's 1000 classes, which dalirun carries.
const ImageNet = "imagenet"

// Network is where the network comes from.
type Network struct {
	Torchvision string `json:"torchvision" yaml:"torchvision"` // the name of a classifier in torchvision.models
}

// Weights are the trained ones, which can be downloaded.
type Weights struct {
	Name   string `json:"name" yaml:"name"` // by which people know them
	URL    string `json:"url" yaml:"url"`
	SHA256 string `json:"sha256" yaml:"sha256"` // of the whole file, hexadecimal
	Bytes  int64  `json:"bytes" yaml:"bytes"`
}

// Resize is how a picture gets the size that the network takes.
type Resize string

// The ways to resize.
const (
	// Stretch makes the picture a square of the network's size, whatever shape it has.
	Stretch Resize = "stretch"
	// ShortSide makes the shorter side as long as resize-to, keeps the shape, and cuts a square out of the middle.
	ShortSide Resize = "short-side"
)

// Input is what the network takes, and how a picture becomes it.
type Input struct {
	Size     int        `json:"size" yaml:"size"` // of each side, in pixels, 8 to 2048
	Resize   Resize     `json:"resize" yaml:"resize"`
	ResizeTo int        `json:"resize_to,omitempty" yaml:"resize-to"` // pixels of the shorter side, with [ShortSide]
	Mean     [3]float64 `json:"mean" yaml:"mean"`                     // of red, green and blue in 0..1
	Std      [3]float64 `json:"std" yaml:"std"`
}

// Names are the names by which Triton serves a recipe's models.
type Names struct{ DALI, Classifier, Ensemble string }

// GPUNames are the names on the gpu lane, where the classifier is an engine of TensorRT.
func (r Recipe) GPUNames() Names { return r.names("_trt") }

// CPUNames are the names on the cpu lane, where ONNX Runtime computes the classifier. A client knows the ensemble
// alone, which has the same name on both.
func (r Recipe) CPUNames() Names { return r.names("_onnx") }

func (r Recipe) names(suffix string) Names {
	return Names{DALI: "dali", Classifier: r.Name + suffix, Ensemble: EnsemblePrefix + r.Name}
}

// EnsemblePrefix begins the name of every recipe's ensemble.
const EnsemblePrefix = "ensemble_dali_"

const (
	folder = "recipes"
	file   = "recipe.yaml"
)

// ErrUnknown says that there is no recipe of a name.
var ErrUnknown = errors.New("there is no such model")

// Shipped returns the names of the recipes that dalirun carries.
func Shipped() ([]string, error) {
	all, err := fs.ReadDir(dalirun.Assets, folder)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(all))
	for _, f := range all {
		names = append(names, f.Name())
	}
	slices.Sort(names)
	return names, nil
}

// Load returns a recipe that dalirun carries. It is [ErrUnknown] for another name.
func Load(name string) (Recipe, error) {
	names, err := Shipped()
	if err != nil {
		return Recipe{}, err
	}
	if !slices.Contains(names, name) {
		return Recipe{}, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	text, err := dalirun.Assets.ReadFile(path.Join(folder, name, file))
	if err != nil {
		return Recipe{}, err
	}
	r, err := Parse(text)
	r.Name = name
	if err == nil {
		r.LabelText, err = r.labelText()
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", path.Join(folder, name, file), err)
	}
	return r, nil
}

// Parse reads the text of a recipe. Whatever it does not know is an error.
func Parse(text []byte) (Recipe, error) {
	var r Recipe
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&r); err != nil {
		return r, errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", ";"))
	}
	return r, r.check()
}

// check refuses a recipe that no model can have.
func (r Recipe) check() error {
	const (
		mostClasses        = 100_000
		smallest, greatest = 8, 2048
	)
	in := r.Input
	for _, c := range []struct {
		ok   bool
		says string
	}{
		{
			regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(r.Network.Torchvision),
			"network: torchvision is the name of a classifier in torchvision.models, as in resnet50",
		},
		{r.Classes >= 1 && r.Classes <= mostClasses, fmt.Sprintf("classes: %d is none of 1 to %d", r.Classes, mostClasses)},
		{
			r.Labels != ImageNet || r.Classes == imageNetClasses,
			fmt.Sprintf("labels: imagenet names %d classes, and the model has %d", imageNetClasses, r.Classes),
		},
		{
			in.Size >= smallest && in.Size <= greatest,
			fmt.Sprintf("input: size: %d is none of %d to %d pixels", in.Size, smallest, greatest),
		},
		{
			in.Resize == Stretch || in.Resize == ShortSide,
			fmt.Sprintf("input: resize: %q is neither stretch nor short-side", in.Resize),
		},
		{in.Resize != Stretch || in.ResizeTo == 0, "input: resize-to: a stretched picture gets the network's size"},
		{
			in.Resize != ShortSide || in.ResizeTo >= in.Size && in.ResizeTo <= greatest,
			fmt.Sprintf("input: resize-to: %d is none of size, %d, to %d pixels", in.ResizeTo, in.Size, greatest),
		},
		{
			!slices.ContainsFunc(in.Std[:], func(v float64) bool { return v <= 0 }),
			"input: std: three numbers above 0, as in [0.229, 0.224, 0.225]",
		},
		{
			r.Weights.SHA256 == "" || regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(r.Weights.SHA256),
			"weights: sha256: the whole hash, 64 hexadecimal digits",
		},
	} {
		if !c.ok {
			return errors.New(c.says)
		}
	}
	return nil
}

const imageNetClasses = 1000

func (r Recipe) labelText() ([]byte, error) {
	if r.Labels == ImageNet {
		return dalirun.Assets.ReadFile("model_repository/resnet50_trt/labels.txt")
	}
	return dalirun.Assets.ReadFile(path.Join(folder, r.Name, r.Labels))
}
