package cli

import (
	"context"
	"fmt"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
)

// resolveLane takes the lane that was asked for, or the GPU if there is one. It returns what decides which release fits.
func resolveLane(ctx context.Context, w *wishes, info container.Info, probe gpuProbe, r *resolved) (release.Host, error) {
	if w.accel.value == string(steps.CPU) {
		r.Lane, r.LaneReason = steps.CPU, "asked for"
		return release.Host{}, nil
	}
	required := w.requireGPU || w.accel.value == string(steps.GPU)
	gpus, err := probe(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return release.Host{}, context.Cause(ctx)
		}
		if required {
			return release.Host{}, &pipeline.Fault{Kind: pipeline.Environment, Err: err, Hint: "--accel cpu runs the same without a GPU"}
		}
		r.Lane, r.LaneReason = steps.CPU, err.Error()
		return release.Host{}, nil
	}
	chosen, err := gpus.Select(w.gpus)
	if err != nil {
		return release.Host{}, &pipeline.Fault{
			Kind: pipeline.Environment, Err: fmt.Errorf("--gpus %s: %w", w.gpus, err), Hint: "name one that is there, as in --gpus device=0",
		}
	}
	r.Lane, r.LaneReason = steps.GPU, nameGPUs(gpus, chosen)
	r.Device = device(info, gpus, chosen)
	return release.Host{Driver: gpus.Driver, Compute: []string{chosen[0].Compute}, DataCenter: chosen[0].DataCenter()}, nil
}

// pickRelease takes the release that was asked for, if this host can run it, or the newest that it can.
func pickRelease(asked string, h release.Host, r *resolved) error {
	if asked == "" {
		newest, reasons := release.Newest(h)
		if newest.Tag == "" {
			return pipeline.Faultf(pipeline.Environment, "update the NVIDIA driver, or use --accel cpu", "no release runs on this host: %s", reasons[len(reasons)-1].Text)
		}
		r.Release = newest
		return nil
	}
	found, err := release.Find(asked)
	if err != nil {
		return usagef("", "--release: %w", err)
	}
	r.Release = found
	if r.Lane == steps.CPU {
		return nil // no TensorRT, no driver
	}
	for _, reason := range found.Check(h) {
		switch reason.Kind {
		case release.DriverTooOld, release.ComputeTooLow:
			hint := "use --accel cpu"
			if newest, _ := release.Newest(h); newest.Tag != "" {
				hint = "--release " + newest.Tag + " runs here; or update the NVIDIA driver"
			}
			return pipeline.Faultf(pipeline.Environment, hint, "release %s: %s", found.Tag, reason.Text)
		case release.OlderBranch, release.NotConfirmed:
			r.Doubts = append(r.Doubts, reason.Text)
		}
	}
	return nil
}
