package steps

import (
	"context"
	"os"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/result"
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/pipeline"
)

// Inventory ends a pull: it reads the images and the weights, so that they are got, and says what there is then.
type Inventory struct {
	exporter, server, weights pipeline.Output
	weightsName               string

	images container.Images
}

func newInventory(t target.Target, tools Tools, exporter, server, weights pipeline.Output) *Inventory {
	return &Inventory{
		exporter: exporter, server: server, weights: weights, weightsName: t.Weights.String(), images: tools.Images,
	}
}

// ID returns inventory.
func (s *Inventory) ID() pipeline.ID { return IDInventory }

// Inputs are both images and the weights.
func (s *Inventory) Inputs() []pipeline.Output {
	return []pipeline.Output{s.exporter, s.server, s.weights}
}

// Outputs are none.
func (s *Inventory) Outputs() []pipeline.Output { return nil }

// Run looks once more at each image, and emits what there is.
func (s *Inventory) Run(ctx context.Context, w *pipeline.Work) error {
	pulled := []result.Pulled{}
	for _, o := range []pipeline.Output{s.exporter, s.server} {
		value := w.Input(o)
		image, err := s.images.Resolve(ctx, value.Ref)
		if err != nil {
			return err
		}
		pulled = append(pulled, result.Pulled{
			Step: o.Step, Name: value.Ref, Digest: value.Digest, Image: image.ID, Bytes: image.Size,
		})
	}
	weights := w.Input(s.weights)
	file, err := os.Stat(weights.Path)
	if err != nil {
		return err
	}
	pulled = append(pulled, result.Pulled{
		Step: s.weights.Step, Name: s.weightsName, Digest: weights.Digest, Bytes: file.Size(),
	})
	w.Emit(result.Pull.New(pulled))
	return nil
}
