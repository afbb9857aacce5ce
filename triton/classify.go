package triton

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
)

// A Class is one entry of a classification.
type Class struct {
	// Index is the element's place in the output, from 0.
	Index int
	// Value is the output's value as it is: a logit, unless the model ends in
	// a softmax. From the server it has six digits after the point, so small
	// values arrive as 0.
	Value float32
	// Label is the line at Index of the output's label file, empty without one.
	Label string
}

// ParseClass reads one element of a classification answer: "value:index" or
// "value:index:label", where the label may hold further colons.
func ParseClass(s string) (Class, error) {
	value, rest, ok := strings.Cut(s, ":")
	if !ok {
		return Class{}, fmt.Errorf("class %q is not value:index[:label]", s)
	}
	index, label, _ := strings.Cut(rest, ":")
	v, err := parseValue(value)
	if err != nil {
		return Class{}, fmt.Errorf("class %q has a value that is not a number", s)
	}
	i, err := strconv.ParseUint(index, 10, 31)
	if err != nil {
		return Class{}, fmt.Errorf("class %q has an index that is not one", s)
	}
	return Class{Index: int(i), Value: v, Label: label}, nil
}

// parseValue reads what C++'s to_string prints, in which NaN can have a sign.
func parseValue(s string) (float32, error) {
	if strings.EqualFold(s, "-nan") {
		s = "nan"
	}
	v, err := strconv.ParseFloat(s, 32)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is ±Inf
		return 0, err
	}
	return float32(v), nil
}

// Classify sends one encoded picture to a model that takes pictures, such as
// an ensemble with DALI in front, and returns its k largest classes, largest
// first. The model must have one UINT8 input with a row of bytes and one FP32
// output with a vector of classes, else it is an [ErrNoClassifier]; their names
// are looked up in its metadata, which are asked for once: anew only after this
// client loaded or unloaded a model, or after a request with the model failed.
// k is at least 1 and capped at the number of classes. For other models, other
// shapes and batches use [Client.Infer].
func (c *Client) Classify(ctx context.Context, model string, picture []byte, k int) ([]Class, error) {
	const op = "classify with model"
	switch {
	case len(picture) == 0:
		return nil, refuse(op, model, errors.New("the picture is empty"))
	case k < 1:
		return nil, refuse(op, model, fmt.Errorf("%d classes are asked for; it takes 1 or more", k))
	}
	classifier, err := c.classifier(ctx, op, model)
	if err != nil {
		return nil, err
	}
	tensor, err := pictureTensor(classifier.input, picture)
	if err != nil {
		return nil, refuse(op, model, err)
	}
	resp, err := c.infer(ctx, op, InferRequest{
		Model:   model,
		Inputs:  []Tensor{tensor},
		Outputs: []RequestedOutput{{Name: classifier.output.Name, Classes: k}},
	})
	if err != nil {
		c.classifiers.forget(model)
		return nil, err
	}
	classes, err := readClasses(resp, classifier.output.Name)
	if err != nil {
		return nil, misread(op, model, "the answer breaks the protocol: %v", err)
	}
	return classes, nil
}

// classifier returns the tensors of a model that classifies pictures, as the
// server said when it was asked first.
func (c *Client) classifier(ctx context.Context, op, model string) (classifier, error) {
	known, generation, ok := c.classifiers.recall(model)
	if ok {
		return known, nil
	}
	meta, err := c.ModelMetadata(ctx, model)
	if err != nil {
		return classifier{}, err
	}
	input, output, err := pictureTensors(meta)
	if err != nil {
		return classifier{}, &Error{
			Op: op, Model: model, Code: codes.InvalidArgument, Message: err.Error(), NoClassifier: true,
		}
	}
	found := classifier{input, output}
	c.classifiers.keep(model, generation, found)
	return found, nil
}

// A classifier is what [Client.Classify] knows of a model: the input for the
// picture and the output with the scores.
type classifier struct{ input, output TensorMetadata }

// classifiers are those that a client knows, by the model's name. The zero
// value knows none.
type classifiers struct {
	mu         sync.Mutex
	known      map[string]classifier
	generation int // how often all were forgotten
}

// recall returns what is known of a model, and the generation for keep.
func (c *classifiers) recall(model string) (known classifier, generation int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok = c.known[model]
	return known, c.generation, ok
}

// keep remembers a model, unless all were forgotten since the generation in
// which the server was asked: its answer may be about what was loaded before.
func (c *classifiers) keep(model string, generation int, found classifier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if c.known == nil {
		c.known = make(map[string]classifier)
	}
	c.known[model] = found
}

func (c *classifiers) forget(model string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, model)
}

// forgetAll is for when models were loaded or unloaded: one model can change
// others, such as the ensembles that it is a part of.
func (c *classifiers) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
	c.generation++
}

func readClasses(resp InferResponse, output string) ([]Class, error) {
	answer, err := resp.Output(output)
	if err != nil {
		return nil, err
	}
	elements, err := answer.ByteStrings()
	if err != nil {
		return nil, err
	}
	classes := make([]Class, len(elements))
	for i, e := range elements {
		if classes[i], err = ParseClass(string(e)); err != nil {
			return nil, err
		}
	}
	return classes, nil
}

