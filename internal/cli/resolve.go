package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dalirun/dalirun/internal/container"
	"github.com/dalirun/dalirun/internal/host"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/release"
	"github.com/dalirun/dalirun/internal/report"
	"github.com/dalirun/dalirun/pipeline"
	"github.com/dalirun/dalirun/steps"
	"github.com/dalirun/dalirun/triton"
)

// check finds what is wrong with the wishes by themselves, before anything is asked of the machine.
func (w *wishes) check() error {
	if err := w.resolve(); err != nil {
		return err
	}
	if w.optBatch.value > w.maxBatch.value {
		return usagef(fmt.Sprintf("use --opt-batch %d", w.maxBatch.value), "%s is larger than %s",
			w.written("opt-batch", w.optBatch.String()), w.written("max-batch", w.maxBatch.String()))
	}
	if w.requireGPU && w.accel.value == string(steps.CPU) {
		return usagef("drop one of them", "%s and %s exclude each other", w.written("require-gpu", "true"), w.written("accel", w.accel.value))
	}
	if w.accel.value == string(steps.GPU) && w.images.value == string(steps.Local) {
		return usagef("use --images ngc, or --accel cpu", "%s is not offered on the gpu lane: PyPI has no TensorRT backend for tritonserver",
			w.written("images", w.images.value))
	}
	if err := w.checkUnused(); err != nil {
		return err
	}
	if w.readyTimeout <= 0 {
		return usagef(longerThanNothing, "%s is out of range", w.written("ready-timeout", w.readyTimeout.String()))
	}
	if w.release != "" {
		if _, err := release.Find(w.release); err != nil {
			known := release.All()
			return usagef("the known ones are from "+known[0].Tag+" to "+known[len(known)-1].Tag, "%s: %w", w.origin("release"), err)
		}
	}
	if err := w.checkReferences(); err != nil {
		return err
	}
	if err := w.distinctPorts(); err != nil {
		return err
	}
	if _, _, err := w.weightsSource(); err != nil {
		return err
	}
	known := stepIDs()
	for _, id := range w.force {
		if id != "all" && !slices.Contains(known, id) {
			return usagef(strings.TrimPrefix(nearest(id, known)+"; ", "; ")+"the steps are "+strings.Join(known, ", ")+", and all", "%s: there is no step %q", w.origin("force"), id)
		}
	}
	return nil
}

// checkUnused refuses flags that exclude what was asked for as near as they were.
func (w *wishes) checkUnused() error {
	s := w.situation("", "")
	if w.accel.value != "auto" {
		s.lane = steps.Lane(w.accel.value)
	}
	if s.lane == steps.CPU { // those of the gpu lane are its release's too
		s.steps = w.stepsOf(steps.Options{Lane: steps.CPU})
	}
	if w.images.value != "auto" {
		s.source = steps.Source(w.images.value)
	}
	_, err := s.unused()
	return err
}

// distinctPorts refuses one port for two things.
func (w *wishes) distinctPorts() error {
	flags := map[int]string{}
	for _, p := range []struct {
		flag string
		port *number
	}{{"http-port", w.http}, {"grpc-port", w.grpc}, {"metrics-port", w.metrics}} {
		if other, twice := flags[p.port.value]; twice && p.port.value != 0 {
			return usagef("name another port, or none", "%s and %s are both %d", w.origin(other), w.origin(p.flag), p.port.value)
		}
		flags[p.port.value] = p.flag
	}
	return nil
}

func stepIDs() []string {
	return []string{
		string(steps.IDWeights), string(steps.IDExportONNX), string(steps.IDCastONNX), string(steps.IDBuildEngine), string(steps.IDSerializeDALI),
		string(steps.IDAssembleRepository), string(steps.IDReference),
	}
}

func (w *wishes) forced() map[pipeline.ID]bool {
	forced := map[pipeline.ID]bool{}
	for _, id := range w.force {
		if id == "all" {
			for _, id := range stepIDs() {
				forced[pipeline.ID(id)] = true
			}
			continue
		}
		forced[pipeline.ID(id)] = true
	}
	return forced
}

// weightsSource reads --weights. For "auto" it returns the seeded ones to fall back to.
func (w *wishes) weightsSource() (source steps.WeightsSource, auto bool, err error) {
	kind, seed, seeded := strings.Cut(w.weights, ":")
	switch {
	case w.weights == "pretrained":
		return steps.TorchvisionWeights(), false, nil
	case w.weights == "auto":
		return steps.WeightsSource{Kind: steps.Random}, true, nil
	case kind == "random" && seeded:
		n, err := strconv.ParseUint(seed, 10, 32) // what NumPy's and PyTorch's generators take
		if err != nil {
			return source, false, usagef("as in random:0", "%s: %q is not a seed, a whole number from 0 to 4294967295", w.origin("weights"), seed)
		}
		return steps.WeightsSource{Kind: steps.Random, Seed: int64(n)}, false, nil
	}
	const name = "name a PyTorch state dict of ResNet50, or use --weights pretrained"
	path, err := filepath.Abs(w.weights)
	if err != nil {
		return source, false, usagef("", "%s: %w", w.origin("weights"), err)
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a file")
	}
	if err == nil {
		err = steps.CheckCheckpoint(path)
	}
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(w.weights, "./") {
		return source, false, usagef(cmp.Or(nearest(w.weights, []string{"pretrained", "auto", "random:0"}), name),
			"%s: %q is none of pretrained, auto, random:SEED or a file", w.origin("weights"), w.weights)
	}
	if err != nil {
		return source, false, fmt.Errorf("%s: %w", w.written("weights", printable.Name(w.weights)), fileFault(err, name))
	}
	return steps.WeightsSource{Kind: steps.File, Path: path}, false, nil
}

