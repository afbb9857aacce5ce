package cli

import (
	"github.com/dalirun/dalirun/internal/target"
	"github.com/dalirun/dalirun/steps"
)

func options(t target.Target) steps.Options {
	o := steps.Options{
		Lane: steps.Lane(t.Lane), Images: steps.Source(t.Source), Release: t.Release, BaseImage: t.BaseImage, BuildNet: t.BuildNetwork,
		Weights: steps.WeightsSource{Kind: steps.WeightsKind(t.Weights.Kind), Remote: steps.Remote(t.Weights.Remote), Seed: t.Weights.Seed, Path: t.Weights.Path},
		Picture: steps.Picture(t.Picture), Precision: t.Precision, OptBatch: t.OptBatch, MaxBatch: t.MaxBatch, GPUs: t.GPUs, GPUUUIDs: t.GPUUUIDs(),
		Device: steps.Device(t.Device), NoNVML: t.NoNVML, HTTP: t.Ports.HTTP, GRPC: t.Ports.GRPC, Metrics: t.Ports.Metrics, ReadyTimeout: t.ReadyTimeout,
		ExporterRef: t.Images.Exporter.Ref, ServerRef: t.Images.Server.Ref,
	}
	return o
}