// pictureTensors picks the input for the picture and the output with the
// scores.
func pictureTensors(meta ModelMetadata) (input, output TensorMetadata, err error) {
	input, err = singleTensor(meta.Inputs, Uint8, "input")
	if err != nil {
		return TensorMetadata{}, TensorMetadata{}, err
	}
	if len(meta.Inputs) > 1 {
		return TensorMetadata{}, TensorMetadata{}, fmt.Errorf("the model has %d inputs, not the picture alone",
			len(meta.Inputs))
	}
	if n := len(input.Shape); n != 1 && n != 2 {
		return TensorMetadata{}, TensorMetadata{}, fmt.Errorf("input %s has shape %v, not one row of bytes for each picture",
			input.Name, input.Shape)
	}
	output, err = singleTensor(meta.Outputs, FP32, "output")
	if err == nil && !isVector(output.Shape) {
		err = fmt.Errorf("output %s has shape %v, not one vector of classes for each picture", output.Name, output.Shape)
	}
	return input, output, err
}

// isVector tells whether an output of this shape has one vector for each
// picture. Metadata do not say whether the first dimension is the batch. Those
// of size 1 behind the classes are left by networks that pool.
func isVector(shape []int64) bool {
	long := 0
	for i, dim := range shape {
		if i > 0 && dim != 1 {
			long++
		}
	}
	return len(shape) > 0 && long <= 1
}

func singleTensor(tensors []TensorMetadata, datatype Datatype, kind string) (TensorMetadata, error) {
	var found []TensorMetadata
	for _, t := range tensors {
		if t.Datatype == datatype {
			found = append(found, t)
		}
	}
	if len(found) != 1 {
		return TensorMetadata{}, fmt.Errorf("the model has %d %ss of type %s; classifying a picture needs one",
			len(found), kind, datatype)
	}
	return found[0], nil
}

// pictureTensor shapes a picture as a batch of one where the input has a batch
// dimension, else as it is.
func pictureTensor(input TensorMetadata, picture []byte) (Tensor, error) {
	size := int64(len(picture))
	shape := []int64{size}
	if len(input.Shape) == 2 {
		shape = []int64{1, size}
	}
	for i, dim := range input.Shape {
		if dim >= 0 && dim != shape[i] {
			return Tensor{}, fmt.Errorf("input %s has shape %v, which a picture of %d bytes does not fit",
				input.Name, input.Shape, size)
		}
	}
	return NewUint8(input.Name, picture, shape...)
}

// TopK returns the k largest values, largest first, each with the label at its
// index if there is one. Equal values keep their order; NaN comes last, so
// that it shows only where nothing else is left. It returns all values if
// there are fewer than k, none if k is below 1.
func TopK(values []float32, k int, labels []string) []Class {
	if k < 1 || len(values) == 0 {
		return nil
	}
	classes := make([]Class, len(values))
	for i, v := range values {
		classes[i] = Class{Index: i, Value: v}
	}
	slices.SortStableFunc(classes, func(a, b Class) int {
		return cmp.Compare(b.Value, a.Value) // NaN is below every number
	})
	classes = slices.Clip(classes[:min(k, len(classes))])
	for i, c := range classes {
		if c.Index < len(labels) {
			classes[i].Label = labels[c.Index]
		}
	}
	return classes
}

// Softmax returns the probabilities that belong to logits; they add up to 1.
// Infinite logits are the limit: +Inf takes all, shared if there are several.
// One NaN makes every probability NaN.
func Softmax(logits []float32) []float32 {
	largest := math.Inf(-1)
	for _, x := range logits {
		if v := float64(x); v > largest { // NaN is never above
			largest = v
		}
	}
	exps := make([]float64, len(logits))
	var sum float64
	for i, x := range logits {
		exps[i] = 1 // also for Inf − Inf, which would be NaN
		if v := float64(x); v != largest {
			exps[i] = math.Exp(v - largest)
		}
		sum += exps[i]
	}
	out := make([]float32, len(logits))
	for i, e := range exps {
		out[i] = float32(e / sum)
	}
	return out
}

// EveryClass asks [Client.Classify] for all elements of an output. The server
// caps the number at the element count, and refuses tensors of more elements
// than this (server:src/classification.cc).
const EveryClass = 1_000_000

// Scored is a class and how probable it is among all.
type Scored struct {
	Class
	// Probability is the softmax over all elements of the output, 0 to 1.
	Probability float32
}

// Score returns classes with their probabilities, in the same order. It needs
// every class of the output, as [EveryClass] gets them, with logits as values.
func Score(all []Class) []Scored {
	logits := make([]float32, len(all))
	for i, c := range all {
		logits[i] = c.Value
	}
	scored := make([]Scored, len(all))
	for i, p := range Softmax(logits) {
		scored[i] = Scored{all[i], p}
	}
	return scored
}