// resolved is what "auto" came to, and what a user should know of it.
type resolved struct {
	steps.Options
	LaneReason string
	Doubts     []string // what may go wrong, and stops nothing
	looked     looked   // with NGC
	unserved   error    // why what it makes cannot be served from here
}

// facts are those that are stamped on every result.
func (r resolved) facts() map[string]string {
	facts := map[string]string{
		report.FactLane: string(r.Lane), report.FactReason: r.LaneReason, report.FactImages: string(r.Images),
		report.FactWeights: weightsName(r.Weights), report.FactPrecision: string(r.Precision),
	}
	if r.Images == steps.NGC && r.Release.Tag != "" { // images of any name need not say theirs
		facts[report.FactRelease] = r.Release.Tag
	}
	if r.ExporterRef != "" {
		facts["exporter_image"] = r.ExporterRef
	}
	if r.ServerRef != "" {
		facts["server_image"] = r.ServerRef
	}
	return facts
}

func weightsName(s steps.WeightsSource) string {
	switch s.Kind {
	case steps.Random:
		return fmt.Sprintf("random:%d", s.Seed)
	case steps.File:
		return s.Path
	default:
		return "pretrained IMAGENET1K_V2"
	}
}

// asked are the options that wishes say by themselves.
func (a *App) asked(w *wishes, info container.Info) resolved {
	return resolved{Options: steps.Options{
		Registry: w.registry, ExporterRef: w.exporterImage, ServerRef: w.serverImage, BaseImage: w.baseImage, BuildNet: w.buildNetwork, BuildArgs: a.buildArgs(), CABundle: a.caBundle(),
		Picture: w.verify, Precision: release.Precision(w.precision.value), MaxBatch: w.maxBatch.value, GPUs: w.gpus.value,
		HTTP: port(w.http, triton.PortHTTP), GRPC: port(w.grpc, triton.PortGRPC), Metrics: port(w.metrics, triton.PortMetrics), ReadyTimeout: w.readyTimeout,
		NoNVML: !info.Remote && host.OnWSL(os.DirFS("/proc")),
	}}
}

// resolveRun turns wishes into options, by what the machine has.
func (a *App) resolveRun(ctx context.Context, w *wishes, runtime container.Runtime, memo steps.KV, info container.Info) (resolved, error) {
	on := a.here()
	on.containers = runtime
	l, err := a.settleLane(ctx, w, info, on)
	if err != nil {
		return l.resolved, err
	}
	for _, r := range l.refused {
		return l.resolved, r.err
	}
	r, err := l.settleImages(ctx, w, runtime, memo, info)
	if err == nil && r.Images == steps.NGC {
		err = r.checkRoom(info)
	}
	return r, err
}

// settleImages finds the images of the lane, and refuses those that a run could not use. Whether there is room for them is left out.
func (l laned) settleImages(ctx context.Context, w *wishes, runtime container.Runtime, memo steps.KV, info container.Info) (resolved, error) {
	r := l.resolved
	r.Doubts = slices.Clone(r.Doubts)
	if r.Lane == steps.CPU {
		r.Precision = release.FP32 // ONNX Runtime computes what is in the ONNX model
	}
	if r.Images == steps.NGC {
		err := settleNGC(ctx, w, runtime, memo, info, l.host, &r)
		r.OptBatch = optBatch(w, r.Release) // which a server image may say
		r.doubtUnused(w)
		return r, err
	}
	r.OptBatch = optBatch(w, r.Release)
	r.doubtUnused(w)
	var err error
	r.BaseImage, err = pickBase(ctx, runtime, w.baseImage)
	return r, err
}

// doubtUnused warns of flags that the run has no use for.
func (r *resolved) doubtUnused(w *wishes) {
	warnings, _ := w.situation(r.Lane, r.Images).of(w.stepsOf(r.Options)).unused() // what must not be dropped was refused with the lane
	r.Doubts = append(r.Doubts, warnings...)
}

// imageSource is the one that was asked for, or the usual one of a lane.
func imageSource(w *wishes, lane steps.Lane) steps.Source {
	if w.images.value == "auto" {
		return map[steps.Lane]steps.Source{steps.GPU: steps.NGC, steps.CPU: steps.Local}[lane]
	}
	return steps.Source(w.images.value)
}

// optBatch is the batch size that was asked for, or the usual one of the release that is taken.
func optBatch(w *wishes, taken release.Release) int {
	switch {
	case w.optBatch.value != 0:
		return w.optBatch.value
	case taken.Tag == tutorialRelease:
		return 1
	default:
		return min(usualOptBatch, w.maxBatch.value)
	}
}

const (
	// tutorialRelease is the release of the tutorial that dalirun replaces; its engine is tuned for single pictures.
	tutorialRelease = "21.07"
	// usualOptBatch is where an H100 reaches four fifths of its throughput (28,553 of 36,082 images/s, trtexec 10.6).
	usualOptBatch = 64
)

// pickBase takes the base image that was asked for, else the usual one unless only the one made from packages is here.
func pickBase(ctx context.Context, runtime container.Runtime, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	for _, ref := range []string{baseImage, steps.MadeBaseImage} {
		_, err := runtime.Resolve(ctx, ref)
		if err == nil || !errors.Is(err, container.ErrNotFound) {
			return ref, err
		}
	}
	return baseImage, nil
}
